"""The API keys page: what it shows of keys, what it does with them, and what it never shows."""

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
from streamlit.runtime.state.session_state import SessionState
from streamlit.testing.v1 import AppTest

from barmill.audit.accounts import open_audited_db
from barmill.audit.roles import Actor, Role
from barmill.platform.home import REPO_ROOT, Home
from barmill.platform.sqlite_file import immediate
from barmill.secrets.settings import ALL_VARIABLES
from barmill.secrets.store import KeyStore
from tests.pages.conftest import TIMEOUT_S, LookAs
from tests.support.canary import canary, leaks
from tests.support.key_tests import settle_port
from tests.support.market_process import KEY, running_market

ADA = Actor("ada")


@pytest.fixture(autouse=True)
def _use_home(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ALL_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BARMILL_HOME", str(home.root))


@pytest.fixture
def demo(home: Home) -> Home:
    """A home with one key, `demo`."""
    with KeyStore.open(home, ADA) as store:
        store.add("demo", "market", KEY)
    return home


def opened() -> AppTest:
    app = AppTest.from_file(str(REPO_ROOT / "app.py"), default_timeout=TIMEOUT_S)
    app = app.switch_page(str(REPO_ROOT / "pages" / "keys.py")).run()
    assert not app.exception
    return app


def click(app: AppTest, key: str) -> AppTest:
    app.button(key=key).click().run()
    assert not app.exception
    return app


def texts(app: AppTest) -> str:
    shown = (*app.header, *app.subheader, *app.markdown, *app.caption, *app.success, *app.warning, *app.error)
    return "\n".join(str(element.value) for element in shown)


def errors(app: AppTest) -> list[str]:
    return [error.value for error in app.error]


def everything_sent(app: AppTest) -> Iterator[bytes]:
    """Yield every message that a browser was sent in the last run."""
    waiting: list[Any] = [app._tree]
    while waiting:
        node = waiting.pop()
        waiting += getattr(node, "children", {}).values()
        if getattr(node, "proto", None) is not None:
            yield node.proto.SerializeToString()


def everything_kept(app: AppTest) -> str:
    """Return all that the session remembers, of widgets too."""
    state: Any = app.session_state
    while not isinstance(state, SessionState):
        state = object.__getattribute__(state, "_state")
    return repr([state._old_state, state._new_session_state, state._new_widget_state.states])


def stored(home: Home) -> dict[str, str]:
    with KeyStore.open(home, ADA) as store:
        return {info.name: store.reveal(info.name) for info in store.list()}


def test_an_empty_page_teaches_how_keys_work() -> None:
    app = opened()
    assert "No keys yet" in texts(app)
    assert "./barmill key add NAME --provider PROVIDER" in texts(app)
    assert [button.label for button in app.button] == ["Add a key"]


def test_a_key_is_added_and_its_secret_stays_nowhere(home: Home) -> None:
    secret = canary()
    app = click(opened(), "keys_add")
    app.text_input(key="keys_name").set_value("demo")
    last_day = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=400)
    app.date_input(key="keys_expires").set_value(last_day)
    field = app.text_input(key="keys_secret")
    assert field.proto.type == field.proto.PASSWORD
    field.set_value(secret)
    click(app, "keys_submit")
    assert "The key demo is stored." in texts(app)
    assert [subheader.value for subheader in app.subheader] == ["demo"]
    assert f"expires {last_day + dt.timedelta(days=1)} 00:00 UTC" in texts(app)
    assert [text_input.label for text_input in app.text_input] == []
    for _ in range(2):
        assert list(everything_sent(app))
        assert leaks(secret, home.root, everything_kept(app), *everything_sent(app)) == []
        app.run()
    assert "The key demo is stored." not in texts(app)
    assert stored(home) == {"demo": secret}


def test_what_is_refused_keeps_the_dialog_and_drops_the_secret(demo: Home) -> None:
    secret = canary()
    app = click(opened(), "keys_add")
    app.text_input(key="keys_name").set_value("demo")
    app.text_input(key="keys_secret").set_value(secret)
    click(app, "keys_submit")
    assert any("already exists; give it a new secret" in error for error in errors(app))
    assert app.text_input(key="keys_name").value == "demo"
    assert app.text_input(key="keys_secret").value == ""
    assert leaks(secret, demo.root, everything_kept(app), *everything_sent(app)) == []
    app.text_input(key="keys_name").set_value("other")
    app.text_input(key="keys_secret").set_value(secret)
    click(app, "keys_submit")
    assert stored(demo) == {"demo": KEY, "other": secret}


def test_a_reference_is_added_instead_of_a_secret(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    app = click(opened(), "keys_add")
    app.text_input(key="keys_name").set_value("demo")
    app.button_group(key="keys_storage").set_value("By reference").run()
    app.text_input(key="keys_reference").set_value("nonsense")
    click(app, "keys_submit")
    assert any("write env:NAME or vault:MOUNT/PATH#FIELD" in error.replace("\\", "") for error in errors(app))
    app.text_input(key="keys_reference").set_value(" env:MARKET_KEY ")
    click(app, "keys_submit")
    assert "stored in env\\:MARKET\\_KEY" in texts(app)
    monkeypatch.setenv("MARKET_KEY", "elsewhere")
    assert stored(home) == {"demo": "elsewhere"}


def test_a_rotation_makes_a_version_that_the_history_shows(demo: Home) -> None:
    secret = canary()
    app = click(opened(), "keys_rotate_demo")
    app.text_input(key="keys_secret").set_value(secret)
    click(app, "keys_submit")
    assert "The key demo is now at version 2." in texts(app)
    assert app.dataframe[0].value["Version"].tolist() == [2, 1]
    assert stored(demo) == {"demo": secret}
    assert leaks(secret, everything_kept(app), *everything_sent(app)) == []


@pytest.mark.parametrize("what", ["revoke", "delete"])
def test_what_destroys_a_secret_wants_the_name_typed(demo: Home, what: str) -> None:
    app = click(opened(), f"keys_{what}_demo")
    for typed in ("", "Demo", "other"):
        app.text_input(key="keys_typed").set_value(typed)
        click(app, "keys_confirm")
        assert errors(app) == ["Nothing was done; type demo exactly to confirm."]
        assert stored(demo) == {"demo": KEY}
    app.text_input(key="keys_typed").set_value("demo")
    click(app, "keys_confirm")
    assert f"The key demo is {what}d." in texts(app)
    with KeyStore.open(demo, ADA) as store:
        assert [info.revoked_ms is not None for info in store.list()] == ([True] if what == "revoke" else [])


def test_a_revoked_key_can_only_be_rotated_or_deleted(demo: Home) -> None:
    with KeyStore.open(demo, ADA) as store:
        store.revoke("demo")
    app = opened()
    usable = {what: not app.button(key=f"keys_{what}_demo").disabled for what in ("test", "rotate", "revoke", "delete")}
    assert usable == {"test": False, "rotate": True, "revoke": False, "delete": True}
    assert "revoked" in texts(app)


def test_a_key_is_tried_at_a_real_market(demo: Home) -> None:
    app = click(opened(), "keys_test_demo")
    assert errors(app) == ["The demo market is not running yet; start Barmill with ./barmill up."]
    with running_market(demo) as market:
        settle_port(demo, market.port)
        click(app, "keys_test_demo")
    assert "The market accepts the key; it gives access to" in texts(app)
    app.run()
    assert "last used" in texts(app)


def test_a_test_of_a_key_that_was_deleted_in_the_meantime_does_nothing(demo: Home) -> None:
    app = opened()
    with KeyStore.open(demo, ADA) as store:
        store.delete("demo")
    click(app, "keys_test_demo")
    assert "No keys yet" in texts(app)
    click(app, "keys_add")
    assert app.text_input(key="keys_name").value == ""


def test_a_key_that_expires_soon_is_warned_of(home: Home) -> None:
    soon = int(dt.datetime.now(dt.UTC).timestamp() * 1_000) + 3 * 86_400_000 + 60_000
    with KeyStore.open(home, ADA) as store:
        store.add("demo", "market", KEY, expires_ms=soon)
    app = opened()
    assert [warning.value.split(",")[0] for warning in app.warning] == ["The key demo expires in 3 days"]


def test_a_lost_key_encryption_key_is_one_sentence_and_keys_can_still_be_deleted(demo: Home) -> None:
    (demo.keys / "kek").unlink()
    app = opened()
    assert len(errors(app)) == 1
    assert "is missing, so the stored keys cannot be decrypted" in errors(app)[0]
    click(app, "keys_delete_demo")
    app.text_input(key="keys_typed").set_value("demo")
    click(app, "keys_confirm")
    assert errors(app) == []
    assert "No keys yet" in texts(app)


def test_a_trader_sees_no_keys(demo: Home, look_as: LookAs) -> None:
    with KeyStore.open(demo, ADA) as store:
        (key,) = store.list()
    look_as(Role.TRADER)
    app = opened()
    assert key.fingerprint not in texts(app)
    assert [str(button.key) for button in app.button if str(button.key).startswith("keys_")] == []


def test_who_loses_the_right_while_a_dialog_is_open_does_nothing_with_it(demo: Home) -> None:
    app = click(opened(), "keys_delete_demo")
    app.text_input(key="keys_typed").set_value("demo")
    with open_audited_db(demo) as db, immediate(db):
        db.conn.execute("UPDATE accounts SET role = 'trader'")
    app.button(key="keys_confirm").click().run()
    assert stored(demo) == {"demo": KEY}
