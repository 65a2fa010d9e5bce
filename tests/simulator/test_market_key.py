"""The demo market's key: who is let in, and how the first key comes about."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from barmill.audit.roles import Actor
from barmill.platform.home import Home
from barmill.secrets.info import NotUsableError
from barmill.secrets.references import parse_reference
from barmill.secrets.store import KeyStore
from barmill.simulator.access import PROVIDER, SECRET_NAME, AccessFileError, AccessKeys, ensure_market_key

ADA = Actor("ada")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.delenv("BARMILL_KEK", raising=False)
    return Home(tmp_path / "home").create()


def stored_key(home: Home) -> str:
    with KeyStore.open(home, ADA) as store:
        return store.reveal(SECRET_NAME)


def entries(home: Home) -> list[dict[str, object]]:
    found = json.loads((home.market / "keys.json").read_text())["keys"]
    assert isinstance(found, list)
    return found


def test_the_first_key_is_made_once_and_known_to_the_market_by_its_digest(home: Home) -> None:
    ensure_market_key(home)
    key = stored_key(home)
    ensure_market_key(home)
    assert stored_key(home) == key
    assert len(key) >= 43
    path = home.market / "keys.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert key not in path.read_text()
    (entry,) = entries(home)
    assert entry["sha256"] == hashlib.sha256(key.encode()).hexdigest()
    assert AccessKeys.of(home).refusal(key) is None


def test_a_start_that_was_cut_off_before_the_key_was_stored_is_made_good(home: Home) -> None:
    AccessKeys.of(home).grant(SECRET_NAME, "a key that was lost")
    ensure_market_key(home)
    assert len(entries(home)) == 1
    assert AccessKeys.of(home).refusal(stored_key(home)) is None
    assert AccessKeys.of(home).refusal("a key that was lost") is not None


def test_a_lost_market_folder_gets_the_stored_key_back(home: Home) -> None:
    ensure_market_key(home)
    key = stored_key(home)
    (home.market / "keys.json").unlink()
    ensure_market_key(home)
    assert stored_key(home) == key
    assert AccessKeys.of(home).refusal(key) is None


def test_a_lost_control_database_gets_a_new_key(home: Home) -> None:
    ensure_market_key(home)
    old = stored_key(home)
    for path in home.root.glob("control.sqlite*"):
        path.unlink()
    ensure_market_key(home)
    assert stored_key(home) != old
    assert AccessKeys.of(home).refusal(stored_key(home)) is None
    assert AccessKeys.of(home).refusal(old) is not None


def test_a_revoked_key_stays_revoked(home: Home) -> None:
    ensure_market_key(home)
    AccessKeys.of(home).revoke(SECRET_NAME)
    ensure_market_key(home)
    assert "has been revoked" in (AccessKeys.of(home).refusal(stored_key(home)) or "")


def test_a_key_that_was_revoked_in_the_key_store_stays_revoked(home: Home) -> None:
    ensure_market_key(home)
    with KeyStore.open(home, ADA) as store:
        store.revoke(SECRET_NAME)
    ensure_market_key(home)
    with KeyStore.open(home, ADA) as store, pytest.raises(NotUsableError, match="is revoked"):
        store.reveal(SECRET_NAME)


def test_a_key_that_is_kept_elsewhere_is_left_alone(home: Home) -> None:
    with KeyStore.open(home, ADA) as store:
        store.add(SECRET_NAME, PROVIDER, parse_reference("env:MARKET_KEY_OF_THE_TEST"))
    ensure_market_key(home)
    assert not (home.market / "keys.json").exists()


def test_many_first_starts_at_once_agree_on_one_key(home: Home) -> None:
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: ensure_market_key(home), range(6)))
    assert len(entries(home)) == 1
    assert AccessKeys.of(home).refusal(stored_key(home)) is None


def test_a_change_of_the_file_counts_at_once(home: Home) -> None:
    watching, changing = AccessKeys.of(home), AccessKeys.of(home)
    assert watching.refusal("one") is not None
    changing.grant("first", "one")
    changing.grant("second", "two")
    assert watching.refusal("one") is None
    assert watching.refusal("two") is None
    changing.revoke("first")
    assert "revoked" in (watching.refusal("one") or "")
    assert watching.refusal("two") is None


def test_a_damaged_file_lets_nobody_in_and_says_so(home: Home) -> None:
    (home.market / "keys.json").write_text('{"keys": [{"name"')
    with pytest.raises(AccessFileError, match="delete it and start again"):
        AccessKeys.of(home).refusal("key")
