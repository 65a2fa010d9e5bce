"""A key tried at a real demo market."""

import socket
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from barmill.audit.roles import Actor
from barmill.ingest.feeds import trial_runner
from barmill.ingest.feeds.trial_runner import KEY_TESTS, check_market_key
from barmill.platform.home import Home
from barmill.platform.ports import free_ports
from barmill.secrets.info import KeyTestError
from barmill.secrets.store import KeyStore
from barmill.simulator.access import AccessKeys
from tests.support.answering import OK, answering, dripping, endless
from tests.support.canary import canary, leaks
from tests.support.key_tests import settle_port
from tests.support.market_process import KEY, running_market

ADA = Actor("ada")


def test_the_market_says_what_a_key_opens_and_why_it_refuses_one(home: Home) -> None:
    secret = canary()
    with KeyStore.open(home, ADA) as store, running_market(home) as market:
        settle_port(home, market.port)
        store.add("good", "market", KEY)
        store.add("unknown", "market", secret)
        opens = len(market.get("/v1/instruments").json())
        assert opens > 10
        assert store.test("good", KEY_TESTS) == f"The market accepts the key; it gives access to {opens} instruments."
        with pytest.raises(KeyTestError, match=r"rejected the key: .* unknown to the market"):
            store.test("unknown", KEY_TESTS)
        AccessKeys.of(home).revoke("tests")
        with pytest.raises(KeyTestError, match=r"rejected the key: .* has been revoked"):
            store.test("good", KEY_TESTS)
        log = market.log
    assert leaks(secret, home.root, log) == []


def test_a_market_that_does_not_run_is_no_verdict_on_the_key(home: Home) -> None:
    with pytest.raises(KeyTestError, match="is not running yet; start Barmill"):
        check_market_key(home, KEY)
    settle_port(home, free_ports(1)[0])
    with pytest.raises(KeyTestError, match=r"cannot be reached .* start Barmill"):
        check_market_key(home, KEY)


@pytest.mark.parametrize(("answer", "error"), [(endless, "ReadError"), (dripping, "ReadTimeout")])
def test_a_market_whose_answer_does_not_end_is_given_up(
    home: Home, monkeypatch: pytest.MonkeyPatch, answer: Callable[[socket.socket], None], error: str
) -> None:
    monkeypatch.setattr(trial_runner, "_RESPONSE_TIMEOUT_S", 0.3 if answer is dripping else 30)
    with answering(answer) as url:
        settle_port(home, urlsplit(url).port or 0)
        with pytest.raises(KeyTestError, match=rf"cannot be reached \({error}\); start Barmill"):
            check_market_key(home, KEY)


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff"])
def test_what_is_not_the_market_is_named(home: Home, body: bytes) -> None:
    with answering(lambda connection: connection.sendall(OK + b"\r\n" + body)) as url:
        settle_port(home, urlsplit(url).port or 0)
        with pytest.raises(KeyTestError, match=f"The server at {url} is not the demo market"):
            check_market_key(home, KEY)


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "ключ"])
def test_a_key_that_no_header_can_carry_is_told_without_quoting_it(home: Home, key: str) -> None:
    settle_port(home, free_ports(1)[0])
    with pytest.raises(KeyTestError, match="characters that keys of the market never contain") as refused:
        check_market_key(home, key)
    assert key not in str(refused.value)
