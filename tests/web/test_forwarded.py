"""For whom a proxy speaks."""

import asyncio
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from barmill.audit.accounts import TooManyFailuresError, open_audited_db
from barmill.auth.sign_in import count_attempt
from barmill.platform.home import Home
from barmill.platform.sqlite_file import Database
from web.app import ProxyHeaders

PROXY = "10.0.0.0/24"
ADDRESSES = st.ip_addresses().map(str)
CLAIMS = st.lists(
    st.one_of(ADDRESSES, st.sampled_from(["10.0.0.9", "127.0.0.1", "unknown", "", "evil", "1.2.3.4:5"])), max_size=4
)


def seen(peer: str, headers: list[tuple[str, str]], proxy: str | None = PROXY, kind: str = "http") -> Scope:
    """Return the scope that the app behind it gets."""
    found: list[Scope] = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        found.append(scope)

    async def receive() -> Message:
        return {}

    async def send(_message: Message) -> None: ...

    raw = [(name.encode(), value.encode()) for name, value in headers]
    scope = {"type": kind, "client": (peer, 7), "scheme": {"http": "http"}.get(kind, "ws"), "headers": raw}
    asyncio.run(ProxyHeaders(app, proxy)(scope, receive, send))
    return found[0]


@given(CLAIMS, ADDRESSES, st.booleans())
@settings(max_examples=100, deadline=None)
def test_a_visitor_has_the_address_that_the_proxy_saw_whatever_the_visitor_claims(
    claims: list[str], visitor: str, in_one_line: bool
) -> None:
    said = [*claims, visitor]
    lines = [", ".join(said)] if in_one_line else said
    headers = [("x-forwarded-for", line) for line in lines]
    assert seen("10.0.0.2", headers)["client"][0] == str(ip_address(visitor))
    assert seen("10.0.1.2", headers)["client"] == ("10.0.1.2", 7)
    assert seen("10.0.0.2", headers, proxy=None)["client"] == ("10.0.0.2", 7)


@pytest.mark.parametrize("last", ["unknown", "", "evil", "_hidden", "256.1.1.1"])
def test_what_is_no_address_is_not_believed(last: str) -> None:
    assert seen("10.0.0.2", [("x-forwarded-for", f"192.0.2.1, {last}")])["client"] == ("10.0.0.2", 7)


@pytest.mark.parametrize(
    ("text", "address"),
    [("192.0.2.1:4711", "192.0.2.1"), ("[2001:db8::1]:80", "2001:db8::1"), ("2001:DB8::1", "2001:db8::1")],
)
def test_ports_are_left_out(text: str, address: str) -> None:
    assert seen("10.0.0.2", [("x-forwarded-for", text)])["client"][0] == address


@pytest.mark.parametrize(("kind", "scheme"), [("http", "https"), ("websocket", "wss")])
def test_the_scheme_is_the_one_that_the_proxy_saw(kind: str, scheme: str) -> None:
    plain = seen("10.0.0.2", [], kind=kind)["scheme"]
    assert seen("10.0.0.2", [("x-forwarded-proto", "http, https")], kind=kind)["scheme"] == scheme
    assert seen("10.0.0.2", [("x-forwarded-proto", "https, http")], kind=kind)["scheme"] == plain
    assert seen("10.0.1.2", [("x-forwarded-proto", "https")], kind=kind)["scheme"] == plain


def test_wrong_passwords_with_a_made_up_address_each_still_have_to_wait(home: Home) -> None:
    def tries(db: Database, count: int) -> None:
        for number in range(count):
            headers = [("x-forwarded-for", f"198.51.100.{number}, 10.0.0.7")]
            count_attempt(db, "ada", seen("10.0.0.2", headers)["client"][0], 1_000_000)

    with open_audited_db(home) as db, pytest.raises(TooManyFailuresError):
        tries(db, 30)
