"""Sessions: how long they live, and everything that ends them."""

from collections.abc import Iterator

import pytest

from barmill.audit.accounts import AccountError, get_account, open_audited_db
from barmill.audit.roles import Actor, Role
from barmill.audit.trail import Search, search
from barmill.auth import sessions
from barmill.auth.administration import insert_account, set_role
from barmill.auth.sessions import Client, SignedInUser, end_all_sessions, sessions_of, start_session, touch
from barmill.auth.settings import SignInSettings, app_address
from barmill.platform.errors import NotAllowedError
from barmill.platform.home import Home
from barmill.platform.settings_file import SettingsError
from barmill.platform.sqlite_file import Database, immediate

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
START_MS = 1_700_000_000_000
ADA = Actor.of_account("ada")


@pytest.fixture
def db(home: Home) -> Iterator[Database]:
    with open_audited_db(home) as opened:
        with immediate(opened):
            insert_account(opened, "ada", Role.ADMIN)
            insert_account(opened, "bob", Role.TRADER)
        yield opened


def start(db: Database, account: str = "bob", at_ms: int = START_MS, settings: SignInSettings | None = None) -> str:
    with immediate(db):
        return start_session(db, account, Client("192.0.2.1"), settings or SignInSettings(), at_ms)


def look(db: Database, token: str, at_ms: int = START_MS) -> SignedInUser:
    who = sessions.find_session(db, token, at_ms)
    assert who is not None
    return who


def test_a_session_ends_after_eight_hours_without_use(db: Database) -> None:
    token = start(db)
    assert look(db, token, START_MS + 8 * HOUR_MS - 1).account == "bob"
    assert sessions.find_session(db, token, START_MS + 8 * HOUR_MS) is None


def test_use_keeps_a_session_alive_for_a_week_and_no_longer(db: Database) -> None:
    token = start(db)
    for hours in range(7, 7 * 24, 7):
        touch(db, look(db, token, START_MS + hours * HOUR_MS).session, START_MS + hours * HOUR_MS)
    assert look(db, token, START_MS + 7 * DAY_MS - 1)
    assert sessions.find_session(db, token, START_MS + 7 * DAY_MS) is None


def test_both_times_can_be_set(home: Home, db: Database) -> None:
    (home.root / "sign-in.json").write_text('{"idle_hours": 0.5, "session_days": 1}')
    token = start(db, settings=SignInSettings.read(home))
    assert sessions.find_session(db, token, START_MS + HOUR_MS // 2) is None
    assert sessions_of(db, "bob", START_MS)[0].expires_ms == START_MS + DAY_MS


def test_use_is_noted_once_a_minute(db: Database) -> None:
    who = look(db, start(db))
    touch(db, who.session, START_MS + 59_999)
    assert sessions_of(db, "bob", START_MS)[0].last_seen_ms == START_MS
    touch(db, who.session, START_MS + 60_000)
    assert sessions_of(db, "bob", START_MS)[0].last_seen_ms == START_MS + 60_000
    assert get_account(db, "bob").last_seen_ms == START_MS + 60_000


@pytest.mark.parametrize("token", ["", "x", "x" * 100_000, "' OR 1=1 --"])
def test_no_other_token_opens_anything(db: Database, token: str) -> None:
    start(db)
    assert sessions.find_session(db, token, START_MS) is None


def test_the_role_is_the_present_one(db: Database) -> None:
    token = start(db)
    set_role(db, ADA, "bob", Role.OPERATOR)
    assert look(db, token).role is Role.OPERATOR


def test_signing_out_ends_this_session_only(db: Database) -> None:
    here, there = start(db), start(db)
    sessions.sign_out(db, look(db, here))
    assert sessions.find_session(db, here, START_MS) is None
    assert look(db, there)
    assert [(record.actor, record.subject) for record in search(db, Search(action="account.sign_out"))] == [
        ("bob", "bob")
    ]


def test_one_ends_ones_own_sessions_and_nobody_elses(db: Database) -> None:
    here, there, adas = start(db), start(db), start(db, "ada")
    who = look(db, here)
    with pytest.raises(AccountError, match="already ended"):
        sessions.end_own_session(db, who, look(db, adas).session)
    sessions.end_own_session(db, who, look(db, there).session)
    assert sessions.find_session(db, there, START_MS) is None
    start(db)
    assert sessions.end_own_other_sessions(db, who) == 1
    assert [session.id for session in sessions_of(db, "bob", START_MS)] == [who.session]
    assert look(db, adas)


def test_an_admin_signs_somebody_out_everywhere(db: Database) -> None:
    tokens = [start(db), start(db)]
    with pytest.raises(NotAllowedError):
        end_all_sessions(db, Actor.of_account("bob"), "ada")
    assert end_all_sessions(db, ADA, "bob") == 2
    assert [sessions.find_session(db, token, START_MS) for token in tokens] == [None, None]


def test_sessions_that_are_over_are_cleared_away(db: Database) -> None:
    start(db)
    start(db, at_ms=START_MS + 9 * HOUR_MS)
    assert db.table("sessions").count == 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "Invalid JSON"),
        ('{"idle": 1}', "idle: Extra inputs"),
        ('{"idle_hours": 0}', "idle_hours: Input should be greater than 0"),
        ('{"public_url": "barmill.example.com"}', "public_url: .* must be an address such as https"),
        (
            '{"proxy": "10.0.0.0/8"}',
            "proxy: .* contains 16,777,216 addresses, and each of them could claim",
        ),
        ('{"proxy": "0.0.0.0/0"}', "proxy: .* contains 4,294,967,296 addresses"),
        ('{"proxy": "2001:db8::/64"}', "proxy: .* a network of at most 256 addresses with no other machine in it"),
        ('{"proxy": "*"}', "proxy: "),
        ('{"public_url": "https://barmill.example.com/x"}', "public_url: .* without a path"),
    ],
)
def test_settings_that_make_no_sense_are_one_sentence(home: Home, text: str, problem: str) -> None:
    (home.root / "sign-in.json").write_text(text)
    with pytest.raises(SettingsError, match=problem):
        SignInSettings.read(home)


@pytest.mark.parametrize("proxy", ["127.0.0.1", "10.213.7.0/29", "10.244.3.0/24", "2001:db8::7"])
def test_a_proxy_is_believed_only_where_there_is_a_public_address(proxy: str) -> None:
    public = SignInSettings.model_validate({"public_url": "https://barmill.example.com", "proxy": proxy})
    assert (public.trusted_proxy, SignInSettings.model_validate({"proxy": proxy}).trusted_proxy) == (proxy, None)


def test_links_lead_to_the_public_address_where_there_is_one(home: Home) -> None:
    assert app_address(home, "/welcome") == "http://127.0.0.1:8501/welcome"
    (home.root / "sign-in.json").write_text('{"public_url": "https://Barmill.example.com/"}')
    assert app_address(home, "/welcome") == "https://barmill.example.com/welcome"
