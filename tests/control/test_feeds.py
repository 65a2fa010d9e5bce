"""The feeds that people make: what may be changed, by whom, what is on record, and what is said of what is wrong."""

import json
from collections.abc import Iterator

import pytest

from bar.clock import now_ms
from control.audit import Search, search
from control.errors import ControlError, NotAllowedError
from control.feeds.changes import MOST_FEEDS, add, delete, edit, enable
from control.feeds.store import Feeds, feeds_of
from control.feeds.views import feed_views
from control.home import Home
from control.instruments.picks import pick
from control.instruments.store import Instruments
from control.keys.store import KeyStore
from control.people.roles import Actor, Role
from feed.connection.state import ConnectionState, Phase
from feed.feeds import FeedError, settings_of, written
from feed.names import can_be_a_name
from feed.provider import Listed
from feed.ready_made import READY_MADE
from feed.standing import Standings, write_standings
from tests.canary import canary, leaks
from tests.pages.stores import Stores
from tests.signed_in import signed_in
from tests.standings import reported

ADA = Actor("ada")
TOPIC = '{"bootstrap": "localhost:9092", "topic": "prices"}'


@pytest.fixture
def feeds(home: Home) -> Iterator[Feeds]:
    with KeyStore.open(home, ADA) as keys:
        keys.add("theirs", "market", "a secret of theirs")
    with Feeds.open(home) as opened:
        yield opened


def names(feeds: Feeds) -> list[str]:
    return [feed.name for feed in feeds.all()]


def trail(feeds: Feeds) -> list[tuple[str, str, str]]:
    return [
        (one.action, one.subject, str(one.stage))
        for one in search(feeds.db, Search())
        if one.action.startswith("feed.")
    ]


def test_a_new_home_has_the_feed_that_its_file_names(home: Home) -> None:
    assert [feed.name for feed in feeds_of(home)] == ["market"]
    (home.root / "feed.json").write_text('{"provider": "replay", "files": ["a.csv"]}')
    assert [(feed.name, feed.enabled, feed.first) for feed in feeds_of(home)] == [("replay", True, True)]


def test_a_feed_is_added_changed_and_deleted_and_all_of_it_is_on_record(feeds: Feeds) -> None:
    made = add(feeds, ADA, "sim", "market", '{"port": 8600}', "theirs")
    assert made.enabled
    assert json.loads(made.settings) == {"kind": "market", "port": 8600}
    assert made.prefix == "sim:"
    assert names(feeds) == ["market", "sim"]
    changed = edit(feeds, ADA, "sim", '{"port": 8601}', "theirs")
    assert (changed.made_ms, json.loads(changed.settings)["port"]) == (made.made_ms, 8601)
    assert not enable(feeds, ADA, "sim", enabled=False).enabled
    delete(feeds, ADA, "sim")
    assert names(feeds) == ["market"]
    assert trail(feeds) == [
        ("feed.delete", "sim", "executed"),
        ("feed.disable", "sim", "executed"),
        ("feed.edit", "sim", "executed"),
        ("feed.add", "sim", "executed"),
    ]


def test_the_first_feed_can_be_disabled_and_nothing_else(feeds: Feeds) -> None:
    assert not enable(feeds, ADA, "market", enabled=False).enabled
    assert [(feed.name, feed.enabled) for feed in feeds.all()] == [("market", False)]
    assert enable(feeds, ADA, "market", enabled=True).enabled
    with pytest.raises(FeedError, match=r"set in feed\.json"):
        edit(feeds, ADA, "market", "{}")
    with pytest.raises(FeedError, match="disable it instead"):
        delete(feeds, ADA, "market")


@pytest.mark.parametrize(
    ("name", "kind", "settings", "key", "says"),
    [
        ("Binance", "kafka", TOPIC, None, "small letters"),
        ("-b", "kafka", TOPIC, None, "begins with no dash"),
        ("b" * 25, "kafka", TOPIC, None, "1 to 24"),
        ("replay", "kafka", TOPIC, None, "take another name"),
        ("b", "telepathy", TOPIC, None, "There is no kind 'telepathy'"),
        ("b", "kafka", "{", None, "not JSON: .* line 1, column 2"),
        ("b", "kafka", "[]", None, "a JSON object"),
        ("b", "kafka", '{"kind": "market"}', None, "another kind"),
        ("b", "kafka", '{"topic": "x"}', None, "do not fit: bootstrap is missing"),
        ("b", "kafka", TOPIC[:-1] + ', "topics": 1}', None, "topics is no setting of this kind"),
        ("b", "market", '{"port": "many"}', "theirs", "port: input should be a valid integer"),
        ("b", "market", '{"port": 70000}', "theirs", "port: input should be less than or equal to 65535"),
        ("b", "market", '{"port": 8600}', None, "wants a key"),
        ("b", "market", '{"port": 8600}', "mine", "no stored key named 'mine'"),
    ],
)
def test_what_cannot_be_is_refused_in_plain_words(
    feeds: Feeds, name: str, kind: str, settings: str, key: str | None, says: str
) -> None:
    with pytest.raises(FeedError, match=says):
        add(feeds, ADA, name, kind, settings, key)
    assert names(feeds) == ["market"]
    assert [stage for _, _, stage in trail(feeds)] == ["refused"]


def test_a_name_is_taken_once_and_there_is_a_most(feeds: Feeds) -> None:
    for number in range(MOST_FEEDS - 1):
        add(feeds, ADA, f"b{number}", "kafka", TOPIC)
    with pytest.raises(FeedError, match="a feed named b0 already"):
        add(feeds, ADA, "b0", "kafka", TOPIC)
    with pytest.raises(FeedError, match="which is the most"):
        add(feeds, ADA, "one-more", "kafka", TOPIC)
    with pytest.raises(FeedError, match="no feed named 'nobody'"):
        enable(feeds, ADA, "nobody", enabled=True)


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.TRADER])
def test_only_admins_change_feeds(home: Home, feeds: Feeds, role: Role) -> None:
    signed_in(home, role)
    actor = Actor.of_account(f"test-{role.value}")
    with pytest.raises(NotAllowedError):
        add(feeds, actor, "b", "kafka", TOPIC)
    with pytest.raises(NotAllowedError):
        enable(feeds, actor, "market", enabled=False)


def test_a_key_in_the_wrong_place_is_neither_said_nor_on_record(feeds: Feeds) -> None:
    secret = canary()
    with pytest.raises(ControlError) as refused:
        add(feeds, ADA, "b", "kafka", json.dumps({"bootstrap": "x:1", "topic": "t", "api_key": secret}))
    assert leaks(secret, str(refused.value)) == []
    add(feeds, ADA, "b", "kafka", json.dumps({"bootstrap": "x:1", "topic": "t", "columns": {"api_key": secret}}))
    delete(feeds, ADA, "b")
    assert leaks(secret, "\n".join(map(repr, search(feeds.db, Search())))) == []


def test_with_a_feed_goes_what_was_picked_of_it(home: Home, feeds: Feeds) -> None:
    add(feeds, ADA, "b", "market", '{"port": 8600}', "theirs")
    with Instruments.open(home) as instruments:
        instruments.keep_catalogue("b", [Listed("b:AAA"), Listed("b:BBB")], None)
        assert instruments.wanted("b") == frozenset()
        pick(instruments, ADA, "b", [(1, "b:AAA")], enable=True)
        assert instruments.wanted("b") == frozenset({"b:AAA"})
        delete(feeds, ADA, "b")
        add(feeds, ADA, "b", "market", '{"port": 8600}', "theirs")
        assert instruments.catalogue("b") == []
        # One that has no list delivers what its settings name.
        instruments.keep_catalogue("b", None, None)
        assert instruments.wanted("b") is None


def test_how_each_stands_is_told_as_long_as_ingest_says_so(home: Home, feeds: Feeds) -> None:
    add(feeds, ADA, "b", "kafka", TOPIC)
    add(feeds, ADA, "c", "kafka", TOPIC)
    enable(feeds, ADA, "c", enabled=False)
    stores = Stores(home)
    stores.write([(now_ms() - n, "AAA", 1.0, None) for n in range(50)], closed_to_ms=now_ms())
    stores.close()
    refused = ConnectionState(Phase.REFUSED, "The key was refused.", 1, stale=("b:X",))
    receiving = ConnectionState(Phase.RECEIVING, "Prices arrive.", 1)
    with reported(home, {"b": refused, "c": receiving, "market": receiving}):
        market, b, c = feed_views(home)
    assert (market.phase, market.ticks_per_s, market.needs_somebody) == ("receiving", 10, False)
    assert (b.phase, b.sentence, b.needs_somebody) == ("refused", "The key was refused.", True)
    assert b.state == refused
    assert c.phase == "disabled"
    assert b.as_json()["stale"] == ("b:X",)
    write_standings(home, Standings(now_ms() - 60_000, {"b": refused}))
    assert {view.phase for view in feed_views(home)} == {"not running", "disabled"}


@pytest.mark.parametrize("ready", READY_MADE)
def test_what_is_ready_made_fits(ready: str) -> None:
    one = READY_MADE[ready]
    assert can_be_a_name(ready)
    settings = settings_of(one.kind, one.settings)
    assert settings_of(one.kind, written(settings)) == settings
