"""Sign-in with a real OIDC provider: OpenBao, with its own users and groups. The tests act as the browser."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware.sessions import SessionMiddleware
from starlette.routing import Route

from barmill.audit.accounts import AccountError, all_accounts, get_account, open_audited_db
from barmill.audit.roles import Actor, Role
from barmill.audit.trail import Search, search
from barmill.auth.administration import add_account, disable_account, set_role
from barmill.auth.sessions import find_session, session_cookie, sessions_of
from barmill.auth.settings import SignInSettings
from barmill.platform.clock import now_ms
from barmill.platform.home import Home
from barmill.platform.ports import LOOPBACK, free_ports
from barmill.platform.settings_file import SettingsError
from barmill.secrets.store import KeyStore
from tests.support.answering import answering, endless
from tests.support.openbao import OpenBao, running_openbao
from tests.support.serving import serving
from web.sign_in import OidcRoutes

ROOT = Actor("os:root")
PASSWORD = "a password of the provider"
SECRET_NAME = "oidc-barmill"
ROLES = {"barmill-admins": "admin", "barmill-operators": "operator", "barmill-traders": "trader"}


@dataclass
class Provider:
    """OpenBao as an OIDC provider with one client, Barmill."""

    bao: OpenBao
    issuer: str = ""
    client_id: str = ""
    client_secret: str = ""
    members: dict[str, set[str]] = field(default_factory=lambda: {name: set() for name in ROLES})

    def write(self, path: str, **data: object) -> dict[str, object]:
        answer = self.bao.client.write_data(path, data=data)
        return dict(answer["data"]) if isinstance(answer, dict) and answer.get("data") else {}

    def set_up(self, callback: str) -> None:
        """Make the provider, and the client that may send people back to this address."""
        bao = self.bao.client
        bao.sys.enable_auth_method("userpass")
        self.write("identity/oidc/key/barmill", allowed_client_ids="*", algorithm="RS256")
        template = '{"preferred_username": {{identity.entity.name}}, "groups": {{identity.entity.groups.names}}}'
        self.write("identity/oidc/scope/profile", template=template)
        self.write("identity/oidc/client/barmill", redirect_uris=[callback], assignments=["allow_all"], key="barmill")
        self.write("identity/oidc/provider/barmill", allowed_client_ids="*", scopes_supported=["profile"])
        client = bao.read("identity/oidc/client/barmill")["data"]
        self.client_id, self.client_secret = client["client_id"], client["client_secret"]
        self.issuer = f"{self.bao.address}/v1/identity/oidc/provider/barmill"

    def add(self, name: str, *groups: str) -> str:
        """Add a user to the provider; return their entity id, which is the subject of their tokens."""
        self.write(f"auth/userpass/users/{name}", password=PASSWORD)
        entity = str(self.write("identity/entity", name=name)["id"])
        accessor = self.bao.client.sys.list_auth_methods()["data"]["userpass/"]["accessor"]
        self.write("identity/entity-alias", name=name, canonical_id=entity, mount_accessor=accessor)
        self.set_groups(entity, *groups)
        return entity

    def set_groups(self, entity: str, *groups: str) -> None:
        for name, members in self.members.items():
            (members.add if name in groups else members.discard)(entity)
            self.write(f"identity/group/name/{name}", member_entity_ids=sorted(members))

    def approve(self, name: str, authorize: str) -> str:
        """Do what the provider's page does when a user signs in there; return the query to go back with."""
        login = httpx.post(f"{self.bao.address}/v1/auth/userpass/login/{name}", json={"password": PASSWORD}).json()
        answer = httpx.get(
            f"{self.issuer}/authorize?{urlsplit(authorize).query}",
            headers={"X-Vault-Token": login["auth"]["client_token"]},
        )
        assert answer.status_code == 200, answer.text
        return urlencode({"code": answer.json()["code"], "state": answer.json()["state"]})


@dataclass
class Setting:
    """An app whose people may come from the provider."""

    home: Home
    app: str
    provider: Provider
    browsers: list[httpx.Client] = field(default_factory=list)

    def browser(self) -> httpx.Client:
        """Return a client with separate cookies; clients are closed after each test."""
        self.browsers.append(httpx.Client(base_url=self.app, headers={"Accept": "text/html"}, timeout=30))
        return self.browsers[-1]

    def come_back(self, browser: httpx.Client, name: str, wanted: str = "/") -> httpx.Response:
        """Go to the provider, sign in there, and come back."""
        there = browser.get("/sign-in/oidc", params={"next": wanted})
        assert there.status_code == 302, there.text
        return browser.get(f"/sign-in/oidc/callback?{self.provider.approve(name, there.headers['location'])}")

    def role(self, answer: httpx.Response) -> Role:
        """Return the role of a signed-in user."""
        assert answer.status_code == 303, answer.text
        with open_audited_db(self.home) as db:
            who = find_session(db, answer.cookies[session_cookie(self.home)], now_ms())
        assert who is not None
        return who.role


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    folder = tmp_path_factory.mktemp("oidc")
    home, (port,) = Home(folder / "home").create(), free_ports(1)
    with running_openbao(folder) as bao:
        provider = Provider(bao)
        provider.set_up(f"http://{LOOPBACK}:{port}/sign-in/oidc/callback")
        with KeyStore.open(home, ROOT) as store:
            store.add(SECRET_NAME, "oidc", provider.client_secret)
        oidc = {
            "issuer": provider.issuer,
            "client_id": provider.client_id,
            "client_secret_key": SECRET_NAME,
            "label": "OpenBao",
            "roles": ROLES,
        }
        (home.root / "sign-in.json").write_text(json.dumps({"oidc": oidc}))
        with open_audited_db(home) as db:
            add_account(db, ROOT, "root", Role.ADMIN)
        with serving(home, port) as app:
            yield Setting(home, app, provider)


@pytest.fixture
def setting(shared: Setting) -> Iterator[Setting]:
    yield shared
    while shared.browsers:
        shared.browsers.pop().close()


def test_the_sign_in_page_offers_the_provider(setting: Setting) -> None:
    page = setting.browser().get("/sign-in?next=/chart%3Fframe%3D1m")
    assert 'href="/sign-in/oidc?next=/chart%3Fframe%3D1m">Sign in with OpenBao</a>' in page.text


def test_somebody_with_a_mapped_group_comes_in_with_its_role(setting: Setting) -> None:
    entity = setting.provider.add("alice", "barmill-admins", "barmill-traders")
    browser = setting.browser()
    answer = setting.come_back(browser, "alice", "/chart?frame=1m")
    assert answer.headers["location"] == "/chart?frame=1m"
    assert setting.role(answer) is Role.ADMIN
    assert browser.get("/session").status_code == 204
    with open_audited_db(setting.home) as db:
        account = get_account(db, "alice")
        assert account.identity == f"{setting.provider.issuer} {entity}"
        assert not account.has_password
        (record,) = search(db, Search(action="account.sign_in", actor="oidc:alice"))
    assert (record.subject, record.stage) == ("alice", "executed")
    assert json.loads(record.after or "") == {"role": "admin", "how": "OIDC", "address": LOOPBACK}


def test_the_role_follows_the_provider_and_nobody_else(setting: Setting) -> None:
    entity = setting.provider.add("bob", "barmill-admins")
    assert setting.role(setting.come_back(setting.browser(), "bob")) is Role.ADMIN
    with (
        open_audited_db(setting.home) as db,
        pytest.raises(AccountError, match="comes from the OIDC provider; change it"),
    ):
        set_role(db, ROOT, "bob", Role.TRADER)
    setting.provider.set_groups(entity, "barmill-traders")
    assert setting.role(setting.come_back(setting.browser(), "bob")) is Role.TRADER


def test_without_a_mapped_group_there_is_no_entry_and_what_was_open_ends(setting: Setting) -> None:
    entity = setting.provider.add("carol", "barmill-operators")
    inside = setting.browser()
    setting.come_back(inside, "carol")
    assert inside.get("/session").status_code == 204
    setting.provider.set_groups(entity)
    answer = setting.come_back(setting.browser(), "carol")
    assert (answer.status_code, answer.cookies.get(session_cookie(setting.home))) == (403, None)
    assert "You have no role in Barmill; ask an admin." in answer.text
    assert inside.get("/session").status_code != 204
    with open_audited_db(setting.home) as db:
        assert sessions_of(db, "carol", now_ms()) == []

    setting.provider.add("stranger")
    assert setting.come_back(setting.browser(), "stranger").status_code == 403
    with open_audited_db(setting.home) as db:
        assert "stranger" not in {account.name for account in all_accounts(db)}


def test_a_disabled_account_is_not_let_in(setting: Setting) -> None:
    setting.provider.add("dave", "barmill-traders")
    setting.come_back(setting.browser(), "dave")
    with open_audited_db(setting.home) as db:
        disable_account(db, ROOT, "dave")
    answer = setting.come_back(setting.browser(), "dave")
    assert answer.status_code == 403
    assert "This account is disabled; ask an admin." in answer.text


def test_a_local_account_is_not_taken_over_by_its_name(setting: Setting) -> None:
    with open_audited_db(setting.home) as db:
        add_account(db, ROOT, "erin", Role.TRADER, "correct horse")
    setting.provider.add("erin", "barmill-admins")
    answer = setting.come_back(setting.browser(), "erin")
    assert answer.status_code == 403
    assert "The name erin belongs to another account here; ask an admin." in answer.text
    with open_audited_db(setting.home) as db:
        assert (get_account(db, "erin").role, get_account(db, "erin").identity) == (Role.TRADER, None)


@pytest.mark.parametrize(
    "change", ["nonce", "code_challenge", "state", "code", "other browser", "twice", "error", "nothing"]
)
def test_a_way_back_that_was_tampered_with_leads_nowhere(setting: Setting, change: str) -> None:
    name = f"frank-{change.replace(' ', '-')}"
    setting.provider.add(name, "barmill-admins")
    browser = setting.browser()
    there = browser.get("/sign-in/oidc").headers["location"]
    asked = dict(parse_qsl(urlsplit(there).query))
    if change in asked and change != "state":
        asked[change] = "A" * 43
    query = dict(parse_qsl(setting.provider.approve(name, f"?{urlencode(asked)}")))
    match change:
        case "state" | "code":
            query[change] = query[change][:-1] + ("A" if query[change][-1] != "A" else "B")
        case "other browser":
            browser = setting.browser()
        case "twice":
            setting.role(browser.get("/sign-in/oidc/callback", params=query))
            browser.cookies.delete(session_cookie(setting.home))
        case "error":
            query = {"error": "access_denied", "error_description": "Call 0900-EVIL", "state": query["state"]}
        case "nothing":
            query = {}
    answer = browser.get("/sign-in/oidc/callback", params=query)
    assert (answer.status_code, answer.cookies.get(session_cookie(setting.home))) == (403, None)
    assert "Sign-in with OpenBao failed; try again, or ask an admin." in answer.text
    assert "EVIL" not in answer.text


def test_the_request_carries_state_nonce_and_a_challenge_and_no_secret(setting: Setting) -> None:
    there = setting.browser().get("/sign-in/oidc").headers["location"]
    query = dict(parse_qsl(urlsplit(there).query))
    assert query["code_challenge_method"] == "S256"
    assert all(len(query[name]) >= 20 for name in ("state", "nonce", "code_challenge"))
    assert query["redirect_uri"] == f"{setting.app}/sign-in/oidc/callback"
    assert setting.provider.client_secret not in there


def test_a_code_without_its_verifier_is_worth_nothing(setting: Setting) -> None:
    """What an attacker could do with a code they saw, even with the client's secret."""
    setting.provider.add("grace", "barmill-admins")
    there = setting.browser().get("/sign-in/oidc").headers["location"]
    code = dict(parse_qsl(setting.provider.approve("grace", there)))["code"]
    answer = httpx.post(
        f"{setting.provider.issuer}/token",
        data={"grant_type": "authorization_code", "code": code, "redirect_uri": f"{setting.app}/sign-in/oidc/callback"},
        auth=(setting.provider.client_id, setting.provider.client_secret),
    )
    assert answer.status_code in (400, 401)


def test_the_secret_is_nowhere_but_in_the_key_store(setting: Setting) -> None:
    secret = setting.provider.client_secret.encode()
    found = [path for path in setting.home.root.rglob("*") if path.is_file() and secret in path.read_bytes()]
    assert found == []
    with open_audited_db(setting.home) as db:
        assert search(db, Search(action="key.reveal", actor="sign-in"))


def test_a_provider_that_does_not_answer_is_one_sentence(home: Home) -> None:
    (port,) = free_ports(1)
    (home.root / "secret").write_text("a secret")
    oidc = {"issuer": f"http://{LOOPBACK}:{port}", "client_id": "x", "client_secret_file": "secret", "roles": {}}
    (home.root / "sign-in.json").write_text(json.dumps({"oidc": oidc}))
    with serving(home) as app:
        answer = httpx.get(f"{app}/sign-in/oidc")
        assert answer.status_code == 403
        assert "Sign-in with your organisation failed" in answer.text
        (home.root / "secret").unlink()
        assert "The secret of the OIDC client cannot be read; ask an admin." in httpx.get(f"{app}/sign-in/oidc").text


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"issuer": "http://idp.example"}, "oidc.issuer: .* must begin with https"),
        ({"client_secret_file": "x"}, "give either client_secret_key or client_secret_file"),
        ({"roles": {"a": "king"}}, "oidc.roles.a"),
    ],
)
def test_oidc_settings_that_make_no_sense_are_refused(home: Home, settings: dict[str, object], problem: str) -> None:
    good = {"issuer": "https://idp.example", "client_id": "x", "client_secret_key": "y", "roles": {}}
    (home.root / "sign-in.json").write_text(json.dumps({"oidc": good | settings}))
    with pytest.raises(SettingsError, match=problem):
        SignInSettings.read(home)


def test_a_provider_that_answers_without_end_is_given_up(home: Home) -> None:
    with answering(endless) as issuer:
        (home.root / "secret").write_text("a secret")
        oidc = {"issuer": issuer, "client_id": "barmill", "client_secret_file": "secret", "roles": {}}
        settings = SignInSettings.model_validate({"oidc": oidc})
        assert settings.oidc is not None
        routes = [Route("/sign-in/oidc", OidcRoutes(home, settings, settings.oidc).start)]
        app = SessionMiddleware(Starlette(routes=routes), "a key")

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                return await client.get("/sign-in/oidc")

        answer = asyncio.run(ask())
    assert (answer.status_code, "failed; try again" in answer.text) == (403, True)
