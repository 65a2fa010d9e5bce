"""The newest readings in Prometheus text format, for the app's route /metrics, without prices and secrets.

Counters are exported as counters; Prometheus derives the rates. The name of a reading starts with `barmill_` and
the kind of its subject. The label of a job is job_name, because Prometheus reserves `job`.
"""

import hmac
import os
from collections.abc import Iterator
from ipaddress import ip_address

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from barmill.platform.clock import now_ms
from barmill.platform.home import Home
from barmill.platform.sqlite_file import if_ready
from control.monitoring.alerts import open_alerts
from control.monitoring.history import History
from control.monitoring.metrics import COUNTERS, RATES, TOKEN_VARIABLE, Kind, Metric, Reading, Subject

_NEEDS_TOKEN = f"Send the value of {TOKEN_VARIABLE} as a bearer token.\n"
_NEEDS_LOCAL = (
    f"Requests from other machines or through a proxy need a token; start Barmill with one in {TOKEN_VARIABLE}.\n"
)
# Headers that proxies add. Any of them proves that the request was forwarded, whatever address it claims.
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
    """Return the metrics route, which responds to requests with the token from the environment.

    Without a token in the environment, it responds only to local programs, and to no request that a proxy forwarded.
    """
    token = os.environ.get(TOKEN_VARIABLE, "")

    def respond(request: Request) -> Response:
        authorization = request.headers.get("Authorization", "")
        if token and not hmac.compare_digest(authorization.encode(), f"Bearer {token}".encode()):
            return PlainTextResponse(_NEEDS_TOKEN, 401, {"WWW-Authenticate": "Bearer"})
        if not token and not _is_local(request):
            return PlainTextResponse(_NEEDS_LOCAL, 403)
        return Response(metrics_text(home), headers={"Content-Type": CONTENT_TYPE_LATEST, "Cache-Control": "no-store"})

    return Route(path, respond, methods=["GET"])


def _is_local(request: Request) -> bool:
    is_forwarded = any(name in _PROXY_HEADERS or name.startswith(_PROXY_PREFIX) for name in request.headers)
    try:
        if is_forwarded or request.url.hostname not in _LOOPBACK_NAMES:  # a proxy may forward only the Host header
            return False
        return request.client is not None and ip_address(request.client.host).is_loopback
    except ValueError:  # a host name or a socket path, not an address
        return False


class _Readings(Collector):
    """The collector, which reads the history at each request and keeps no state."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def collect(self) -> Iterator[Family]:
        """Yield every metric family with a current reading (no rates), the time of measurement and the open alerts."""
        readings, measured_ms = self._read()
        families: dict[Metric, Family] = {}
        for reading in readings:
            if reading.metric not in RATES.values():
                family = families.setdefault(reading.metric, _family(reading.metric))
                family.add_metric(_labels(reading.subject), reading.value)
        yield from families.values()
        if measured_ms is not None:
            help_text = "When the controller measured last, in seconds since 1970"
            yield GaugeMetricFamily("barmill_measured_timestamp_seconds", help_text, measured_ms / 1_000)
        alerts = GaugeMetricFamily(
            "barmill_alert_open", "Number of open alerts", labels=("trouble", "subject", "severity")
        )
        for alert in open_alerts(self._home):
            alerts.add_metric((alert.trouble, alert.subject, alert.severity), 1)
        yield alerts

    def _read(self) -> tuple[list[Reading], int | None]:
        with if_ready(), History.read_only(self._home) as history:
            return history.latest(now_ms()), history.newest_ms()
        return [], None


def _family(metric: Metric) -> Family:
    units = {"_per_s": "_per_second", "_s": "_seconds"}
    suffix_found = next((suffix for suffix in units if metric.text.endswith(suffix)), "")
    name = f"barmill_{metric.kind}_{metric.text.removesuffix(suffix_found)}{units.get(suffix_found, '')}"
    labels = _LABELS[metric.kind]
    if metric in COUNTERS:
        return CounterMetricFamily(name, metric.help_text, labels=labels)
    return GaugeMetricFamily(name, metric.help_text, labels=labels)


def _labels(subject: Subject) -> tuple[str, ...]:
    names = _LABELS[subject.kind]
    return tuple(subject.name.split("/", len(names) - 1)) if names else ()
