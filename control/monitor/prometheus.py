"""The newest readings in Prometheus' text format, for the route /metrics beside the app. No prices, no secrets.

What is counted is exported as a counter; the rates made of it are left to Prometheus. All names begin with `barmill_`
and the kind of thing that was measured. A job is labelled job_name, because Prometheus keeps `job` for itself.
"""

import hmac
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from ipaddress import ip_address

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from bar.clock import now_ms
from bar.sqlite_file import StoreMissingError
from control.home import Home
from control.monitor.alerts import open_alerts
from control.monitor.history import History
from control.monitor.metrics import COUNTERS, RATES, TOKEN_VARIABLE, Kind, Metric, Reading, Subject

_NEEDS_TOKEN = f"Send what {TOKEN_VARIABLE} holds as a bearer token.\n"
_NEEDS_LOCAL = (
    f"From other machines or through a proxy, metrics need a token: start Barmill with one in {TOKEN_VARIABLE}.\n"
)
# What proxies add. Any of them tells that the request was passed on, whatever address it claims.
_PROXY_HEADERS = ("forwarded", "via", "x-real-ip")
_PROXY_PREFIX = "x-forwarded-"
_LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")

Family = CounterMetricFamily | GaugeMetricFamily
_LABELS: dict[Kind, tuple[str, ...]] = {
    Kind.SOURCE: ("source",),
    Kind.JOB: ("job_name",),
    Kind.OPERATOR: ("job_name", "operator"),
    Kind.CLUSTER: (),
    Kind.TASKMANAGER: ("taskmanager",),
    Kind.PROCESS: ("process",),
    Kind.DISK: (),
}


def metrics_text(home: Home) -> bytes:
    """Return the newest readings and the open alerts of a home."""
    registry = CollectorRegistry()
    registry.register(_Readings(home))
    return generate_latest(registry)


def metrics_route(home: Home, path: str = "/metrics") -> Route:
    """Return the route that answers with them: to those who send the token that the environment names.

    Where it names none, only programs on this machine are answered, and nothing that came through a proxy.
    """
    token = os.environ.get(TOKEN_VARIABLE, "")

    def answer(request: Request) -> Response:
        sent = request.headers.get("Authorization", "")
        if token and not hmac.compare_digest(sent.encode(), f"Bearer {token}".encode()):
            return PlainTextResponse(_NEEDS_TOKEN, 401, {"WWW-Authenticate": "Bearer"})
        if not token and not _is_local(request):
            return PlainTextResponse(_NEEDS_LOCAL, 403)
        return Response(metrics_text(home), headers={"Content-Type": CONTENT_TYPE_LATEST, "Cache-Control": "no-store"})

    return Route(path, answer, methods=["GET"])


def _is_local(request: Request) -> bool:
    passed_on = any(name in _PROXY_HEADERS or name.startswith(_PROXY_PREFIX) for name in request.headers)
    try:
        if passed_on or request.url.hostname not in _LOOPBACK_NAMES:  # a proxy may pass on nothing but the Host
            return False
        return request.client is not None and ip_address(request.client.host).is_loopback
    except ValueError:  # a name or a socket's path, not an address
        return False


class _Readings(Collector):
    """Reads the history when asked, so that nothing is kept between two questions."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def collect(self) -> Iterator[Family]:
        """Yield every family that has a reading now."""
        readings, measured_ms = self._read()
        families: dict[Metric, Family] = {}
        for one in readings:
            if one.metric not in RATES.values():
                family = families.setdefault(one.metric, _family(one.metric))
                family.add_metric(_labels(one.subject), one.value)
        yield from families.values()
        if measured_ms is not None:
            says = "When the controller measured last, in seconds since 1970"
            yield GaugeMetricFamily("barmill_measured_timestamp_seconds", says, measured_ms / 1_000)
        alerts = GaugeMetricFamily(
            "barmill_alert_open", "Alerts that are open", labels=("trouble", "subject", "severity")
        )
        for alert in open_alerts(self._home):
            alerts.add_metric((alert.trouble, alert.subject, alert.severity), 1)
        yield alerts

    def _read(self) -> tuple[list[Reading], int | None]:
        try:
            with closing(History.read_only(self._home)) as history:
                return history.latest(now_ms()), history.newest_ms()
        except (StoreMissingError, sqlite3.OperationalError):  # nothing was ever measured
            return [], None


def _family(metric: Metric) -> Family:
    unit = {"_per_s": "_per_second", "_s": "_seconds"}
    short = next((suffix for suffix in unit if metric.text.endswith(suffix)), "")
    name = f"barmill_{metric.kind}_{metric.text.removesuffix(short)}{unit.get(short, '')}"
    labels = _LABELS[metric.kind]
    if metric in COUNTERS:
        return CounterMetricFamily(name, metric.says, labels=labels)
    return GaugeMetricFamily(name, metric.says, labels=labels)


def _labels(subject: Subject) -> tuple[str, ...]:
    names = _LABELS[subject.kind]
    return tuple(subject.name.split("/", len(names) - 1)) if names else ()
