"""Delivery of alerts to a real HTTP server that fails first, hangs, or outlives the controller."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from barmill.audit.roles import Actor
from barmill.platform.clock import wait_until
from barmill.platform.home import REPO_ROOT, Home
from barmill.platform.ports import LOOPBACK, free_ports
from barmill.platform.sqlite_file import Database
from barmill.platform.tls import TlsFiles
from barmill.storage.tick_log import TickLog
from control.flink.rest import FlinkRest
from control.monitoring import sender
from control.monitoring.alerts import open_alert_db, open_alerts, store_changes
from control.monitoring.delivery import (
    FIRST_DELAY_MS,
    GIVE_UP_AFTER_MS,
    MAX_DELAY_MS,
    Delivery,
    last_deliveries,
    queue_test,
    set_webhook,
)
from control.monitoring.judge import Finding
from control.monitoring.rules import DEFAULTS, AlertKind, Rule, set_rules
from control.monitoring.sender import DeliverySender
from control.monitoring.watch import background_monitoring
from tests.support.readings import NOW_MS
from tests.support.receiver import TOKEN, Receiver, receiving

TIMEOUT_S = 30
ADMIN = Actor("admin")
NO_DATA = Finding(AlertKind.NO_DATA, "source:market", True, "No new ticks.")


@dataclass
class Clock:
    """A clock that only a test moves."""

    now_ms: int = NOW_MS

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def db(home: Home, receiver: Receiver) -> Iterator[Database]:
    opened = open_alert_db(home)
    set_webhook(home, opened, ADMIN, receiver.url)
    yield opened
    opened.conn.close()


@pytest.fixture
def courier(home: Home, db: Database, clock: Clock) -> DeliverySender:
    return DeliverySender(home, db, clock)


def raise_alert(db: Database, *findings: Finding, at_ms: int = NOW_MS) -> None:
    store_changes(db, at_ms, DEFAULTS, findings or (NO_DATA,), [], deliver=True)


def clear_alert(db: Database, at_ms: int = NOW_MS) -> None:
    store_changes(db, at_ms, DEFAULTS, [], [(NO_DATA.alert_kind, NO_DATA.subject)], deliver=True)


def newest(home: Home) -> Delivery:
    return last_deliveries(home, 1)[0]


def test_what_is_raised_and_cleared_arrives_as_json(
    db: Database, courier: DeliverySender, receiver: Receiver, clock: Clock
) -> None:
    raise_alert(db)
    courier.step()
    clock.now_ms += 60_000
    clear_alert(db, clock.now_ms)
    courier.step()
    first, second = receiver.bodies
    alert = {
        "id": 1,
        "trouble": "no_data",
        "subject": "source:market",
        "severity": "critical",
        "sentence": "No new ticks.",
        "raised_ms": NOW_MS,
        "cleared_ms": None,
        "cleared_because": "",
    }
    text = "Barmill, critical: No new ticks."
    assert first == {"id": first["id"], "event": "raised", "from": "barmill", "text": text, "alert": alert}
    assert (second["event"], second["text"]) == ("cleared", "Barmill, cleared: No new ticks.")
    assert second["alert"] == alert | {"cleared_ms": NOW_MS + 60_000}
    assert receiver.headers == receiver.ids
    courier.step()
    assert len(receiver.bodies) == 2


def test_an_answer_without_end_costs_neither_memory_nor_time(
    home: Home, db: Database, courier: DeliverySender, receiver: Receiver
) -> None:
    receiver.endless = True
    raise_alert(db)
    courier.step()
    assert newest(home).delivered_ms == NOW_MS
    assert wait_until(receiver.release.is_set, TIMEOUT_S)  # the connection was closed
    assert receiver.sent_bytes < 64 * 2**20  # what lies in the buffers of sockets, and not gigabytes


def test_an_answer_that_comes_byte_by_byte_is_given_up(
    home: Home, db: Database, courier: DeliverySender, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "_POST_TIMEOUT_S", 0.5)
    receiver.slow = True
    raise_alert(db)
    courier.step()
    assert newest(home).problem == "it did not respond in time"


def test_a_name_that_is_looked_up_without_end_is_given_up(
    home: Home, db: Database, courier: DeliverySender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "_POST_TIMEOUT_S", 0.5)
    given_up, ended = threading.Event(), threading.Event()

    def look_up(*_: object, **__: object) -> list[object]:
        given_up.wait(TIMEOUT_S)
        ended.set()
        raise socket.gaierror(socket.EAI_AGAIN, "No name server answers.")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    set_webhook(home, db, ADMIN, "https://webhook.example.com/token")
    raise_alert(db)
    courier.step()
    assert newest(home).problem == "it did not respond in time"
    assert not ended.is_set()
    given_up.set()
    assert ended.wait(TIMEOUT_S)


def test_it_fails_first_waits_longer_and_longer_and_arrives_after_a_restart(
    home: Home, db: Database, courier: DeliverySender, receiver: Receiver, clock: Clock
) -> None:
    receiver.answers = [500, 302, 404]
    raise_alert(db)
    courier.step()
    courier.step()  # it is not time yet
    assert len(receiver.bodies) == 1
    assert (newest(home).attempts, newest(home).problem) == (1, "it responded with HTTP 500")
    clock.now_ms += FIRST_DELAY_MS
    courier.step()
    assert newest(home).problem == "it responded with HTTP 302"  # and the redirect was not followed

    again = open_alert_db(home)  # the controller was restarted
    courier = DeliverySender(home, again, clock)
    clock.now_ms += FIRST_DELAY_MS
    courier.step()  # it is still not time
    assert len(receiver.bodies) == 2
    clock.now_ms += FIRST_DELAY_MS
    courier.step()
    clock.now_ms += MAX_DELAY_MS
    courier.step()
    assert (newest(home).attempts, newest(home).problem, newest(home).delivered_ms) == (4, None, clock.now_ms)
    assert len(set(receiver.ids)) == 1
    assert len(receiver.bodies) == 4
    again.conn.close()


def test_a_controller_killed_in_the_middle_of_a_post_tries_again_under_the_same_id(
    home: Home, db: Database, courier: DeliverySender, receiver: Receiver, clock: Clock
) -> None:
    receiver.answers = [0]
    raise_alert(db)
    program = (
        "import sys; from pathlib import Path; from barmill.platform.home import Home;"
        "from control.monitoring.alerts import open_alert_db; from control.monitoring.sender import DeliverySender;"
        f"home = Home(Path(sys.argv[1])); DeliverySender(home, open_alert_db(home), lambda: {NOW_MS}).step()"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(home.root)], cwd=REPO_ROOT) as killed:
        assert wait_until(lambda: len(receiver.bodies) == 1, TIMEOUT_S)
        killed.kill()
    assert (newest(home).attempts, newest(home).delivered_ms) == (1, None)
    courier.step()  # not at once: whatever killed it may do so again
    assert len(receiver.bodies) == 1
    clock.now_ms += FIRST_DELAY_MS
    courier.step()
    assert newest(home).delivered_ms is not None
    assert len(receiver.ids) == 2
    assert len(set(receiver.ids)) == 1


def test_what_was_raised_arrives_before_it_is_cleared_and_others_need_not_wait(
    db: Database, courier: DeliverySender, receiver: Receiver, clock: Clock
) -> None:
    receiver.answers = [500]
    raise_alert(db)
    courier.step()
    clear_alert(db)
    raise_alert(db, Finding(AlertKind.DISK_LOW, "disk", True, "The disk is full."))
    courier.step()
    clock.now_ms += FIRST_DELAY_MS
    courier.step()
    courier.step()
    delivered = [(body["event"], body["alert"]["trouble"]) for body in receiver.bodies]
    assert delivered == [("raised", "no_data"), ("raised", "disk_low"), ("raised", "no_data"), ("cleared", "no_data")]


def test_after_a_day_nobody_tries_any_more(
    home: Home, db: Database, courier: DeliverySender, receiver: Receiver, clock: Clock
) -> None:
    receiver.answers = [503] * 1_000
    raise_alert(db)
    while clock.now_ms < NOW_MS + 2 * GIVE_UP_AFTER_MS:
        courier.step()
        clock.now_ms += MAX_DELAY_MS
    assert len(receiver.bodies) == GIVE_UP_AFTER_MS // MAX_DELAY_MS
    assert newest(home).delivered_ms is None


def test_without_a_webhook_nothing_waits_and_nothing_is_sent(home: Home, db: Database, courier: DeliverySender) -> None:
    set_webhook(home, db, ADMIN, None)
    courier.step()
    store_changes(db, NOW_MS, DEFAULTS, [NO_DATA], [], deliver=False)
    assert len(open_alerts(home)) == 1
    assert last_deliveries(home, 9) == []


def test_an_admin_can_send_a_test(home: Home, db: Database, courier: DeliverySender, receiver: Receiver) -> None:
    queue_test(db, ADMIN, NOW_MS)
    courier.step()
    assert receiver.events == ["test"]
    assert newest(home).delivered_ms == NOW_MS


def test_nothing_that_goes_wrong_gives_the_token_away(
    home: Home,
    db: Database,
    courier: DeliverySender,
    receiver: Receiver,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    receiver.answers = [500]
    raise_alert(db)
    [closed] = free_ports(1)
    addresses = [receiver.url, f"http://{LOOPBACK}:{closed}/{TOKEN}", f"https://{LOOPBACK}:{receiver.port}/{TOKEN}"]
    problems = []
    for url in addresses:
        set_webhook(home, db, ADMIN, url)
        courier.step()
        problems.append(newest(home).problem)
        clock.now_ms += MAX_DELAY_MS
    assert problems == ["it responded with HTTP 500", "it cannot be reached", "its certificate is not trusted"]
    assert f"The webhook at {LOOPBACK}:{closed} did not accept an alert: it cannot be reached." in caplog.text
    assert TOKEN not in caplog.text
    assert not any(TOKEN in line for line in db.conn.iterdump())


def test_the_watch_raises_an_alert_once_and_the_webhook_hears_of_it(
    home: Home, db: Database, receiver: Receiver
) -> None:
    with TickLog.open(home.ticks_db) as log:
        log.start_source("market", live=True)
    set_rules(db, ADMIN, {AlertKind.NO_DATA: Rule(threshold=0.1)})
    [port] = free_ports(1)
    for _ in range(2):  # the second time as after a restart of the controller
        flink = FlinkRest(port, home.run / "submit.lock", TlsFiles(home.tls))
        with background_monitoring(home, flink, watch_every_s=0.05, deliver_every_s=0.05):
            assert wait_until(lambda: bool(receiver.bodies), TIMEOUT_S)
            assert not wait_until(lambda: len(receiver.bodies) > 1, 0.5)
        flink.close()
    assert receiver.bodies[0]["text"].startswith("Barmill, warning: No new ticks from market for 0.1 s")
    assert [alert.trouble for alert in open_alerts(home)] == ["no_data"]
