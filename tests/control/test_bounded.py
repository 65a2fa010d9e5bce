"""Answers that are larger or slower than any that makes sense."""

import gzip
import socket
from collections.abc import Callable
from contextlib import suppress

import pytest
import requests

from control.bounded import MAX_BODY_BYTES, AnswerTooLargeError, BoundedAdapter, bounded_session
from tests.answering import OK, answering, endless


@pytest.mark.parametrize("size", [0, 1, MAX_BODY_BYTES])
@pytest.mark.parametrize("packed", [False, True])
def test_an_answer_within_the_bounds_is_read_whole(size: int, packed: bool) -> None:
    body = b"x" * size
    sent, coding = (gzip.compress(body), b"Content-Encoding: gzip\r\n") if packed else (body, b"")
    head = OK + coding + b"Content-Length: %d\r\n\r\n" % len(sent)
    with answering(lambda one: one.sendall(head + sent)) as url, bounded_session(10) as session:
        assert session.get(url).content == body


def bomb(one: socket.socket) -> None:
    one.sendall(OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(bytes(50 * MAX_BODY_BYTES)))


@pytest.mark.parametrize("answer", [endless, bomb])
def test_a_larger_answer_is_not_read_to_its_end(answer: Callable[[socket.socket], None]) -> None:
    with answering(answer) as url, bounded_session(10) as session, pytest.raises(AnswerTooLargeError):
        session.get(url)


def test_an_answer_that_comes_byte_by_byte_is_given_up() -> None:
    def slow(one: socket.socket) -> None:
        one.sendall(OK + b"\r\n")
        one.settimeout(0.05)
        while True:
            one.sendall(b"x")
            with suppress(TimeoutError):
                if not one.recv(1):
                    return

    with answering(slow) as url, requests.Session() as session:
        session.mount("http://", BoundedAdapter(total_s=0.3))
        with pytest.raises(requests.Timeout):
            session.get(url)
