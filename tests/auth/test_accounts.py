"""What admins may do with accounts, and what no role may do."""

from collections.abc import Callable, Iterator

import pytest

from barmill.audit.accounts import (
    AccountError,
    LastAdminError,
    NoSuchAccountError,
    PasswordRuleError,
    all_accounts,
    get_account,
    open_audited_db,
)
from barmill.audit.actions import action
from barmill.audit.roles import Actor, Permission, Role
from barmill.audit.trail import Search, search, verify_chain
from barmill.auth.administration import (
    add_account,
    disable_account,
    enable_account,
    first_admin_link,
    insert_account,
    new_link,
    set_role,
)
from barmill.auth.sessions import find_session
from barmill.auth.sign_in import account_of_link
from barmill.platform.clock import now_ms
from barmill.platform.errors import ControlError, NotAllowedError
from barmill.platform.home import Home
from barmill.platform.sqlite_file import Database, immediate
from tests.support.signed_in import signed_in as start

ROOT = Actor("os:root")
ADA = Actor.of_account("ada")


@pytest.fixture
def db(home: Home) -> Iterator[Database]:
    with open_audited_db(home) as opened:
        with immediate(opened):
            insert_account(opened, "ada", Role.ADMIN, password_hash="a hash")
        yield opened


def records(db: Database, name: str) -> list[tuple[str, str, str, str | None]]:
    return [(record.actor, record.subject, record.stage, record.after) for record in search(db, Search(action=name))]


def test_an_account_is_added_and_listed(db: Database) -> None:
    add_account(db, ADA, "bob@example.com", Role.TRADER)
    ada, bob = all_accounts(db)
    assert (ada.name, ada.role, ada.disabled, ada.has_password, ada.awaits_sign_in) == (
        "ada",
        Role.ADMIN,
        False,
        True,
        False,
    )
    assert (bob.name, bob.role, bob.has_password, bob.awaits_sign_in) == ("bob@example.com", Role.TRADER, False, True)
    assert abs(bob.created_ms - now_ms()) < 60_000
    assert bob.last_seen_ms is None
    assert records(db, "account.add")[0] == ("ada", "bob@example.com", "executed", '{"role": "trader"}')


@pytest.mark.parametrize("name", ["", "Ada", "a b", "-a", "a" * 65, "a/b", "ä"])
def test_a_name_that_would_be_trouble_is_refused(db: Database, name: str) -> None:
    with pytest.raises(AccountError, match="An account name has 1 to 64"):
        add_account(db, ROOT, name, Role.TRADER)


def test_a_name_is_given_once(db: Database) -> None:
    with pytest.raises(AccountError, match="An account named ada already exists; choose another name"):
        add_account(db, ROOT, "ada", Role.TRADER)
    assert get_account(db, "ada").role is Role.ADMIN


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("too short", "9 characters; use at least 10"),
        ("bob.example", "the account's name"),
        ("0" * 10, "a single character"),
    ],
)
def test_a_password_that_is_easily_guessed_is_refused(db: Database, password: str, why: str) -> None:
    with pytest.raises(PasswordRuleError, match=why):
        add_account(db, ROOT, "bob.example", Role.TRADER, password)
    assert [account.name for account in all_accounts(db)] == ["ada"]


def test_a_role_change_holds_at_the_next_action(db: Database) -> None:
    add_account(db, ROOT, "bob", Role.ADMIN)
    set_role(db, ADA, "bob", Role.TRADER)
    with (
        pytest.raises(NotAllowedError, match="As trader, bob may not manage accounts"),
        action(db, Actor.of_account("bob"), "x", "y", needs=Permission.MANAGE_ACCOUNTS),
    ):
        pass
    assert records(db, "account.role") == [("ada", "bob", "executed", '{"role": "trader"}')]


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.TRADER])
@pytest.mark.parametrize(
    "change",
    [
        lambda db, actor: add_account(db, actor, "carol", Role.ADMIN),
        lambda db, actor: set_role(db, actor, "bob", Role.ADMIN),
        lambda db, actor: disable_account(db, actor, "ada"),
        lambda db, actor: enable_account(db, actor, "ada"),
        lambda db, actor: new_link(db, actor, "ada"),
    ],
)
def test_only_admins_change_accounts(db: Database, role: Role, change: Callable[[Database, Actor], object]) -> None:
    add_account(db, ROOT, "bob", role)
    before = all_accounts(db)
    with pytest.raises(NotAllowedError, match="may not manage accounts; ask an admin"):
        change(db, Actor.of_account("bob"))
    assert all_accounts(db) == before
    assert search(db, Search(actor="bob"))[0].stage == "refused"


@pytest.mark.parametrize(
    "change", [lambda db: disable_account(db, ADA, "ada"), lambda db: set_role(db, ADA, "ada", Role.OPERATOR)]
)
def test_the_last_active_admin_stays(db: Database, change: Callable[[Database], None]) -> None:
    add_account(db, ROOT, "bob", Role.ADMIN)
    disable_account(db, ADA, "bob")
    with pytest.raises(LastAdminError, match="ada is the last active admin; make another account an admin first"):
        change(db)
    enable_account(db, ADA, "bob")
    change(db)
    assert get_account(db, "bob").role is Role.ADMIN


def test_disabling_ends_sessions_and_the_link_at_once_and_enabling_gives_nothing_back(home: Home, db: Database) -> None:
    token, link = start(home, Role.TRADER, "bob"), new_link(db, ADA, "bob")
    disable_account(db, ADA, "bob")
    assert find_session(db, token, now_ms()) is None
    with pytest.raises(AccountError, match="bob is disabled; enable it first"):
        new_link(db, ADA, "bob")
    enable_account(db, ADA, "bob")
    assert find_session(db, token, now_ms()) is None
    with pytest.raises(AccountError):
        account_of_link(db, link)


def test_a_name_nobody_has_is_one_sentence(db: Database) -> None:
    for change in (new_link, disable_account, enable_account):
        with pytest.raises(NoSuchAccountError, match="There is no account named zoe"):
            change(db, ROOT, "zoe")


def test_the_first_admin_gets_a_link_until_an_admin_can_sign_in(home: Home) -> None:
    first = first_admin_link(home)
    assert first is not None
    second = first_admin_link(home)
    assert second is not None
    assert first[0] == second[0] == "admin"
    with open_audited_db(home) as db:
        assert [(account.name, account.role, account.awaits_sign_in) for account in all_accounts(db)] == [
            ("admin", Role.ADMIN, True)
        ]
        with pytest.raises(ControlError, match="used, replaced"):
            account_of_link(db, first[1])
        assert account_of_link(db, second[1]) == "admin"
        add_account(db, ROOT, "ada", Role.ADMIN, "correct horse")
        assert first_admin_link(home) is None
        assert verify_chain(db).problem == ""


def test_no_password_and_no_token_is_in_the_database(home: Home, db: Database) -> None:
    add_account(db, ROOT, "bob", Role.TRADER, "correct horse")
    token, link = start(home, Role.TRADER, "bob"), new_link(db, ADA, "bob")
    dump = "\n".join(db.conn.iterdump())
    assert all(secret not in dump for secret in ("correct horse", token, link))
    assert "$argon2id$" in dump
