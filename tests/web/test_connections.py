"""Limits on connections: the table alone, and idle and slow connections to a real server."""

import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from threading import Event, Thread
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from barmill.platform.clock import wait_until
from barmill.platform.home import Home
from tests.support.serving import serving
from web import connections
from web.connections import BoundedConnection, ConnectionTable

PROXY = "10.1.2.0/30"
ADDRESSES = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "10.1.2.1"]
STEPS = st.lists(
    st.tuples(st.sampled_from(["enter", "wait", "work", "leave"]), st.sampled_from(ADDRESSES), st.integers(0, 30)),
    max_size=120,
)


def test_a_newcomer_takes_the_place_of_the_connection_that_waits_longest() -> None:
    table = ConnectionTable[int](max_connections=4, max_per_address=2, proxy=PROXY)
    assert table.add(1, "192.0.2.1").admitted
    assert table.add(2, "192.0.2.1").admitted
    table.start_request(1)
    table.wait(1)
    assert table.add(3, "192.0.2.1").evicted == 2  # this address has too many
    table.start_request(1)
    table.start_request(3)
    assert not table.add(4, "192.0.2.1").admitted  # all of its connections are at work
    assert table.add(5, "192.0.2.2").admitted
    assert table.add(6, "192.0.2.3").admitted
    assert table.add(7, "192.0.2.4").evicted == 5  # too many in all
    table.remove(1)
    table.remove(1)
    assert table.add(8, "192.0.2.1").evicted is None


def test_a_proxy_and_a_network_of_one_machine() -> None:
    table = ConnectionTable[int](max_connections=10, max_per_address=2, proxy=PROXY)
    assert [table.add(number, "10.1.2.1").evicted for number in range(4)] == [None] * 4
    assert [table.add(10 + number, f"2001:db8::{number}").evicted for number in range(3)] == [None, None, 10]


@given(STEPS)
@settings(max_examples=100, deadline=None)
def test_no_history_of_connections_breaks_a_limit_or_evicts_one_at_work(steps: list[tuple[str, str, int]]) -> None:
    table, held, busy = ConnectionTable[int](8, 3, PROXY), dict[int, str](), set[int]()
    for what, address, number in steps:
        if what == "enter" and number not in held:
            admission = table.add(number, address)
            assert admission.evicted not in busy
            held.pop(admission.evicted if admission.evicted is not None else -1, None)
            if admission.admitted:
                held[number] = address
        elif what == "leave":
            table.remove(number)
            held.pop(number, None)
            busy.discard(number)
        elif number in held:
            (table.start_request if what == "work" else table.wait)(number)
            (busy.add if what == "work" else busy.discard)(number)
        assert len(table) == len(held) <= 8
        counts = Counter("v6" if ":" in place else place for place in held.values())
        assert all(count <= 3 for place, count in counts.items() if place != "10.1.2.1")


@pytest.fixture
def small_app(home: Home) -> Iterator[str]:
    """The address of an app that may open fewer files than there are idle connections in the test."""
    with serving(home, most_files=600) as address:
        yield address


def connected(address: str, stack: ExitStack) -> socket.socket:
    parts = urlsplit(address)
    return stack.enter_context(socket.create_connection((parts.hostname or "", parts.port or 0), timeout=30))


def test_idle_connections_of_one_address_keep_nobody_out(small_app: str) -> None:
    with ExitStack() as stack:
        for number in range(700):
            idle = connected(small_app, stack)
            if number % 2:
                with suppress(ConnectionError):  # it may have made room for a later one already
                    idle.sendall(b"GET /sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
        for source in ("127.0.0.1", "127.0.0.2"):
            with httpx.Client(transport=httpx.HTTPTransport(local_address=source), timeout=30) as visitor:
                answer = visitor.get(f"{small_app}/sign-in", headers={"Accept": "text/html"})
                assert (answer.status_code, "password" in answer.text) == (200, True)


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server whose connections have half a second for each request; it answers with what was sent."""
    monkeypatch.setattr(connections, "REQUEST_TIMEOUT_S", 0.5)
    monkeypatch.setattr(connections, "STALL_TIMEOUT_S", 0.5)
    monkeypatch.setattr(BoundedConnection, "table", ConnectionTable(20, 10), raising=False)

    async def answer(request: Request) -> Response:
        body = await request.body()
        while "hold" in request.query_params and (await request.receive())["type"] != "http.disconnect":
            pass
        return Response(body or b"x" * int(request.query_params.get("bytes", "2")))

    app = Starlette(routes=[Route("/", answer, methods=["GET", "POST"])])
    server = uvicorn.Server(uvicorn.Config(app, http=BoundedConnection, ws="none", log_config=None))
    listening = socket.create_server(("127.0.0.1", 0))
    thread = Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    assert wait_until(lambda: server.started, 30)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join()


HEAD = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        HEAD + b"X-Slow: ",
        HEAD + b"\r\n",
        HEAD + b"\r\n\r\n",
        HEAD + b"\r\n" + HEAD,
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nhalf",
    ],
    ids=["nothing", "half a head", "then nothing", "then an empty line", "then half a head", "half a body"],
)
def test_a_connection_ends_whose_request_does_not_arrive_in_time(echo: str, sent: bytes) -> None:
    with ExitStack() as stack:
        connection = connected(echo, stack)
        connection.sendall(sent)
        with suppress(ConnectionResetError):
            while connection.recv(65_536):
                pass
        assert wait_until(lambda: len(BoundedConnection.table) == 0, 10)


def test_a_request_that_comes_in_parts_and_the_next_one_are_answered(echo: str) -> None:
    with ExitStack() as stack:
        connection = connected(echo, stack)
        for part in (HEAD[:9], HEAD[9:], b"\r\n", HEAD + b"\r\n" + HEAD + b"Connection: close\r\n\r\n"):
            connection.sendall(part)
        answer = b""
        while part := connection.recv(65_536):
            answer += part
        assert answer.count(b"HTTP/1.1 200 OK") == 3


def test_too_large_a_head_is_refused(echo: str) -> None:
    with ExitStack() as stack:
        connection = connected(echo, stack)
        answer = b""
        with suppress(ConnectionError):
            connection.sendall(HEAD)
            for _ in range(200):
                connection.sendall(b"X-More: " + b"x" * 10_000 + b"\r\n")
        with suppress(ConnectionError):
            while part := connection.recv(65_536):
                answer += part
        assert answer.startswith(b"HTTP/1.1 431 ") or not answer
        assert wait_until(lambda: len(BoundedConnection.table) == 0, 10)


def test_an_answer_that_nobody_reads_is_given_up(echo: str) -> None:
    with ExitStack() as stack:
        connection = connected(echo, stack)
        connection.sendall(HEAD.replace(b"/ ", b"/?bytes=30000000 ") + b"\r\n")
        assert wait_until(lambda: len(BoundedConnection.table) == 1, 10)
        assert wait_until(lambda: len(BoundedConnection.table) == 0, 10)


def test_an_answer_that_is_read_slowly_arrives_whole(echo: str) -> None:
    with ExitStack() as stack:
        connection = connected(echo, stack)
        connection.sendall(HEAD.replace(b"/ ", b"/?bytes=30000000 ") + b"Connection: close\r\n\r\n")
        received, reads = 0, 0
        while part := connection.recv(1_000_000, socket.MSG_WAITALL):
            received, reads = received + len(part), reads + 1
            Event().wait(0.05)  # as a slow line, three times as long in all as a client may take nothing
    assert received > 30_000_000
    assert reads >= 30


def test_where_all_connections_are_at_work_the_next_one_is_refused(echo: str) -> None:
    with ExitStack() as stack:
        for _ in range(10):
            connected(echo, stack).sendall(HEAD.replace(b"/ ", b"/?hold=1 ") + b"\r\n")
        assert wait_until(lambda: len(BoundedConnection.table) == 10 and not BoundedConnection.table.waiting, 10)
        refused = connected(echo, stack).recv(65_536)
        assert refused.startswith(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n")
        assert refused.endswith(b"\r\n\r\nToo many connections; try again in 5 seconds.")
