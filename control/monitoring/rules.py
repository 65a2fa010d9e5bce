"""The alert rules: one for each kind of alert, stored in the control database.

alert_rules   trouble, rule (JSON): only rules that a user has changed; DEFAULTS holds all others
"""

from collections.abc import Mapping
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from barmill.audit.actions import action
from barmill.audit.roles import Actor, Permission
from barmill.platform.sqlite_file import Database, Migrations

rule_migrations = Migrations("alert_rules")
# Restarts are counted over this period.
RESTART_WINDOW_MS = 600_000


@rule_migrations()
def create(db: Database) -> None:
    """Create the first version of the table."""
    db.table("alert_rules").create({"trouble": str, "rule": str}, pk="trouble", not_null={"rule"}, strict=True)


class Severity(StrEnum):
    """The urgency of an alert."""

    CRITICAL = "critical"
    WARNING = "warning"


class AlertKind(StrEnum):
    """The kinds of alerts."""

    NO_DATA = "no_data"
    NO_CHECKPOINT = "no_checkpoint"
    JOB_STATE = "job_state"
    JOB_RESTARTS = "job_restarts"
    REJECTS = "rejects"
    DISK_LOW = "disk_low"
    PROCESS_DOWN = "process_down"
    PROCESS_RESTARTS = "process_restarts"
    KEY_EXPIRES = "key_expires"
    KAFKA_AWAY = "kafka_away"
    FEED_DOWN = "feed_down"
    FEED_GAPS = "feed_gaps"
    DAMAGE = "damage"

    @property
    def label(self) -> str:
        """Return a short title."""
        return _LABELS_AND_UNITS[self][0]

    @property
    def unit(self) -> str:
        """Return the unit of the threshold."""
        return _LABELS_AND_UNITS[self][1]


_LABELS_AND_UNITS = {
    AlertKind.NO_DATA: ("No new ticks", "seconds without a tick"),
    AlertKind.NO_CHECKPOINT: ("No checkpoint", "minutes since the last one"),
    AlertKind.JOB_STATE: ("A job is not in its desired state", "seconds"),
    AlertKind.JOB_RESTARTS: ("A job keeps restarting", "restarts within 10 minutes"),
    AlertKind.REJECTS: ("Many rejects", "rows per second, over a minute"),
    AlertKind.DISK_LOW: ("The disk is filling up", "GB of free space"),
    AlertKind.PROCESS_DOWN: ("A process is down", "seconds"),
    AlertKind.PROCESS_RESTARTS: ("A process keeps restarting", "restarts within 10 minutes"),
    AlertKind.KEY_EXPIRES: ("A key is about to expire", "days before it expires"),
    AlertKind.KAFKA_AWAY: ("Kafka does not accept ticks", "seconds"),
    AlertKind.FEED_DOWN: ("A feed needs attention", "seconds"),
    AlertKind.FEED_GAPS: ("Rows of a feed may be missing", "seconds"),
    AlertKind.DAMAGE: ("Stored data is damaged", "seconds"),
}


class Rule(BaseModel):
    """The condition for alerts of one kind; the unit of the threshold is the kind's `unit`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = True
    severity: Severity = Severity.WARNING
    threshold: float = Field(gt=0, le=1e9, allow_inf_nan=False)


Rules = Mapping[AlertKind, Rule]

DEFAULTS: Rules = {
    AlertKind.NO_DATA: Rule(threshold=30, severity=Severity.CRITICAL),
    AlertKind.NO_CHECKPOINT: Rule(threshold=5),
    AlertKind.JOB_STATE: Rule(threshold=60, severity=Severity.CRITICAL),
    AlertKind.JOB_RESTARTS: Rule(threshold=3),
    AlertKind.REJECTS: Rule(threshold=5),
    AlertKind.DISK_LOW: Rule(threshold=2, severity=Severity.CRITICAL),
    AlertKind.PROCESS_DOWN: Rule(threshold=20, severity=Severity.CRITICAL),
    AlertKind.PROCESS_RESTARTS: Rule(threshold=3),
    AlertKind.KEY_EXPIRES: Rule(threshold=14),
    AlertKind.KAFKA_AWAY: Rule(threshold=30, severity=Severity.CRITICAL),
    AlertKind.FEED_DOWN: Rule(threshold=30),
    AlertKind.FEED_GAPS: Rule(threshold=1),
    AlertKind.DAMAGE: Rule(threshold=1, severity=Severity.CRITICAL),
}


def rules(db: Database) -> Rules:
    """Return all current rules."""
    stored = {
        AlertKind(kind): Rule.model_validate_json(rule)
        for kind, rule in db.conn.execute("SELECT trouble, rule FROM alert_rules")
        if kind in set(AlertKind)  # another version may have more
    }
    return {**DEFAULTS, **stored}


def set_rules(db: Database, actor: Actor, changed: Rules) -> None:
    """Change rules, each in a separate audited action; skip those that do not change."""
    for kind, rule in changed.items():
        if rules(db)[kind] == rule:
            continue
        with action(db, actor, "alert.rule", kind.value, needs=Permission.MANAGE_ALERTS) as change:
            change.before = rules(db)[kind].model_dump(mode="json")
            change.after = rule.model_dump(mode="json")
            query = "INSERT OR REPLACE INTO alert_rules (trouble, rule) VALUES (?, ?)"
            db.conn.execute(query, (kind.value, rule.model_dump_json()))
