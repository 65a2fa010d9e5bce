"""/metrics, read back with Prometheus' own parser."""

import asyncio
import time
from collections.abc import Mapping

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from starlette.applications import Starlette

from barmill.platform.home import Home
from control.monitoring.alerts import open_alert_db, store_changes
from control.monitoring.history import History
from control.monitoring.judge import Finding
from control.monitoring.metrics import TOKEN_VARIABLE, Kind, Metric, Reading, Subject
from control.monitoring.prometheus import metrics_route, metrics_text
from control.monitoring.rules import DEFAULTS, AlertKind
from tests.support.readings import APP, BARS, DISK, FOLD, MARKET

QUOTED = Subject(Kind.OPERATOR, 'bars/map "a\\b" -> x/y')
READINGS = [
    Reading(MARKET, Metric.TICKS_ACCEPTED, 1_234),
    Reading(MARKET, Metric.TICKS_ACCEPTED_PER_S, 120.5),
    Reading(BARS, Metric.WATERMARK_LAG_S, 0.25),
    Reading(BARS, Metric.RESTARTS, 2),
    Reading(FOLD, Metric.BUSY_RATIO, 0.5),
    Reading(FOLD, Metric.RECORDS_IN_PER_S, 20),
    Reading(QUOTED, Metric.BUSY_RATIO, 0.75),
    Reading(APP, Metric.CPU_SECONDS, 12.5),
    Reading(DISK, Metric.FREE_BYTES, 5e10),
]
EXPECTED = {
    ("barmill_source_ticks_accepted_total", ("market",)): 1_234,
    ("barmill_job_watermark_lag_seconds", ("bars",)): 0.25,
    ("barmill_job_restarts_total", ("bars",)): 2,
    ("barmill_operator_busy_ratio", ("bars", "poll and fold")): 0.5,
    ("barmill_operator_records_in_per_second", ("bars", "poll and fold")): 20,
    ("barmill_operator_busy_ratio", ("bars", 'map "a\\b" -> x/y')): 0.75,
    ("barmill_process_cpu_seconds_total", ("app",)): 12.5,
    ("barmill_disk_free_bytes", ()): 5e10,
}


def measure(home: Home, *readings: Reading, ago_ms: int = 0) -> None:
    history = History.open(home)
    history.write(time.time_ns() // 1_000_000 - ago_ms, readings)
    history.close()


def samples(text: str) -> list[Sample]:
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def values(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    """Return each value by its name and its labels, these by their names."""
    return {
        (sample.name, tuple(sample.labels[label] for label in sorted(sample.labels))): sample.value
        for sample in samples(text)
    }


def ask(
    home: Home,
    authorization: str | None = None,
    method: str = "GET",
    client: str = "127.0.0.1",
    passed_on: Mapping[str, str] | None = None,
) -> httpx.Response:
    async def answer() -> httpx.Response:
        transport = httpx.ASGITransport(Starlette(routes=[metrics_route(home)]), client=(client, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as asking:
            headers = dict(passed_on or {}) | ({} if authorization is None else {"Authorization": authorization})
            return await asking.request(method, "/metrics", headers=headers)

    return asyncio.run(answer())


def test_every_reading_of_now_is_there_under_its_name_and_labels(home: Home) -> None:
    measure(home, *READINGS)
    found = values(metrics_text(home).decode())
    at_s = found.pop(("barmill_measured_timestamp_seconds", ()))
    assert time.time() - 10 < at_s <= time.time()
    assert found == EXPECTED


def test_labels_have_the_names_that_prometheus_leaves_to_us(home: Home) -> None:
    measure(home, *READINGS)
    labels = {label for sample in samples(metrics_text(home).decode()) for label in sample.labels}
    assert labels == {"source", "job_name", "operator", "process"}


def test_every_metric_can_be_exported(home: Home) -> None:
    measure(home, *(Reading(Subject(metric.kind, "a/b"), metric, 1) for metric in Metric))
    names = {sample.name for sample in samples(metrics_text(home).decode())}
    exported = {metric for metric in Metric if not metric.text.endswith("_per_s") or metric.kind is Kind.OPERATOR}
    assert len(names) == len(exported - {Metric.CPU_CORES}) + 1
    assert not any(name.endswith("_s") for name in names)


def test_what_is_no_longer_measured_is_not_exported(home: Home) -> None:
    measure(home, *READINGS, ago_ms=60_000)
    assert [sample.name for sample in samples(metrics_text(home).decode())] == ["barmill_measured_timestamp_seconds"]


def test_a_home_where_nothing_was_measured_has_nothing(home: Home) -> None:
    assert samples(metrics_text(home).decode()) == []
    home.monitor_db.touch()
    assert samples(metrics_text(home).decode()) == []


def test_open_alerts_are_exported(home: Home) -> None:
    db = open_alert_db(home)
    store_changes(db, 1, DEFAULTS, [Finding(AlertKind.DISK_LOW, "disk", True, "Full.")], [], deliver=False)
    db.conn.close()
    assert values(metrics_text(home).decode()) == {("barmill_alert_open", ("critical", "disk", "disk_low")): 1}


def test_the_route_answers_in_prometheus_format(home: Home) -> None:
    measure(home, *READINGS)
    answer = ask(home)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    assert EXPECTED.items() <= values(answer.text).items()
    assert ask(home, method="POST").status_code == 405


@pytest.mark.parametrize(
    ("sent", "status"),
    [(None, 401), ("", 401), ("Bearer wrong", 401), ("open-sesame", 401), ("Bearer open-sesame", 200)],
)
def test_where_a_token_is_set_only_those_who_send_it_are_answered(
    home: Home, monkeypatch: pytest.MonkeyPatch, sent: str | None, status: int
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "open-sesame")
    measure(home, *READINGS)
    answer = ask(home, sent)
    assert answer.status_code == status
    assert ("barmill_" in answer.text) == (status == 200)
    assert ("WWW-Authenticate" in answer.headers) == (status == 401)


@pytest.mark.parametrize(
    ("client", "status"), [("127.0.0.1", 200), ("::1", 200), ("10.0.0.7", 403), ("testclient", 403)]
)
def test_without_a_token_only_this_machine_is_answered(home: Home, client: str, status: int) -> None:
    measure(home, *READINGS)
    answer = ask(home, client=client)
    assert answer.status_code == status
    assert (TOKEN_VARIABLE in answer.text) == (status == 403)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "127.0.0.1"),
        ("Forwarded", "for=127.0.0.1"),
        ("Via", "1.1 proxy"),
        ("X-Real-IP", "127.0.0.1"),
        ("Host", "barmill.example.com"),
    ],
)
def test_what_came_through_a_proxy_needs_the_token(
    home: Home, monkeypatch: pytest.MonkeyPatch, header: str, value: str
) -> None:
    assert ask(home, passed_on={header: value}).status_code == 403
    monkeypatch.setenv(TOKEN_VARIABLE, "open-sesame")
    assert ask(home, passed_on={header: value}).status_code == 401
    assert ask(home, "Bearer open-sesame", passed_on={header: value}).status_code == 200


def test_with_a_token_other_machines_are_answered_too(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "open-sesame")
    assert ask(home, "Bearer open-sesame", client="10.0.0.7").status_code == 200
    assert ask(home, client="127.0.0.1").status_code == 401
