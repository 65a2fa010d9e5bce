"""Trying settings before they are saved, against providers that answer well, badly, or with ill intent."""

import gzip
import json
import resource
import threading
from collections.abc import Callable, Iterator

import pytest

from barmill.ingest.connection.guard import Guard
from barmill.ingest.feeds.trial import Trial, trial
from barmill.ingest.mapping.row_mapping import RowMapping
from barmill.ingest.providers.rest.settings import RestFeed
from tests.support.canary import canary, leaks
from tests.support.exchanges.rest_server import Asked, Reply, always, near_guard, standing_in

MB = 2**20
T_MS = 1_764_140_400_123
GOOD = {"data": [{"t": T_MS, "p": "1.5", "v": 2, "s": "A"}, {"t": T_MS, "p": "soon", "s": "A"}]}


def settings(url: str, **given: object) -> RestFeed:
    rows = {"rows": "data", "time": "t", "price": "p", "instrument": "s"}
    return RestFeed.model_validate({"base_url": url, "path": "/prices", "rows": rows, "instruments": ["A"], **given})


def tried(reply: Reply | Callable[[Asked], Reply], key: str = "", **given: object) -> Trial:
    with standing_in(always(reply) if isinstance(reply, Reply) else reply) as server:
        return trial(settings(server.url, **given), key, near_guard())


def test_the_raw_answer_stands_beside_ticks_and_rejects() -> None:
    found = tried(Reply(GOOD), query={"symbol": "{instrument}", "token": "{key}"}, key="a-secret-key")
    assert found.problem is None
    assert found.ticks.select("instrument", "price_open").rows() == [("A", 1.5)]
    assert found.rejects.select("reason", "price_open").rows() == [("bad_number", "soon")]
    assert json.loads(found.raw_text) == GOOD
    assert found.raw_text.startswith('{\n  "data": [\n')
    assert found.redacted_request.endswith("/prices?symbol=A&token=[key]")
    assert found.took_ms > 0


def drips(over: threading.Event) -> Iterator[bytes]:
    while not over.wait(0.02):
        yield b" "


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply({"message": "boom"}, 500), "reports an internal error: status 500"),
        (Reply({"error": "no"}, 403), "rejects the key"),
        (Reply(b"<html>", headers={"Content-Type": "text/html"}), "text/html instead of JSON"),
        (Reply(iter([b"1," * MB] * 10_000)), "more than 2 MB; the rest was not read"),
        (Reply(gzip.compress(bytes(64 * MB), 1), headers={"Content-Encoding": "gzip"}), "more than 2 MB"),
        (Reply(b"[" * 900 + b"]" * 900), "nested more than 64"),
        (Reply(status=302, headers={"Location": "http://169.254.169.254/latest/"}), "not a public address"),
        (Reply(status=302, headers={"Location": "http://10.0.0.1:8080/admin"}), "resolves to 10.0.0.1"),
        (
            Reply({"result": []}),
            '"data" matches nothing: there is an object with result; the path must lead to the rows.',
        ),
        (Reply({"data": [{"T": 1, "p": 1, "s": "A"}]}), 'time: "t" matches nothing: there is an object with T, p, s'),
        (Reply({"data": [{"t": 1, "p": {}, "s": "A"}]}), 'price: "p" is an empty object; a number'),
        (Reply({"data": [{"t": 1, "p": 1, "s": "A"}]}), "would be rejected because the time is neither epoch"),
        (Reply({"data": [{"t": T_MS, "p": "x", "s": "A"}]}), "No row would become a tick. The first would be rejected"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(reply: Reply, said: str) -> None:
    before_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = tried(reply)
    assert found.problem is not None
    assert said in found.problem
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before_mb < 100


def test_an_endless_slow_answer_ends_in_time() -> None:
    over = threading.Event()
    try:
        found = tried(Reply(drips(over)), answer_s=0.3)
    finally:
        over.set()
    assert "did not respond within 0.3 s" in str(found.problem)


def test_a_name_that_leads_to_this_machine_is_refused() -> None:
    with standing_in(always(Reply(GOOD))) as server:
        found = trial(settings(server.url.replace("127.0.0.1", "localhost")), guard=Guard())
        assert server.asked == []
    assert "localhost resolves to" in str(found.problem)
    assert "feeds-access.json" in str(found.problem)


def test_what_is_no_mistake_is_a_note() -> None:
    rows = {"rows": "data", "time": "t", "price": "p", "instrument": "s", "volume": "size", "id": "n"}
    assert list(tried(Reply({"data": []})).notes) == ["The response matches the mapping, but currently has no rows."]
    notes = tried(Reply(GOOD), rows=rows).notes
    assert [note.partition(":")[0] for note in notes] == ["id", "volume"]
    many = tried(Reply({"data": [GOOD["data"][0]] * 1_500}))
    assert (many.ticks.height, list(many.notes)) == (1_000, ["Only the first 1,000 of 1,500 rows are shown."])


def test_a_long_answer_is_shown_from_its_beginning() -> None:
    found = tried(Reply({"data": [GOOD["data"][0]] * 20_000}))
    assert len(found.raw_text) < 21_000
    assert "more characters" in found.raw_text


def test_an_instrument_is_needed_where_the_question_is_about_one() -> None:
    found = trial(settings("https://feed.example", path="/{instrument}", instruments=[]))
    assert found.problem == "Enter at least one instrument to request."


@pytest.mark.parametrize("status", [200, 400, 401, 500])
@pytest.mark.parametrize("place", ["query", "headers"])
def test_nothing_in_a_trial_holds_the_key(status: int, place: str) -> None:
    secret = canary()

    def echo(asked: Asked) -> Reply:
        got = asked.query.get("token") or asked.headers.get("token")
        assert got == secret
        rows = [{"t": T_MS, "p": got, "s": "A"}, {"t": T_MS, "p": 1, "s": got}, {"t": got, "p": 1, "s": "A"}]
        return Reply({"data": rows, "message": f"What is {got}?", "headers": dict(asked.headers)}, status)

    found = tried(echo, secret, **{place: {"token": "{key}"}})
    texts = [repr(found), found.raw_text, *(frame.write_csv() for frame in (found.ticks, found.rejects))]
    assert not leaks(secret, *texts)


@pytest.mark.parametrize("success", [(), ("ok",)])
@pytest.mark.parametrize("rows", [GOOD["data"], []])
def test_a_code_that_repeats_the_key_is_shown_without_it(rows: list[object], success: tuple[str, ...]) -> None:
    secret = canary()  # longer than the part of a code that is shown
    reply = Reply({"data": rows, "code": secret})
    found = tried(reply, secret, query={"token": "{key}"}, code="code", success=success)
    shown = " ".join([str(found.problem), *found.notes])
    assert "[hidden]" in shown
    assert secret[:12] not in shown


def test_a_key_that_has_to_have_two_parts_and_has_not_says_so() -> None:
    found = tried(Reply(GOOD), "only-one-part", headers={"X-Id": "{key_id}", "X-Secret": "{key_secret}"})
    assert "store them as ID:SECRET" in str(found.problem)
    assert "X-Secret: [key]" in found.redacted_request


def test_two_trials_at_most_run_at_once() -> None:
    running, over, found = threading.Semaphore(0), threading.Event(), list[Trial]()

    def slow(_: Asked) -> Reply:
        running.release()
        over.wait(30)
        return Reply(GOOD)

    with standing_in(slow) as server:
        threads = [
            threading.Thread(target=lambda: found.append(trial(settings(server.url), guard=near_guard())))
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for _ in threads:
            assert running.acquire(timeout=30)
        assert "Two other tests" in str(trial(settings(server.url), guard=near_guard()).problem)
        over.set()
        for thread in threads:
            thread.join()
    assert [trial.problem for trial in found] == [None, None]


def test_mappings_of_any_name_can_be_tried() -> None:
    answer = {"rates": {"EUR": 1.1, "GBP": 0.9}, "at": T_MS / 1_000}
    rows = RowMapping(rows="rates.*", instrument="{key}", time="$.at", price="@").model_dump(exclude_defaults=True)
    found = tried(Reply(answer), rows=rows, instruments=["EUR", "GBP"])
    assert found.ticks["instrument"].to_list() == ["EUR", "GBP"]
