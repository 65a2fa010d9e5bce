"""Being let in, by password and by link, and what is on record about it."""

import threading
from collections.abc import Iterator
from typing import Literal

import pytest
from argon2 import PasswordHasher

from barmill.audit.accounts import LinkError, PasswordRuleError, SignInError, TooManyFailuresError, open_audited_db
from barmill.audit.roles import Actor, Role
from barmill.audit.trail import Search, search
from barmill.auth import administration, sign_in
from barmill.auth.administration import (
    add_account,
    disable_account,
    hash_password,
    insert_account,
    is_outdated,
    new_link,
    password_matches,
)
from barmill.auth.sessions import Client, SignedInUser, find_session, sessions_of
from barmill.auth.settings import SignInSettings
from barmill.platform.clock import now_ms
from barmill.platform.home import Home
from barmill.platform.sqlite_file import Database, immediate

ROOT = Actor("os:root")
SETTINGS = SignInSettings()
HERE, ELSEWHERE = Client("192.0.2.1", "Firefox"), Client("198.51.100.7")
PASSWORD = "correct horse"


@pytest.fixture(autouse=True)
def _quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(administration, "_hasher", PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
    administration._dummy_hash.cache_clear()


@pytest.fixture
def db(home: Home) -> Iterator[Database]:
    with open_audited_db(home) as opened:
        add_account(opened, ROOT, "root", Role.ADMIN)
        add_account(opened, ROOT, "ada", Role.TRADER, PASSWORD)
        yield opened


def enter(db: Database, name: str = "ada", password: str = PASSWORD, client: Client = HERE) -> SignedInUser:
    who = find_session(db, sign_in.sign_in(db, name, password, client, SETTINGS), now_ms())
    assert who is not None
    return who


def results(db: Database, action: str = "account.sign_in") -> list[tuple[str, str, str, str]]:
    return [(record.actor, record.subject, record.stage, record.result) for record in search(db, Search(action=action))]


def test_the_right_password_opens_a_session_of_its_own_each_time(db: Database) -> None:
    first, second = enter(db), enter(db, " Ada ", client=ELSEWHERE)
    assert (first.account, first.role) == ("ada", Role.TRADER)
    assert first.session != second.session
    kept = sessions_of(db, "ada", now_ms())
    assert [(session.id, session.address, session.user_agent) for session in kept] == [
        (second.session, "198.51.100.7", ""),
        (first.session, "192.0.2.1", "Firefox"),
    ]
    assert results(db) == [("ada", "ada", "executed", "")] * 2


@pytest.mark.parametrize(
    ("name", "password", "subject", "why"),
    [
        ("ada", "wrong horse", "ada", "wrong password"),
        ("ada", "", "ada", "wrong password"),
        ("ada", "x" * 5_000, "ada", "wrong password"),
        ("root", PASSWORD, "root", "wrong password"),  # no password was chosen yet
        ("correct horse", "ada", "unknown", "unknown name"),
        ("", "", "unknown", "unknown name"),
    ],
)
def test_whatever_is_wrong_the_answer_is_the_same(
    db: Database, name: str, password: str, subject: str, why: str
) -> None:
    with pytest.raises(SignInError) as refused:
        sign_in.sign_in(db, name, password, HERE, SETTINGS)
    assert str(refused.value) == "The name or the password is wrong."
    assert results(db) == [("visitor", subject, "refused", f"{why}, from 192.0.2.1")]
    assert "horse" not in "\n".join(line for line in db.conn.iterdump() if "audit" in line)


def test_an_unknown_name_costs_as_much_as_a_known_one(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    verified = []

    class Counting(PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:
            verified.append(hash)
            return super().verify(hash, password)

    monkeypatch.setattr(administration, "_hasher", Counting(time_cost=1, memory_cost=64, parallelism=1))
    for name in ("ada", "unknown", "root"):
        with pytest.raises(SignInError):
            sign_in.sign_in(db, name, "wrong horse", HERE, SETTINGS)
    assert len(verified) == 3


def test_a_disabled_account_is_told_so_only_to_who_has_the_password(db: Database) -> None:
    disable_account(db, ROOT, "ada")
    with pytest.raises(SignInError, match="The name or the password is wrong"):
        enter(db, password="wrong horse")
    with pytest.raises(SignInError, match="This account is disabled; ask an admin"):
        enter(db)
    assert results(db)[0] == ("visitor", "ada", "refused", "disabled account, from 192.0.2.1")


def test_twenty_wrong_passwords_slow_down_but_the_owner_gets_in(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = []
    for number in range(20):
        with pytest.raises(SignInError) as refused:
            enter(db, password=f"wrong horse {number}")
        if isinstance(refused.value, TooManyFailuresError):
            waits.append(refused.value.wait_s)
    assert len(waits) == 16
    with pytest.raises(TooManyFailuresError):
        enter(db)  # also with the right password, from the attacker's address
    enter(db, client=ELSEWHERE)
    later_ms = now_ms() + waits[-1] * 1_000
    monkeypatch.setattr(sign_in, "now_ms", lambda: later_ms)
    enter(db)
    assert [record[2] for record in results(db)] == [
        "executed",
        "executed",
        *["refused"] * 4,
    ]  # what was not tried is no news


@pytest.mark.usefixtures("db")
def test_guesses_made_at_the_same_time_gain_nothing(home: Home) -> None:
    outcomes: list[BaseException] = []

    def guess() -> None:
        with open_audited_db(home) as own, pytest.raises(SignInError) as refused:
            sign_in.sign_in(own, "ada", "wrong horse", HERE, SETTINGS)
        outcomes.append(refused.value)

    threads = [threading.Thread(target=guess) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(not isinstance(error, TooManyFailuresError) for error in outcomes) == 4
    assert len(outcomes) == 12


def test_a_hash_of_yesterdays_parameters_is_made_anew(db: Database) -> None:
    old = PasswordHasher(time_cost=1, memory_cost=32, parallelism=1).hash(PASSWORD)
    with immediate(db):
        insert_account(db, "old", Role.TRADER, password_hash=old)
    assert is_outdated(old)
    enter(db, "old")
    (renewed,) = db.conn.execute("SELECT password_hash FROM accounts WHERE name = 'old'").fetchone()
    assert renewed != old
    assert not is_outdated(renewed)
    enter(db, "old")


def test_the_same_letters_are_the_same_password_however_they_are_typed() -> None:
    assert password_matches(hash_password("Gru\u0308ße aus Köln"), "Grüße aus Ko\u0308ln")


def test_a_link_works_once_and_ends_what_was_before(db: Database) -> None:
    before = enter(db)
    token = new_link(db, ROOT, "ada")
    assert sign_in.account_of_link(db, token) == "ada"
    with pytest.raises(PasswordRuleError):
        sign_in.set_first_password(db, token, "short", HERE, SETTINGS)
    who = find_session(db, sign_in.set_first_password(db, token, "battery staple", HERE, SETTINGS), now_ms())
    assert who is not None
    assert [session.id for session in sessions_of(db, "ada", now_ms())] == [who.session] != [before.session]
    with pytest.raises(LinkError, match="used, replaced, or has expired; ask an admin"):
        sign_in.account_of_link(db, token)
    with pytest.raises(LinkError):
        sign_in.set_first_password(db, token, PASSWORD, HERE, SETTINGS)
    enter(db, password="battery staple")
    with pytest.raises(SignInError):
        enter(db)
    chosen = search(db, Search(action="account.password"))[0]
    assert (chosen.actor, chosen.after) == ("ada", '{"how": "one-time link", "sessions_ended": 1}')


def test_a_link_is_dead_after_a_day(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    token = new_link(db, ROOT, "ada")
    tomorrow_ms = now_ms() + 24 * 3_600_000
    monkeypatch.setattr(sign_in, "now_ms", lambda: tomorrow_ms)
    with pytest.raises(LinkError):
        sign_in.set_first_password(db, token, "battery staple", HERE, SETTINGS)


def test_a_link_opened_in_two_places_chooses_one_password(home: Home, db: Database) -> None:
    token, outcomes = new_link(db, ROOT, "ada"), list[str]()

    def choose(number: int) -> None:
        with open_audited_db(home) as own:
            try:
                sign_in.set_first_password(own, token, f"battery staple {number}", HERE, SETTINGS)
            except LinkError:
                outcomes.append("refused")
            else:
                outcomes.append("chosen")

    threads = [threading.Thread(target=choose, args=[number]) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["chosen", *["refused"] * 5]


def test_a_password_change_needs_the_old_one_and_ends_the_other_sessions(db: Database) -> None:
    here, elsewhere = enter(db), enter(db, client=ELSEWHERE)
    link = new_link(db, ROOT, "ada")
    with pytest.raises(SignInError):
        sign_in.change_password(db, here, "wrong horse", "battery staple", HERE)
    assert len(sessions_of(db, "ada", now_ms())) == 2
    assert sign_in.change_password(db, here, PASSWORD, "battery staple", HERE) == 1
    assert [session.id for session in sessions_of(db, "ada", now_ms())] == [here.session] != [elsewhere.session]
    with pytest.raises(LinkError):
        sign_in.account_of_link(db, link)
    enter(db, password="battery staple")
    assert [record[2] for record in results(db, "account.password")] == ["executed", "refused"]


def test_guessing_the_old_password_in_a_stolen_session_is_slowed_down_too(db: Database) -> None:
    who = enter(db)
    for _ in range(4):
        with pytest.raises(SignInError, match="is wrong"):
            sign_in.change_password(db, who, "wrong horse", "battery staple", HERE)
    with pytest.raises(TooManyFailuresError):
        sign_in.change_password(db, who, PASSWORD, "battery staple", HERE)
