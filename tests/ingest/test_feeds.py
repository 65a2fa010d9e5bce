"""The feeds that people make: what may be changed, by whom, what is on record, and what is said of what is wrong."""

import json
from collections.abc import Iterator

import pytest

from barmill.audit.roles import Actor, Role
from barmill.audit.trail import Search, search
from barmill.ingest.connection.provider import CatalogueEntry
from barmill.ingest.connection.state import ConnectionState, FeedStates, Phase, write_feed_states
from barmill.ingest.feeds.changes import MAX_FEEDS, READY_MADE, add, delete, edit, enable
from barmill.ingest.feeds.feed import READY_MADE_NAMES, FeedError, Feeds, feeds_of
from barmill.ingest.feeds.settings import settings_of, settings_to_store
from barmill.ingest.feeds.views import feed_views
from barmill.ingest.instruments.changes import change_selection
from barmill.ingest.instruments.names import is_feed_name
from barmill.ingest.instruments.store import Instruments
from barmill.platform.clock import now_ms
from barmill.platform.errors import ControlError, NotAllowedError
from barmill.platform.home import Home
from barmill.secrets.store import KeyStore
from tests.support.canary import canary, leaks
from tests.support.feed_states import reported
from tests.support.signed_in import signed_in
from tests.support.stores import Stores

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
        (record.action, record.subject, str(record.stage))
        for record in search(feeds.db, Search())
        if record.action.startswith("feed.")
    ]


def test_a_new_home_has_the_feed_that_its_file_names(home: Home) -> None:
    assert [feed.name for feed in feeds_of(home)] == ["market"]
    (home.root / "feed.json").write_text('{"provider": "replay", "files": ["a.csv"]}')
    assert [(feed.name, feed.enabled, feed.is_first) for feed in feeds_of(home)] == [("replay", True, True)]


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
    with pytest.raises(FeedError, match=r"defined in feed\.json"):
        edit(feeds, ADA, "market", "{}")
    with pytest.raises(FeedError, match="disable it instead"):
        delete(feeds, ADA, "market")


@pytest.mark.parametrize(
    ("name", "kind", "settings", "key", "says"),
    [
        ("Binance", "kafka", TOPIC, None, "lowercase letters"),
        ("-b", "kafka", TOPIC, None, "does not start with a dash"),
        ("b" * 25, "kafka", TOPIC, None, "1 to 24"),
        ("replay", "kafka", TOPIC, None, "choose another name"),
        ("b", "telepathy", TOPIC, None, "'telepathy' is not a kind of feed"),
        ("b", "kafka", "{", None, "not valid JSON: .* line 1, column 2"),
        ("b", "kafka", "[]", None, "a JSON object"),
        ("b", "kafka", '{"kind": "market"}', None, "another kind"),
        ("b", "kafka", '{"topic": "x"}', None, "are invalid: bootstrap is missing"),
        ("b", "kafka", TOPIC[:-1] + ', "topics": 1}', None, "topics is not a setting of this kind"),
        ("b", "market", '{"port": "many"}', "theirs", "port: input should be a valid integer"),
        ("b", "market", '{"port": 70000}', "theirs", "port: input should be less than or equal to 65535"),
        ("b", "market", '{"port": 8600}', None, "needs a key"),
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
    for number in range(MAX_FEEDS - 1):
        add(feeds, ADA, f"b{number}", "kafka", TOPIC)
    with pytest.raises(FeedError, match="A feed named b0 already exists"):
        add(feeds, ADA, "b0", "kafka", TOPIC)
    with pytest.raises(FeedError, match="which is the maximum"):
        add(feeds, ADA, "one-more", "kafka", TOPIC)
    with pytest.raises(FeedError, match="no feed named 'unknown'"):
        enable(feeds, ADA, "unknown", enabled=True)


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
        instruments.save_catalogue("b", [CatalogueEntry("b:AAA"), CatalogueEntry("b:BBB")], None)
        assert instruments.enabled_names("b") == frozenset()
        change_selection(instruments, ADA, "b", [(1, "b:AAA")], enable=True)
        assert instruments.enabled_names("b") == frozenset({"b:AAA"})
        delete(feeds, ADA, "b")
        add(feeds, ADA, "b", "market", '{"port": 8600}', "theirs")
        assert instruments.catalogue("b") == []
        # One that has no list delivers what its settings name.
        instruments.save_catalogue("b", None, None)
        assert instruments.enabled_names("b") is None


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
    assert (market.phase, market.ticks_per_s, market.needs_action) == ("receiving", 10, False)
    assert (b.phase, b.sentence, b.needs_action) == ("refused", "The key was refused.", True)
    assert b.state == refused
    assert c.phase == "disabled"
    assert b.as_json()["stale"] == ("b:X",)
    write_feed_states(home, FeedStates(now_ms() - 60_000, {"b": refused}))
    assert {view.phase for view in feed_views(home)} == {"not running", "disabled"}


def test_the_names_of_ready_made_feeds_are_listed_in_their_order() -> None:
    assert tuple(READY_MADE) == READY_MADE_NAMES


@pytest.mark.parametrize("ready", READY_MADE)
def test_what_is_ready_made_fits(ready: str) -> None:
    ready_made = READY_MADE[ready]
    assert is_feed_name(ready)
    settings = settings_of(ready_made.kind, ready_made.settings)
    assert settings_of(ready_made.kind, settings_to_store(settings)) == settings
