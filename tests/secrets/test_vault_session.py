"""Responses of a vault that are larger or slower than any legitimate one."""

import gzip
import socket
from collections.abc import Callable

import pytest
import requests

from barmill.secrets.vault import MAX_BODY_BYTES, BoundedAdapter, ResponseTooLargeError, bounded_session
from tests.support.answering import OK, answering, dripping, endless


@pytest.mark.parametrize("size", [0, 1, MAX_BODY_BYTES])
@pytest.mark.parametrize("packed", [False, True])
def test_an_answer_within_the_bounds_is_read_whole(size: int, packed: bool) -> None:
    body = b"x" * size
    sent, coding = (gzip.compress(body), b"Content-Encoding: gzip\r\n") if packed else (body, b"")
    head = OK + coding + b"Content-Length: %d\r\n\r\n" % len(sent)
    with answering(lambda connection: connection.sendall(head + sent)) as url, bounded_session(10) as session:
        assert session.get(url).content == body


def bomb(connection: socket.socket) -> None:
    connection.sendall(OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(bytes(50 * MAX_BODY_BYTES)))


@pytest.mark.parametrize("answer", [endless, bomb])
def test_a_larger_answer_is_not_read_to_its_end(answer: Callable[[socket.socket], None]) -> None:
    with answering(answer) as url, bounded_session(10) as session, pytest.raises(ResponseTooLargeError):
        session.get(url)


def test_an_answer_that_comes_byte_by_byte_is_given_up() -> None:
    with answering(dripping) as url, requests.Session() as session:
        session.mount("http://", BoundedAdapter(total_s=0.3))
        with pytest.raises(requests.Timeout):
            session.get(url)
