"""Who gets past the gate, and what every answer carries."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from streamlit.proto.BackMsg_pb2 import BackMsg
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from barmill.audit.accounts import open_audited_db
from barmill.audit.roles import Actor, Role
from barmill.auth.administration import add_account, disable_account, enable_account
from barmill.auth.sessions import find_session as look_up
from barmill.auth.sessions import session_cookie, sign_out
from barmill.platform.clock import now_ms, wait_until
from barmill.platform.home import REPO_ROOT, Home
from tests.support.serving import serving
from tests.support.signed_in import signed_in
from tests.web.conftest import Visit
from web.app import internal_error
from web.browser import is_local_path, own_origin
from web.connections import MAX_MESSAGE_BYTES
from web.gate import MAX_BODY_BYTES, MAX_SOCKETS_PER_ACCOUNT

PATHS = [
    "/",
    "/chart?instrument=BTC%2FUSDT",
    "/static/js/index.js",
    "/media/0123456789abcdef.png",
    "/component/streamlit_autorefresh.st_autorefresh/index.html",
    "/_stcore/health",
    "/_stcore/host-config",
    "/_stcore/metrics",
    "/_stcore/bidi-components/x/y.js",
    "/_stcore/agent/openapi.json",
    "/session",
    "/bars.json?instrument=BTC%2FUSDT&frame=1m",
    "/bar-history.json",
    "/bars.csv",
    "/bars.parquet",
    "/sign-in/",
    "//sign-in",
    "/sign-in/../chart",
    "/sign-in%3Fx",
    "/healthz%23x",
    "/sign-in%00",
    "/app",
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("token", ["", "made-up"])
def test_a_visitor_without_a_session_sees_only_the_sign_in_page(visit: Visit, path: str, token: str) -> None:
    page = visit(token).get(path)
    assert page.status_code == 303
    assert page.headers["location"].startswith("/sign-in")
    assert page.content == b""
    other = visit(token, Accept="*/*", Sec_Fetch_Mode="cors").get(path)
    assert (other.status_code, other.text) == (401, "Sign in first.")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nothing_is_changed_without_a_session_or_from_another_site(
    visit: Visit, served_home: Home, method: str
) -> None:
    token, path = signed_in(served_home), "/_stcore/upload_file/some-session/some-file"
    assert visit().request(method, path).status_code == 401
    for origin in ("http://elsewhere.example", "null", "http://127.0.0.1:1"):
        assert visit(token, Origin=origin).request(method, path).status_code == 403
    nowhere = visit(token)
    del nowhere.headers["Origin"]
    assert nowhere.request(method, path).status_code == 403


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/_stcore/upload_file/some-session/some-file"),
        ("POST", "/_stcore/upload_file/some-session/some-file"),
        ("DELETE", "/_stcore/upload_file/some-session/some-file"),
        ("POST", "/_stcore/agent/sessions"),
        ("POST", "/"),
        ("PUT", "/session"),
    ],
)
def test_files_are_taken_nowhere(visit: Visit, served_home: Home, role: Role, method: str, path: str) -> None:
    answer = visit(signed_in(served_home, role)).request(method, path, content=b"a file")
    assert answer.status_code == 405
    if path != "/session":  # the router's own refusal
        assert answer.text == "Nothing can be sent to this address."
        assert answer.headers["connection"] == "close"


def test_no_page_asks_for_a_file() -> None:
    asking = re.compile(r"\b(file_uploader|camera_input|audio_input|accept_file|accept_audio)\b")
    sources = [REPO_ROOT / "app.py", *(REPO_ROOT / "pages").rglob("*.py")]
    assert [path.name for path in sources if asking.search(path.read_text("utf-8"))] == []


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
@pytest.mark.parametrize("path", ["/sign-in", "/session", "/bars.csv", "/_stcore/upload_file/a/b", "/healthz"])
def test_no_address_takes_a_large_body(visit: Visit, served_home: Home, method: str, path: str, inside: bool) -> None:
    token = signed_in(served_home) if inside else ""
    large = visit(token).request(method, path, content=b"x" * (MAX_BODY_BYTES + 1))
    assert (large.status_code, large.headers["connection"]) == (413, "close")
    assert large.text == "This request is too large; 16,384 bytes are the maximum."
    endless = visit(token).request(method, path, content=iter([b"x"]))
    assert (endless.status_code, endless.headers["connection"]) == (411, "close")
    assert visit(token).request(method, path, content=b"x" * MAX_BODY_BYTES).status_code not in (411, 413)


def test_a_large_message_closes_the_websocket(app: str, served_home: Home) -> None:
    with socket(app, served_home, signed_in(served_home)) as connection:
        connection.send(b"x" * (MAX_MESSAGE_BYTES + 1))
        with pytest.raises(ConnectionClosed) as closed:
            until_closed(connection)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009


def test_the_websockets_of_an_account_are_bounded(app: str, served_home: Home) -> None:
    token = signed_in(served_home, Role.TRADER, "with many pages")
    with ExitStack() as stack:
        for _ in range(MAX_SOCKETS_PER_ACCOUNT):
            last = stack.enter_context(socket(app, served_home, token))
        with pytest.raises(InvalidStatus), socket(app, served_home, token):
            pass
        with socket(app, served_home, signed_in(served_home, Role.TRADER, "another")):
            pass
        last.close()

        def open_again() -> bool:
            with suppress(InvalidStatus), socket(app, served_home, token):
                return True
            return False

        assert wait_until(open_again, 10)


def test_with_a_session_the_pages_open(visit: Visit, served_home: Home) -> None:
    client = visit(signed_in(served_home))
    assert "streamlit" in client.get("/").text.lower()
    assert client.get("/_stcore/health").text == "ok"
    assert client.get("/session").status_code == 204
    assert client.get("/sign-in?next=/chart").headers["location"] == "/chart"


def test_a_link_is_followed_after_sign_in(visit: Visit) -> None:
    asked = visit().get("/chart?instrument=BTC%2FUSDT&frame=1m")
    assert asked.headers["location"] == "/sign-in?next=%2Fchart%3Finstrument%3DBTC%252FUSDT%26frame%3D1m"
    assert '<input type="hidden" name="next" value="/chart?instrument=BTC%2FUSDT&amp;frame=1m">' in (
        visit().get(asked.headers["location"]).text
    )


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8501", "127.0.0.1.evil.example", "localhost@evil.example", ""]
)
def test_a_page_that_gave_its_name_our_address_is_turned_away(visit: Visit, host: str) -> None:
    for path in ("/", "/sign-in", "/healthz"):
        assert visit(Host=host).get(path).status_code in (400, 421)


@pytest.mark.parametrize(
    "path", ["/sign-in", "/welcome?token=x", "/healthz", "/", "/_stcore/health", "/nowhere", "/component/x"]
)
@pytest.mark.parametrize("inside", [False, True])
def test_every_answer_carries_the_security_headers(visit: Visit, served_home: Home, path: str, inside: bool) -> None:
    headers = visit(signed_in(served_home) if inside else "").get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert "camera=()" in headers["permissions-policy"]
    framing = ("SAMEORIGIN", "'self'") if path.startswith("/component/") else ("DENY", "'none'")
    assert (headers["x-frame-options"], headers["content-security-policy"].rpartition(" ")[2]) == framing
    assert "unsafe-eval" not in headers["content-security-policy"]
    assert "strict-transport-security" not in headers  # this is plain http
    if not inside and path.startswith(("/sign-in", "/welcome")):
        assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/chart", "/", "/a?b=/c&d=//e", "/über"])
def test_local_paths(path: str) -> None:
    assert is_local_path(path)


@pytest.mark.parametrize(
    "path",
    ["", "chart", "//evil.example", "/\\evil.example", "\\\\evil.example", "https://evil.example", "/a\r\nb", "/\t/b"],
)
def test_no_other_text_is_a_local_path(path: str) -> None:
    assert not is_local_path(path)


@pytest.mark.parametrize(
    ("host", "scheme", "origin"),
    [
        ("127.0.0.1:8501", "http", "http://127.0.0.1:8501"),
        ("localhost", "ws", "http://localhost"),
        ("[::1]:8501", "https", "https://[::1]:8501"),
        ("Barmill.example.com", "http", "https://barmill.example.com"),
        ("barmill.example.com:80", "http", None),
        ("user@localhost", "http", None),
        ("localhost/x", "http", None),
        ("localhost:x", "http", None),
    ],
)
def test_which_addresses_are_ours(host: str, scheme: str, origin: str | None) -> None:
    scope = {"type": "http", "scheme": scheme, "headers": [(b"host", host.encode())]}
    assert own_origin(scope, "https://barmill.example.com") == origin


@contextmanager
def socket(app: str, home: Home, token: str, origin: str = "") -> Iterator[ClientConnection]:
    address, cookie = f"{app.replace('http', 'ws', 1)}/_stcore/stream", f"{session_cookie(home)}={token}"
    headers = {"Cookie": cookie, "Origin": origin or app}
    with connect(address, additional_headers=headers, subprotocols=[Subprotocol("streamlit")], proxy=None) as client:
        yield client


def until_closed(connection: ClientConnection) -> None:
    while True:
        connection.recv(timeout=30)


@pytest.mark.parametrize("origin", ["http://elsewhere.example", "null", "https://127.0.0.1"])
def test_a_websocket_from_elsewhere_or_without_a_session_is_refused(app: str, served_home: Home, origin: str) -> None:
    for token, asked_from in (("", app), ("made-up", app), (signed_in(served_home), origin)):
        with pytest.raises(InvalidStatus) as refused, socket(app, served_home, token, asked_from):
            pass
        assert refused.value.response.status_code == 403


def rerun(fragment: str = "") -> bytes:
    message = BackMsg()
    message.rerun_script.query_string = ""
    message.rerun_script.fragment_id = fragment
    return bytes(message.SerializeToString())


@pytest.mark.parametrize("end", ["sign out", "disable"])
def test_an_open_websocket_is_closed_at_the_next_message_after_the_session_ended(
    app: str, served_home: Home, end: str
) -> None:
    token = signed_in(served_home, Role.TRADER, "bob")
    with socket(app, served_home, token) as connection, open_audited_db(served_home) as db:
        connection.send(rerun())
        assert connection.recv(timeout=30)
        if end == "disable":
            disable_account(db, Actor("os:root"), "bob")
        else:
            who = look_up(db, token, now_ms())
            assert who is not None
            sign_out(db, who)
        connection.send(rerun())
        with pytest.raises(ConnectionClosed) as closed:
            until_closed(connection)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "signed out")
        if end == "disable":
            enable_account(db, Actor("os:root"), "bob")


@pytest.fixture
def behind_proxy(home: Home) -> Iterator[httpx.Client]:
    """A client that speaks as a proxy on this machine does."""
    (home.root / "sign-in.json").write_text('{"public_url": "https://barmill.example.com"}')
    with serving(home) as address, httpx.Client(base_url=address, timeout=30) as client:
        client.headers.update({"Host": "barmill.example.com", "X-Forwarded-For": "192.0.2.9", "Accept": "text/html"})
        yield client


def test_behind_a_proxy_everything_is_https_and_addresses_are_the_visitors(
    behind_proxy: httpx.Client, home: Home
) -> None:
    assert behind_proxy.get("/sign-in").headers["strict-transport-security"] == "max-age=31536000"
    with open_audited_db(home) as db:
        add_account(db, Actor("os:root"), "ada", Role.ADMIN, "correct horse")
    form = {"name": "ada", "password": "correct horse", "next": "/"}
    local = {"Origin": str(behind_proxy.base_url).rstrip("/")}
    assert behind_proxy.post("/sign-in", data=form, headers=local).status_code == 403
    done = behind_proxy.post("/sign-in", data=form, headers={"Origin": "https://barmill.example.com"})
    assert done.status_code == 303
    assert "; Secure" in done.headers["set-cookie"]
    with open_audited_db(home) as db:
        assert db.conn.execute("SELECT address FROM sessions").fetchall() == [("192.0.2.9",)]


def test_a_mistake_of_ours_gives_nothing_away_and_carries_the_headers() -> None:
    async def fail(_request: Request) -> Response:
        raise ZeroDivisionError("a secret of ours")

    app = Starlette(routes=[Route("/", fail)], exception_handlers={Exception: internal_error})

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.get("/")

    answer = asyncio.run(ask())
    assert answer.status_code == 500
    assert "An internal error occurred" in answer.text
    assert "secret" not in answer.text
    assert (answer.headers["x-frame-options"], answer.headers["x-content-type-options"]) == ("DENY", "nosniff")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
