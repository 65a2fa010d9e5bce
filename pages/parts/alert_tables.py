"""The tables of alerts that are over, and of what was sent to the webhook. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime

from charts.texts import age
from control.monitor.alerts import Alert
from control.monitor.delivery import GIVE_UP_AFTER_MS, Delivery


def past_alert_rows(alerts: Sequence[Alert]) -> list[dict[str, str]]:
    """Return the table of alerts that are over."""
    return [
        {
            "Raised, UTC": _utc(one.raised_ms),
            "Lasted": age((one.cleared_ms or one.raised_ms) - one.raised_ms),
            "Severity": one.severity,
            "Alert": one.sentence,
            "Cleared because": one.cleared_because or "all is well again",
            "Seen by": one.acknowledged_by or "",
        }
        for one in alerts
    ]


def delivery_rows(deliveries: Sequence[Delivery], now_ms: int) -> list[dict[str, str]]:
    """Return the table of deliveries."""
    return [
        {
            "Since, UTC": _utc(one.created_ms),
            "What": one.event if one.alert is None else f"alert {one.alert} {one.event}",
            "How it went": _how(one, now_ms),
            "Attempts": str(one.attempts),
        }
        for one in deliveries
    ]


def _how(one: Delivery, now_ms: int) -> str:
    if one.delivered_ms is not None:
        return f"arrived after {age(one.delivered_ms - one.created_ms)}"
    why = f": {one.problem}" if one.problem else ""
    if now_ms - one.created_ms >= GIVE_UP_AFTER_MS:
        return f"given up{why}"
    return f"tried again in {age(one.next_ms - now_ms)}{why}" if one.attempts else "waits for the controller"


def _utc(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S")
