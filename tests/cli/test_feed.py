"""`barmill instrument feed`: what it prints, what it changes, and what it refuses."""

import io
import json
import sys
from pathlib import Path

import pytest

from barmill.audit.roles import Actor
from barmill.ingest.connection.state import ConnectionState, Phase
from barmill.ingest.feeds.feed import feeds_of
from barmill.platform.clock import now_ms
from barmill.platform.home import Home
from barmill.secrets.store import KeyStore
from cli import main
from tests.support.exchanges.rest_server import Reply, always, standing_in
from tests.support.feed_states import reported
from tests.support.instrument import Said


@pytest.fixture(autouse=True)
def _use_home(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARMILL_HOME", str(home.root))
    with KeyStore.open(home, Actor("ada")) as keys:
        keys.add("theirs", "market", "a secret of theirs")


def say(capsys: pytest.CaptureFixture[str], *arguments: str) -> Said:
    code = main.main(["instrument", "feed", *arguments])
    captured = capsys.readouterr()
    return Said(code, captured.out, captured.err)


def test_a_feed_from_its_beginning_to_its_end(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "The feed sim is added" in say(capsys, "add", "sim", "--ready-made", "demo-market", "--key", "theirs").out
    settings = tmp_path / "settings.json"
    settings.write_text('{"bootstrap": "x:1", "topic": "t"}')
    added = say(capsys, "add", "b", "--kind", "kafka", "--settings", str(settings), "--json")
    assert added.json == {"name": "b", "kind": "kafka", "key": None, "enabled": True}
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"port": 8700}'))
    assert say(capsys, "edit", "sim", "--settings", "-").code == 0
    shown = say(capsys, "show", "sim", "--json").json
    assert (shown["settings"], shown["key"]) == ({"kind": "market", "port": 8700}, "theirs")
    assert say(capsys, "disable", "market").out == "The feed market is disabled.\n"
    assert say(capsys, "delete", "b").out == "The feed b is deleted.\n"
    assert [(feed.name, feed.enabled) for feed in feeds_of(home)] == [("market", False), ("sim", True)]


def test_the_list_says_how_each_stands(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert "not running" in say(capsys, "list").out
    state = ConnectionState(Phase.LIMITED, "It reports a rate limit.", now_ms(), heard_ms=now_ms(), gaps=1)
    with reported(home, {"market": state}):
        listed = say(capsys, "list").out
        assert listed.startswith("market  limited")
        assert listed.endswith("It reports a rate limit.\n")
        (feed,) = say(capsys, "list", "--json").json
    assert (feed["phase"], feed["gaps"], feed["ticks"]) == ("limited", 1, 0)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("add", "b"), "Set the kind of feed with --kind"),
        (("add", "b", "--ready-made", "demo-market"), "needs a key"),
        (("add", "b", "--kind", "kafka"), "bootstrap is missing"),
        (("add", "b", "--kind", "kafka", "--settings", "/nowhere.json"), "cannot be read: No such file"),
        (("show", "b"), "There is no feed named 'b'"),
        (("edit", "b"), "There is no feed named 'b'"),
        (("delete", "market"), "disable it instead"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str
) -> None:
    said = say(capsys, *arguments)
    assert said.code == 1
    assert says in said.err
    assert said.out == ""


def test_settings_are_tried_before_they_are_added(
    home: Home, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (home.root / "feeds-access.json").write_text('{"allow": ["127.0.0.0/8"]}')
    file = tmp_path / "settings.json"
    answer = {"data": [{"t": 1_764_140_400_123, "p": 1.5, "s": "EUR/USD"}, {"t": 1, "p": 1, "s": "X"}]}
    with standing_in(always(Reply(answer))) as server:
        mapping = {"rows": "data", "time": "t", "price": "p", "instrument": "s"}
        given = {"base_url": server.url, "path": "/prices", "rows": mapping, "instruments": ["EUR/USD"]}
        file.write_text(json.dumps(given))
        said = say(capsys, "try", "--kind", "rest", "--settings", str(file), "--json")
        assert [tick["price_open"] for tick in said.json["ticks"]] == [1.5]
        assert len(said.json["rejects"]) == 1
        file.write_text(json.dumps({**given, "rows": {**mapping, "price": "no_such_field"}}))
        said = say(capsys, "try", "--kind", "rest", "--settings", str(file))
        assert (said.code, "no_such_field" in said.err) == (1, True)
    assert say(capsys, "try", "--ready-made", "kafka-topic").err.startswith(
        "barmill: A feed of kind kafka cannot be tried"
    )
    assert feeds_of(home) == [feed for feed in feeds_of(home) if feed.is_first]
