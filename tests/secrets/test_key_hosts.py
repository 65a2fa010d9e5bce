"""A stored key is sent to the hosts that it is bound to, whatever an admin writes into the settings of a feed."""

import json
import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barmill.audit.roles import Actor
from barmill.ingest.feeds.changes import READY_MADE, add, edit
from barmill.ingest.feeds.feed import FeedError, Feeds
from barmill.ingest.feeds.settings import hosts_of, settings_of
from barmill.ingest.feeds.trial_runner import run_trial
from barmill.ingest.provider_factory import KeyMissingError, provider_of
from barmill.platform.errors import ControlError
from barmill.platform.feed_settings import FeedSettings
from barmill.platform.home import Home
from barmill.platform.sqlite_file import open_control_db
from barmill.secrets.hosts import KeyHostError, check_hosts, hosts_of_brokers, hosts_of_provider, normalized_hosts
from barmill.secrets.kek import seal
from barmill.secrets.keyring import create_kek_file
from barmill.secrets.records import keystore_migrations
from barmill.secrets.store import KeyStore, KeyStoreError, TamperedSecretError
from tests.support.control_db_edits import execute
from tests.support.exchanges.rest_server import Reply, always, standing_in

ADA = Actor("ada")
SECRET = "sk-live-4f1dbb0c9a6e42d7"
ROWS = {"rows": "d", "time": "t", "price": "p", "instrument": "=A"}


def rest(url: str) -> str:
    return json.dumps({"base_url": url, "headers": {"X-Key": "{key}"}, "rows": ROWS})


def kafka(bootstrap: str) -> str:
    return json.dumps({
        "bootstrap": bootstrap, "topic": "t", "protocol": "SASL_SSL", "username": "u", "password_key": "theirs"
    })  # fmt: skip


def test_a_key_goes_to_its_hosts_and_to_no_other(home: Home) -> None:
    with KeyStore.open(home, ADA) as keys:
        info = keys.add("theirs", "rest", SECRET, hosts=["api.example.com", "*.example.org", "API.example.com "])
        assert info.hosts == ("api.example.com", "*.example.org")
        for host in ("api.example.com", "API.EXAMPLE.COM", "a.b.example.org"):
            assert keys.reveal("theirs", [host]) == SECRET
        for host in ("example.com", "api.example.com.evil.net", "example.org", "evilexample.org", "127.0.0.1", ""):
            with pytest.raises(KeyHostError, match=r"is bound to api\.example\.com"):
                keys.reveal("theirs", [host])
        with pytest.raises(KeyHostError):
            keys.reveal("theirs", ["api.example.com", "evil.net"])
    refused = execute(home, "SELECT action, stage, result FROM audit WHERE action = 'key.reveal' ORDER BY number DESC")
    assert "evil.net" in str(refused[0])


def test_a_key_without_hosts_stays_on_this_machine(home: Home) -> None:
    with KeyStore.open(home, ADA) as keys:
        assert keys.add("theirs", "rest", SECRET).hosts == ()
        assert keys.reveal("theirs", ["127.0.0.1"]) == keys.reveal("theirs", ["::1"]) == SECRET
        with pytest.raises(KeyHostError, match=r"bound to no host and is not sent to evil\.net; .* --host evil\.net"):
            keys.reveal("theirs", ["evil.net"])


def test_only_the_secret_itself_binds_a_key_to_other_hosts(home: Home) -> None:
    with KeyStore.open(home, ADA) as keys:
        keys.add("theirs", "alpaca", SECRET)
        assert keys.rotate("theirs", SECRET).hosts == ("*.alpaca.markets",)
        assert keys.rotate("theirs", SECRET, hosts=["api.example.com"]).hosts == ("api.example.com",)
    execute(home, "UPDATE secrets SET hosts = 'evil.net'")
    with KeyStore.open(home, ADA) as keys, pytest.raises(TamperedSecretError):
        keys.reveal("theirs", ["evil.net"])
    execute(home, "UPDATE secrets SET hosts_sealed = 0")
    with KeyStore.open(home, ADA) as keys, pytest.raises(TamperedSecretError):
        keys.reveal("theirs", ["evil.net"])


@pytest.mark.parametrize(
    "make",
    [
        lambda feeds: add(feeds, ADA, "fx", "rest", rest("https://evil.net"), "theirs"),
        lambda feeds: edit(feeds, ADA, "good", rest("https://evil.net"), "theirs"),
        lambda feeds: add(feeds, ADA, "fx", "ccxt", '{"exchange": "kraken"}', "theirs"),
        lambda feeds: add(
            feeds, ADA, "fx", "websocket",
            json.dumps({**json.loads(READY_MADE["finnhub"].settings), "url": "wss://evil.net"}), "theirs",
        ),
        lambda feeds: add(feeds, ADA, "fx", "kafka", kafka("api.example.com:9092,evil.net:9092")),
        lambda feeds: add(feeds, ADA, "fx", "kafka", kafka("evil.net")),
        lambda feeds: add(feeds, ADA, "fx", "kafka", kafka("api.example.com:9092,evil.net")),
        lambda feeds: add(feeds, ADA, "fx", "kafka", kafka("SASL_SSL://evil.net:9092/api.example.com:9092")),
    ],
)  # fmt: skip
def test_no_feed_is_made_that_would_send_a_key_elsewhere(home: Home, make: Callable[[Feeds], object]) -> None:
    with KeyStore.open(home, ADA) as keys, Feeds.open(home) as feeds:
        keys.add("theirs", "rest", SECRET, hosts=["api.example.com"])
        add(feeds, ADA, "good", "rest", rest("https://api.example.com/v1"), "theirs")
        with pytest.raises(KeyHostError, match=r"is not sent to (evil\.net|ccxt:kraken)"):
            make(feeds)
        assert [feed.name for feed in feeds.all() if not feed.is_first] == ["good"]


def test_a_feed_that_was_made_before_is_refused_the_key(home: Home) -> None:
    (home.root / "feeds-access.json").write_text('{"allow": ["127.0.0.1"]}')
    with standing_in(always(Reply({"d": []}))) as server:
        with KeyStore.open(home, ADA) as keys, Feeds.open(home) as feeds:
            keys.add("theirs", "rest", SECRET)
            feed = add(feeds, ADA, "fx", "rest", rest(server.url), "theirs")
            keys.rotate("theirs", SECRET, hosts=["api.example.com"])
        provider = provider_of(feed, FeedSettings(), home, lambda: None, lambda _: None)
        with pytest.raises(KeyMissingError, match="not sent to 127"):
            next(iter(provider.batches(None, threading.Event())))
        with pytest.raises(ControlError, match="not sent to 127"):
            run_trial(home, ADA, settings_of("rest", rest(server.url)), "theirs")  # type: ignore[arg-type]
        assert server.asked == []


@pytest.mark.parametrize(
    ("bootstrap", "hosts"),
    [
        ("One.example.com:9092, two.example.com", ("one.example.com", "two.example.com")),
        ("[2001:db8::1]:9092,[::1],2001:db8::2", ("2001:db8::1", "::1", "2001:db8::2")),
        ("SSL://one.example.com:9092/two.example.com", ("one.example.com",)),
        (":9092,", ("localhost",)),
    ],
)
def test_brokers_are_read_as_the_client_reads_them(bootstrap: str, hosts: tuple[str, ...]) -> None:
    assert hosts_of_brokers(bootstrap) == hosts


def test_a_key_is_not_sent_where_no_host_is_known(home: Home) -> None:
    with KeyStore.open(home, ADA) as keys:
        keys.add("theirs", "rest", SECRET)
        with pytest.raises(KeyHostError, match="name no host"):
            keys.reveal("theirs", ())
        assert keys.reveal("theirs") == SECRET


@pytest.mark.parametrize("port", [":9092", ""])
def test_a_password_is_not_sent_as_it_is_without_tls(home: Home, port: str) -> None:
    given = {
        "bootstrap": f"kafka.example.com{port}", "topic": "t", "protocol": "SASL_PLAINTEXT", "mechanism": "PLAIN",
        "username": "u", "password_key": "theirs",
    }  # fmt: skip
    with KeyStore.open(home, ADA) as keys, Feeds.open(home) as feeds:
        keys.add("theirs", "kafka", SECRET, hosts=["kafka.example.com"])
        feed = add(feeds, ADA, "theirs", "kafka", json.dumps(given))
    with pytest.raises(ControlError, match="without TLS"):
        provider_of(feed, FeedSettings(), home, lambda: None, lambda _: None)


def test_keys_of_the_version_before_are_bound_to_where_they_are_used(home: Home) -> None:
    kek = create_kek_file(home)
    with Feeds.open(home):
        pass  # the tables of the other rooms
    execute(home, "DROP TABLE secrets")
    execute(home, "DROP TABLE secret_versions")
    execute(home, "DROP TABLE transit_keys")
    execute(home, "DELETE FROM _sqlite_migrations WHERE migration_set = 'keystore'")
    db = open_control_db(home)
    keystore_migrations.apply(db, stop_before="bind_to_hosts")
    for name, provider in (("one", "rest"), ("two", "oanda"), ("three", "kafka"), ("four", "mine")):
        said = {"name": name, "provider": provider, "version": 1, "fingerprint": "0a1b2c3d", "created_ms": 1_700_000}
        label = json.dumps(["barmill secret 1", name, said], sort_keys=True).encode()
        sealed = seal(kek, label, SECRET.encode())
        row = {**said, "id": name, "kek_id": kek.id, "wrapped_key": sealed.wrapped_key, "ciphertext": sealed.ciphertext}
        db.table("secrets").insert(row)
    kafka = {"bootstrap": "k1.example.com:9092,k2.example.com:9092", "password_key": "three"}
    for name, kind, settings, key in (
        ("a", "rest", rest("https://api.example.com/v1"), "one"),
        ("b", "websocket", '{"url": "wss://ws.example.com:8443/x"}', "one"),
        ("c", "kafka", json.dumps(kafka), None),
        ("d", "rest", "not JSON", "four"),
    ):
        db.table("feeds").insert(
            {"name": name, "kind": kind, "settings": settings, "key": key, "enabled": 1, "made_ms": 1, "changed_ms": 1}
        )
    db.conn.close()
    with KeyStore.open(home, ADA) as keys:
        assert {info.name: info.hosts for info in keys.list()} == {
            "one": ("api.example.com", "ws.example.com"),
            "two": ("api-fxpractice.oanda.com", "api-fxtrade.oanda.com"),
            "three": ("k1.example.com", "k2.example.com"),
            "four": (),
        }
        assert keys.reveal("one", ["ws.example.com"]) == SECRET
        with pytest.raises(KeyHostError):
            keys.reveal("one", ["evil.net"])
        assert keys.rotate("one", "new").hosts == ("api.example.com", "ws.example.com")
        assert keys.reveal("one", ["ws.example.com"]) == "new"


@pytest.mark.parametrize("name", sorted(name for name, ready in READY_MADE.items() if ready.needs_key))
def test_keys_of_ready_made_providers_are_bound_without_a_word(name: str) -> None:
    provider = "market" if name == "demo-market" else next(
        vendor for vendor in ("finnhub", "twelve-data", "alpaca", "oanda", "massive") if name.startswith(vendor)
    )  # fmt: skip
    ready = READY_MADE[name]
    check_hosts("key", hosts_of_provider(provider), hosts_of(settings_of(ready.kind, ready.settings)))


@given(st.text(max_size=80))
def test_what_is_stored_as_a_host_can_be_stored(text: str) -> None:
    try:
        (stored,) = normalized_hosts([text]) or ("",)
    except KeyStoreError:
        return
    assert " " not in stored
    assert stored == stored.strip().lower()


def test_what_is_no_host_is_refused(home: Home) -> None:
    with KeyStore.open(home, ADA) as keys:
        for wrong in ("https://api.example.com", "api.example.com:443", "a b", "*", "*.", "ä.example.com"):
            with pytest.raises(KeyStoreError, match="is not a host"):
                keys.add("theirs", "rest", SECRET, hosts=[wrong])
        assert keys.list() == ()
    with pytest.raises(FeedError):
        settings_of("rest", "{}")
