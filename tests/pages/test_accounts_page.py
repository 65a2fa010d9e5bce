"""Who sees which page, and the pages about people."""

from collections.abc import Iterator

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from barmill.audit.accounts import get_account, open_audited_db
from barmill.audit.roles import Actor, Role
from barmill.auth import sign_in
from barmill.auth.administration import add_account, disable_account, set_role
from barmill.auth.preferences import Preferences, preferences, save_preferences
from barmill.auth.sessions import Client, find_session, sessions_of, sign_out
from barmill.auth.settings import SignInSettings
from barmill.platform.clock import now_ms
from barmill.platform.home import REPO_ROOT, Home
from barmill.platform.sqlite_file import Database
from pages.parts.shared import visitor
from tests.pages.conftest import TIMEOUT_S, LookAs, component, opened, texts
from tests.support.signed_in import signed_in as start
from tests.support.stores import fill

ROOT = Actor("os:root")
HERE = Client("192.0.2.1")


@pytest.fixture(autouse=True)
def _use_home(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARMILL_HOME", str(home.root))


@pytest.fixture
def db(home: Home) -> Iterator[Database]:
    with open_audited_db(home) as opened:
        yield opened


def said(app: AppTest) -> list[str]:
    return [message.value.replace("\\", "") for message in (*app.success, *app.error)]


@pytest.mark.parametrize("page", ["overview", "chart", "accounts", "account"])
def test_without_a_session_a_page_shows_nothing_but_the_way_to_sign_in(
    page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visitor, "session_token", lambda: "")
    app = opened(page)
    assert [info.value for info in app.info] == ["You are signed out. [Sign in](/sign-in) to continue."]
    assert texts(app) == ""
    assert not app.sidebar.children


def test_a_session_that_ends_takes_the_page_with_it(db: Database, look_as: LookAs) -> None:
    token = look_as(Role.ADMIN)
    app = opened("accounts")
    assert "Accounts" in texts(app)
    who = find_session(db, token, now_ms())
    assert who is not None
    sign_out(db, who)
    app.button(key="accounts_disable").click().run()
    assert app.info[0].value.startswith("You are signed out.")
    assert texts(app) == ""
    assert not get_account(db, who.account).disabled


def test_the_sidebar_says_who_is_signed_in(look_as: LookAs) -> None:
    look_as(Role.OPERATOR)
    badge = component(opened(), "barmill_visitor")
    assert (badge["name"], badge["role"], badge["theme"]) == ("test-operator", "operator", "system")
    assert "chart" in badge["paths"]
    assert "accounts" not in badge["paths"]


@pytest.mark.parametrize("role", [Role.TRADER, Role.OPERATOR])
def test_only_admins_see_the_accounts(look_as: LookAs, role: Role) -> None:
    look_as(role)
    app = opened("accounts")
    assert "Accounts" not in texts(app)
    assert "Overview" in texts(app)  # where an address that is no page leads


def test_a_page_that_is_open_while_the_role_changes_ends_at_the_next_action(db: Database) -> None:
    add_account(db, ROOT, "root", Role.ADMIN)
    app = opened("accounts")
    set_role(db, ROOT, "test-admin", Role.TRADER)
    app.selectbox(key="accounts_picked").select("root").run()
    assert "Accounts" not in texts(app)


def test_an_action_of_a_page_that_was_open_before_is_refused(db: Database) -> None:
    """What a browser may still send from a page it should not have any more."""
    add_account(db, ROOT, "root", Role.ADMIN)
    app = opened("accounts")
    app.selectbox(key="accounts_picked").select("root").run()
    set_role(db, ROOT, "test-admin", Role.TRADER)
    app.button(key="accounts_disable").click().run()
    assert not get_account(db, "root").disabled


def test_adding_an_account_shows_its_link_once(db: Database) -> None:
    app = opened("accounts")
    app.text_input(key="accounts_name").input(" Bob@Example.com ")
    app.button_group(key="accounts_role").set_value("operator")
    app.button(key="accounts_submit").click().run()
    assert not app.exception
    assert said(app) == ["Added bob@example.com."]
    link = app.code[0].value
    assert link.startswith("http://127.0.0.1:8501/welcome?token=")
    assert sign_in.account_of_link(db, link.partition("=")[2]) == "bob@example.com"
    assert get_account(db, "bob@example.com").role is Role.OPERATOR
    assert not app.run().code


def test_a_name_that_is_refused_is_said(db: Database) -> None:
    app = opened("accounts")
    app.text_input(key="accounts_name").input("a b")
    app.button(key="accounts_submit").click().run()
    assert said(app) == [
        "An account name has 1 to 64 lowercase letters, digits or . _ @ + -, and starts with a letter or digit."
    ]
    assert not app.code
    with pytest.raises(Exception, match="no account named"):
        get_account(db, "a b")


def test_an_account_is_changed(home: Home, db: Database) -> None:
    start(home, Role.TRADER, "bob")
    app = opened("accounts")
    app.selectbox(key="accounts_picked").select("bob").run()
    assert app.button(key="accounts_change_role").disabled
    app.button_group(key="accounts_role_bob").set_value("operator").run()
    app.button(key="accounts_change_role").click().run()
    assert said(app) == ["bob is now operator."]
    assert get_account(db, "bob").role is Role.OPERATOR
    app.button(key="accounts_sign_out_everywhere").click().run()
    assert said(app) == ["bob is signed out everywhere; sessions ended: 1."]
    app.button(key="accounts_disable").click().run()
    assert get_account(db, "bob").disabled
    assert app.button(key="accounts_new_link").disabled
    app.button(key="accounts_enable").click().run()
    assert not get_account(db, "bob").disabled
    app.button(key="accounts_new_link").click().run()
    assert sign_in.account_of_link(db, app.code[0].value.partition("=")[2]) == "bob"


def test_the_last_admin_is_told_why_not(db: Database) -> None:
    app = opened("accounts")
    app.button(key="accounts_disable").click().run()
    assert said(app) == ["test-admin is the last active admin; make another account an admin first."]
    assert not get_account(db, "test-admin").disabled


def test_ones_own_password_is_changed(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    add_account(db, ROOT, "ada", Role.TRADER, "correct horse")
    token = sign_in.sign_in(db, "ada", "correct horse", HERE, SignInSettings())
    sign_in.sign_in(db, "ada", "correct horse", HERE, SignInSettings())
    monkeypatch.setattr(visitor, "session_token", lambda: token)
    monkeypatch.setattr(visitor, "client_address", lambda: HERE.address)
    app = opened("account")
    for old, new, again, sentence in (
        ("correct horse", "battery staple", "battery stable", "The new passwords do not match."),
        ("wrong horse", "battery staple", "battery staple", "The current password is wrong."),
        ("correct horse", "short", "short", "The password has 5 characters; use at least 10."),
        ("correct horse", "battery staple", "battery staple", "The password is changed; other sessions ended: 1."),
    ):
        for name, value in (("old", old), ("new", new), ("again", again)):
            app.text_input(key=f"account_{name}").input(value)
        app.button(key="account_submit").click().run()
        assert said(app) == [sentence]
    assert sign_in.sign_in(db, "ada", "battery staple", HERE, SignInSettings())


def test_ones_own_sessions_are_listed_and_ended(home: Home, db: Database) -> None:
    for _ in range(2):
        start(home)
    app = opened("account")
    assert "this session" in texts(app)
    ends = [button for button in app.button if button.label == "End"]
    assert len(ends) == 2
    ends[0].click().run()
    assert said(app) == ["The session has ended."]
    app.button(key="account_others").click().run()
    assert said(app) == ["You are signed out everywhere else; sessions ended: 1."]
    assert len(sessions_of(db, "test-admin", now_ms())) == 1
    assert app.button(key="account_others").disabled


def test_preferences_are_kept_from_the_form(home: Home, db: Database) -> None:
    fill(home)
    app = opened("account")
    app.button_group(key="account_prefer_theme").set_value("dark")
    app.selectbox(key="account_prefer_zone").set_value("Europe/Vienna")
    app.text_input(key="account_prefer_studies").input("SMA:20, rsi:14")
    app.multiselect(key="account_prefer_favourites").select("BBB")
    app.button(key="account_save").click().run()
    assert not app.exception
    assert said(app) == ["Your preferences are saved; they apply wherever you sign in."]
    kept = preferences(db, "test-admin")
    assert kept == Preferences(theme="dark", zone="Europe/Vienna", studies="sma:20,rsi:14", favourites=("BBB",))
    assert component(app, "barmill_visitor")["theme"] == "dark"


def test_a_preference_that_cannot_be_is_said_and_stays_in_the_form(db: Database) -> None:
    app = opened("account")
    app.text_input(key="account_prefer_studies").input("sma(20)")
    app.button(key="account_save").click().run()
    assert said(app) == ["The preference studies is invalid: write names and numbers such as sma:20,rsi:14."]
    assert app.text_input(key="account_prefer_studies").value == "sma(20)"
    assert preferences(db, "test-admin") == Preferences()


def test_an_open_page_keeps_its_look_when_another_is_chosen_elsewhere(db: Database) -> None:
    app = opened()
    save_preferences(db, ROOT, "test-admin", {"theme": "light"})
    st.cache_data.clear()
    assert component(app.run(), "barmill_visitor")["theme"] == "system"
    assert component(opened(), "barmill_visitor")["theme"] == "light"


def test_one_lands_on_the_page_one_prefers_and_may_leave_it(db: Database) -> None:
    save_preferences(db, ROOT, "test-admin", {"start_page": "chart"})
    app = AppTest.from_file(str(REPO_ROOT / "app.py"), default_timeout=TIMEOUT_S).run()
    assert not app.exception
    assert [header.value for header in app.header] == ["Chart"]
    app.switch_page(str(REPO_ROOT / "pages" / "overview.py")).run()
    assert [header.value for header in app.header] == ["Overview"]
    assert [header.value for header in opened("account").header] == ["My account"]


def test_a_disabled_account_is_out_at_once(db: Database, look_as: LookAs) -> None:
    add_account(db, ROOT, "root", Role.ADMIN)
    look_as(Role.TRADER)
    app = opened("account")
    disable_account(db, ROOT, "test-trader")
    assert app.run().info[0].value.startswith("You are signed out.")
