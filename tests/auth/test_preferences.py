"""What each account prefers, and who may change it."""

import json
from collections.abc import Iterator

import pytest

from barmill.audit.accounts import NoSuchAccountError, PreferenceError, open_audited_db
from barmill.audit.roles import Actor, Role
from barmill.audit.trail import Search, search
from barmill.auth.administration import disable_account, insert_account
from barmill.auth.preferences import Preferences, preferences, save_preferences
from barmill.platform.errors import NotAllowedError
from barmill.platform.home import Home
from barmill.platform.sqlite_file import Database, immediate

ROOT = Actor("os:root")
ADA, BOB = Actor.of_account("ada"), Actor.of_account("bob")


@pytest.fixture
def db(home: Home) -> Iterator[Database]:
    with open_audited_db(home) as opened:
        with immediate(opened):
            insert_account(opened, "ada", Role.ADMIN)
            insert_account(opened, "bob", Role.TRADER)
        yield opened


def test_whoever_never_chose_gets_the_defaults(db: Database) -> None:
    assert preferences(db, "bob") == Preferences()
    assert Preferences().model_dump() == {
        "theme": "system",
        "frame": "1m",
        "kind": "candles",
        "studies": "",
        "zone": "UTC",
        "scale": "linear",
        "fill": False,
        "favourites": (),
        "start_page": "overview",
        "frames": "1s,1m,1h",
    }


def test_a_choice_lasts_and_leaves_the_others_alone(home: Home, db: Database) -> None:
    save_preferences(db, BOB, "bob", {"favourites": ("AAA/USD", "BBB", "AAA/USD")})
    save_preferences(db, BOB, "bob", {"theme": "dark", "frame": "60m", "studies": "SMA:20, rsi:14"})
    with open_audited_db(home) as later:
        assert preferences(later, "bob") == Preferences(
            theme="dark", frame="1h", studies="sma:20,rsi:14", favourites=("AAA/USD", "BBB")
        )
        assert preferences(later, "ada") == Preferences()


def test_the_trail_says_what_changed_and_nothing_else(db: Database) -> None:
    save_preferences(db, BOB, "bob", {"theme": "dark", "zone": "UTC"})
    (record,) = search(db, Search(action="account.preferences"))
    assert (record.actor, record.subject, record.stage) == ("bob", "bob", "executed")
    assert json.loads(record.before or "") == {"theme": "system"}
    assert json.loads(record.after or "") == {"theme": "dark"}


def test_only_what_was_chosen_is_kept(db: Database) -> None:
    save_preferences(db, BOB, "bob", {"theme": "dark", "fill": True})
    save_preferences(db, BOB, "bob", {"theme": "system"})
    assert db.conn.execute("SELECT account, settings FROM preferences").fetchall() == [("bob", '{"fill":true}')]


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("theme", "pink", "The preference theme is invalid: Input should be 'system', 'light' or 'dark'."),
        (
            "frame",
            "7x",
            "The preference frame is invalid: '7x' is not a time frame: write a whole number and one of s,",
        ),
        ("studies", "sma(20)", "The preference studies is invalid: write names and numbers such as sma:20,rsi:14."),
        ("zone", "Atlantis", "The preference zone is invalid: write UTC, local, exchange or a name such as"),
        ("favourites", ("",), "The preference favourites is invalid: "),
        (
            "colour",
            "red",
            "There is no preference colour; choose one of theme, frame, kind, studies, zone, scale, fill,",
        ),
    ],
)
def test_what_cannot_be_is_said_and_changes_nothing(db: Database, name: str, value: object, sentence: str) -> None:
    with pytest.raises(PreferenceError) as refused:
        save_preferences(db, BOB, "bob", {"fill": True, name: value})
    assert str(refused.value).startswith(sentence)
    assert preferences(db, "bob") == Preferences()
    assert search(db, Search(action="account.preferences"))[0].stage == "refused"


def test_an_admin_may_change_those_of_others_and_nobody_else_may(db: Database) -> None:
    save_preferences(db, ADA, "bob", {"zone": "Europe/Vienna"})
    save_preferences(db, ROOT, "bob", {"scale": "log"})
    with pytest.raises(NotAllowedError, match="As trader, bob may not manage accounts"):
        save_preferences(db, BOB, "ada", {"theme": "dark"})
    assert preferences(db, "bob") == Preferences(zone="Europe/Vienna", scale="log")
    assert preferences(db, "ada") == Preferences()


def test_nobody_who_is_not_there_has_any(db: Database) -> None:
    with pytest.raises(NoSuchAccountError, match="There is no account named zoe"):
        save_preferences(db, ROOT, "zoe", {"theme": "dark"})
    disable_account(db, ADA, "bob")
    with pytest.raises(NotAllowedError, match="bob is disabled"):
        save_preferences(db, BOB, "bob", {"theme": "dark"})


def test_what_is_no_longer_understood_is_as_if_never_chosen(db: Database) -> None:
    stored = json.dumps({"theme": "sepia", "scale": "log", "margins": 3})
    db.conn.execute("INSERT INTO preferences VALUES ('bob', ?, 0)", (stored,))
    assert preferences(db, "bob") == Preferences(scale="log")
