"""From a key's addition to its end: versions, expiry, last use, tests at the provider, revocation."""

import threading
from contextlib import closing
from datetime import date

import pytest

from barmill.audit.roles import Actor
from barmill.audit.trail import Search, search
from barmill.platform.errors import NotAllowedError
from barmill.platform.home import Home
from barmill.platform.sqlite_file import read_control_db
from barmill.platform.texts import utc_text
from barmill.secrets import store
from barmill.secrets.info import (
    WARN_BEFORE_MS,
    KeyStoreError,
    KeyTestError,
    NotUsableError,
    SecretInfo,
    State,
    end_of_day_ms,
    hide_secret,
)
from barmill.secrets.records import Row
from barmill.secrets.store import KeyStore
from tests.support.canary import canary, leaks
from tests.support.control_db_edits import execute

ADA, BOB = Actor("ada"), Actor("bob")
SECRET = "sk-live-4f1dbb0c9a6e42d7"
NOW_MS = 1_800_000_000_000
MIN_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000


class Clock:
    """A wall clock that a test moves."""

    def __init__(self) -> None:
        self.now_ms = NOW_MS

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    moved = Clock()
    monkeypatch.setattr(store, "now_ms", moved)
    return moved


def results(home: Home, action: str) -> list[tuple[str, str]]:
    db = read_control_db(home)
    with closing(db.conn):
        return [(record.stage, record.result) for record in search(db, Search(action=action))]


def test_a_rotation_makes_the_next_version_and_keeps_the_history_without_secrets(home: Home, clock: Clock) -> None:
    with KeyStore.open(home, ADA) as first:
        info = first.add("demo", "market", SECRET)
    clock.now_ms += DAY_MS
    with KeyStore.open(home, BOB) as second:
        two = second.rotate("demo", f"{SECRET}2")
        assert second.reveal("demo") == f"{SECRET}2"
        versions = second.versions("demo")
    assert (two.version, two.provider, two.created_ms) == (2, "market", NOW_MS + DAY_MS)
    assert [(seen.version, seen.fingerprint, seen.created_ms, seen.created_by) for seen in versions] == [
        (2, two.fingerprint, NOW_MS + DAY_MS, "bob"),
        (1, info.fingerprint, NOW_MS, "ada"),
    ]


def test_what_is_deleted_and_added_again_begins_a_history_of_its_own(home: Home) -> None:
    with KeyStore.open(home, ADA) as keys:
        keys.add("demo", "market", SECRET)
        keys.rotate("demo", "2")
        keys.delete("demo")
        assert keys.versions("demo") == ()
        keys.add("demo", "market", SECRET)
        assert [version.version for version in keys.versions("demo")] == [1]


def test_only_what_is_there_can_be_rotated_revoked_and_deleted(home: Home) -> None:
    with KeyStore.open(home, ADA) as keys:
        for change in (lambda: keys.rotate("demo", "x"), lambda: keys.revoke("demo"), lambda: keys.delete("demo")):
            with pytest.raises(KeyStoreError, match="no stored key named 'demo'"):
                change()


@pytest.mark.parametrize(
    ("left_ms", "state", "warning"),
    [
        (WARN_BEFORE_MS + 1, State.ACTIVE, None),
        (WARN_BEFORE_MS, State.EXPIRING, "The key demo expires in 14 days, on 2027-01-29 08:00 UTC; rotate it before."),
        (DAY_MS, State.EXPIRING, "The key demo expires in 1 day, on 2027-01-16 08:00 UTC; rotate it before."),
        (1, State.EXPIRING, "The key demo expires in less than a day, on 2027-01-15 08:00 UTC; rotate it before."),
        (0, State.EXPIRED, "The key demo expired on 2027-01-15 08:00 UTC; rotate it."),
    ],
)
def test_an_expiry_is_warned_of_from_14_days_before(left_ms: int, state: State, warning: str | None) -> None:
    key = SecretInfo("demo", "market", 1, "0a1b2c3d", NOW_MS, NOW_MS + left_ms)
    assert (key.state(NOW_MS), key.warning(NOW_MS)) == (state, warning)


def test_a_key_without_an_expiry_stays_active() -> None:
    key = SecretInfo("demo", "market", 1, "0a1b2c3d", NOW_MS)
    assert (key.state(2**60), key.warning(2**60)) == (State.ACTIVE, None)


def test_an_expired_key_is_refused_until_it_is_rotated(home: Home, clock: Clock) -> None:
    with KeyStore.open(home, ADA) as keys:
        keys.add("demo", "market", SECRET, expires_ms=NOW_MS + HOUR_MS)
        clock.now_ms += HOUR_MS - 1
        assert keys.reveal("demo") == SECRET
        clock.now_ms += 1
        with pytest.raises(NotUsableError, match=r"'demo' expired on 2027-01-15 09:00 UTC; .* key rotate"):
            keys.reveal("demo")
        renewed = keys.rotate("demo", "new")
        assert renewed.expires_ms is None
        assert keys.reveal("demo") == "new"


def test_an_expiry_in_the_past_is_refused(home: Home, clock: Clock) -> None:
    with KeyStore.open(home, ADA) as keys:
        with pytest.raises(KeyStoreError, match="is in the past"):
            keys.add("demo", "market", SECRET, expires_ms=clock.now_ms)
        assert keys.list() == ()


def test_the_last_use_is_of_the_newest_version_and_right_to_the_minute(home: Home, clock: Clock) -> None:
    with KeyStore.open(home, ADA) as keys:
        keys.add("demo", "market", SECRET)
        assert keys.list()[0].last_used_ms is None
        for step_ms in (MIN_MS, 5 * MIN_MS):
            clock.now_ms += step_ms
            keys.reveal("demo")
            assert keys.list()[0].last_used_ms == clock.now_ms
        keys.rotate("demo", "new")
        assert keys.list()[0].last_used_ms is None


def test_a_refused_use_is_no_use(home: Home, clock: Clock) -> None:
    with KeyStore.open(home, ADA) as keys:
        keys.add("demo", "market", SECRET, expires_ms=NOW_MS + 1)
        clock.now_ms += 1
        with pytest.raises(NotUsableError):
            keys.reveal("demo")
        assert keys.list()[0].last_used_ms is None
    assert results(home, "key.reveal")[0][0] == "refused"


def test_a_revoked_key_is_refused_and_its_secret_is_gone(home: Home) -> None:
    with KeyStore.open(home, ADA) as keys:
        keys.add("demo", "market", SECRET)
        keys.revoke("demo")
        (shown,) = keys.list()
        assert shown.state(shown.created_ms) is State.REVOKED
        assert shown.warning(2**60) is None
        with pytest.raises(NotUsableError, match="'demo' is revoked"):
            keys.reveal("demo")
        with pytest.raises(NotUsableError, match="already revoked"):
            keys.revoke("demo")
    assert execute(home, "SELECT kek_id, wrapped_key, ciphertext FROM secrets") == [(None, None, None)]
    execute(home, "UPDATE secrets SET revoked_ms = NULL")  # write access to the file gains nothing
    with KeyStore.open(home, ADA) as keys, pytest.raises(KeyStoreError, match="changed outside Barmill"):
        keys.reveal("demo")


def test_a_revoked_key_is_good_again_with_a_new_secret(home: Home) -> None:
    with KeyStore.open(home, ADA) as keys:
        keys.add("demo", "market", SECRET)
        keys.revoke("demo")
        assert keys.rotate("demo", "new").version == 2
        assert keys.reveal("demo") == "new"


def test_a_key_is_revoked_and_deleted_without_the_key_encryption_key(home: Home) -> None:
    with KeyStore.open(home, ADA) as keys:
        keys.add("one", "market", SECRET)
        keys.add("two", "market", SECRET)
        (home.keys / "kek").unlink()
        assert "is missing" in (keys.problem() or "")
        keys.revoke("one")
        keys.delete("two")
        assert keys.problem() is None


def test_a_test_says_what_the_provider_says_and_is_a_use(home: Home) -> None:
    seen = list[tuple[Home, str]]()

    def ask(where: Home, key: str) -> str:
        seen.append((where, key))
        return "It opens 3 instruments."

    with KeyStore.open(home, ADA) as keys:
        keys.add("demo", "market", SECRET)
        assert keys.test("demo", {"market": ask}) == "It opens 3 instruments."
        assert keys.list()[0].last_used_ms is not None
    assert seen == [(home, SECRET)]
    assert results(home, "key.test") == [("executed", "It opens 3 instruments."), ("issued", "")]


def test_a_refusal_by_the_provider_is_told_and_on_record(home: Home) -> None:
    def refuse(_home: Home, _key: str) -> str:
        raise KeyTestError("The market rejected the key.")

    with KeyStore.open(home, ADA) as keys:
        keys.add("demo", "market", SECRET)
        with pytest.raises(KeyTestError, match="The market rejected the key"):
            keys.test("demo", {"market": refuse})
    assert results(home, "key.test") == [("failed", "The market rejected the key."), ("issued", "")]


@pytest.mark.parametrize("good", [True, False])
def test_a_provider_that_echoes_the_key_does_not_get_it_shown(home: Home, good: bool) -> None:
    secret = canary()

    def echo(_home: Home, key: str) -> str:
        if good:
            return f"Welcome, {key}!"
        raise KeyTestError(f"{key!r} is no good.")

    with KeyStore.open(home, ADA) as keys:
        keys.add("demo", "market", secret)
        try:
            said = keys.test("demo", {"market": echo})
        except KeyTestError as error:
            said = str(error)
    assert "[hidden]" in said
    assert leaks(secret, said, home.root) == []


def test_a_short_key_is_not_given_away_by_hiding_its_letters() -> None:
    assert hide_secret("y", "not yet") == "not yet"


def test_a_key_of_a_provider_that_cannot_be_asked_says_which_can(home: Home) -> None:
    with KeyStore.open(home, ADA) as keys:
        keys.add("demo", "rest", SECRET)
        with pytest.raises(KeyTestError, match="Keys of rest cannot be tested; testable: market"):
            keys.test("demo", {"market": lambda _home, _key: ""})
        assert keys.list()[0].last_used_ms is None


def test_a_revoked_or_expired_key_is_not_tested(home: Home, clock: Clock) -> None:
    with KeyStore.open(home, ADA) as keys:
        keys.add("demo", "market", SECRET, expires_ms=NOW_MS + 1)
        clock.now_ms += 1
        with pytest.raises(NotUsableError):
            keys.test("demo", {"market": lambda _home, _key: "asked"})


def test_nobody_waits_for_the_database_while_a_provider_is_asked(home: Home) -> None:
    asked, answer = threading.Event(), threading.Event()

    def slow(_home: Home, _key: str) -> str:
        asked.set()
        assert answer.wait(30)
        return "at last"

    def test_it() -> None:
        with KeyStore.open(home, ADA) as keys:
            keys.test("demo", {"market": slow})

    with KeyStore.open(home, BOB) as keys:
        keys.add("demo", "market", SECRET)
        tester = threading.Thread(target=test_it)
        tester.start()
        assert asked.wait(30)
        keys.add("other", "market", SECRET)  # would fail after 30 s if the test held the lock
        answer.set()
        tester.join()


def test_a_key_that_is_revoked_while_it_is_looked_up_is_not_handed_out(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    with KeyStore.open(home, ADA) as keys, KeyStore.open(home, BOB) as other:
        keys.add("demo", "market", SECRET)
        opened = KeyStore._decrypt

        def revoked_meanwhile(self: KeyStore, row: Row) -> str:
            secret = opened(self, row)
            other.revoke("demo")
            return secret

        monkeypatch.setattr(KeyStore, "_decrypt", revoked_meanwhile)
        with pytest.raises(KeyStoreError, match="changed by another account at the same time"):
            keys.reveal("demo")


def test_who_may_not_manage_keys_does_nothing_with_them(home: Home) -> None:
    trader = Actor.of_account("tess")
    with KeyStore.open(home, ADA) as keys:
        keys.add("demo", "market", SECRET)
    execute(home, "INSERT INTO accounts (name, role, disabled, created_ms) VALUES ('tess', 'trader', 0, 1)")
    with KeyStore.open(home, trader) as keys:
        for act in (
            lambda: keys.add("x", "market", SECRET),
            lambda: keys.rotate("demo", "x"),
            lambda: keys.reveal("demo"),
            lambda: keys.test("demo", {"market": lambda _home, key: key}),
            lambda: keys.revoke("demo"),
            lambda: keys.delete("demo"),
            keys.rotate_kek,
            lambda: keys.reveal("absent"),
        ):
            with pytest.raises(NotAllowedError, match="may not manage API keys"):
                act()
    with KeyStore.open(home, ADA) as keys:
        assert keys.reveal("demo") == SECRET


def test_a_key_counts_to_the_end_of_its_last_day() -> None:
    assert utc_text(end_of_day_ms(date(2026, 12, 31))) == "2027-01-01 00:00 UTC"
