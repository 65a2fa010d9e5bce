"""A key tried at a real demo market."""

import json
from dataclasses import asdict

import pytest

from control.home import Home
from control.keys.errors import KeyTestError
from control.keys.store import KeyStore
from control.machine.ports import Ports, free_ports
from control.people.roles import Actor
from feed.key_tests import KEY_TESTS, ask_market
from feed.market.access import AccessKeys
from tests.canary import canary, leaks
from tests.feed.test_market_process import KEY, running_market

ADA = Actor("ada")


def settle_port(home: Home, market: int) -> None:
    (home.run / "ports.json").write_text(json.dumps(asdict(Ports(1, market, 2, 3))))


def test_the_market_says_what_a_key_opens_and_why_it_refuses_one(home: Home) -> None:
    secret = canary()
    with KeyStore.open(home, ADA) as store, running_market(home) as market:
        settle_port(home, market.port)
        store.add("good", "market", KEY)
        store.add("unknown", "market", secret)
        opens = len(market.get("/v1/instruments").json())
        assert opens > 10
        assert store.test("good", KEY_TESTS) == f"The market takes the key; it opens {opens} instruments."
        with pytest.raises(KeyTestError, match=r"refused the key: .* not known to the market"):
            store.test("unknown", KEY_TESTS)
        AccessKeys.of(home).revoke("tests")
        with pytest.raises(KeyTestError, match=r"refused the key: .* has been revoked"):
            store.test("good", KEY_TESTS)
        log = market.log
    assert leaks(secret, home.root, log) == []


def test_a_market_that_does_not_run_is_no_verdict_on_the_key(home: Home) -> None:
    with pytest.raises(KeyTestError, match="has not been started yet; start Barmill"):
        ask_market(home, KEY)
    settle_port(home, free_ports(1)[0])
    with pytest.raises(KeyTestError, match=r"cannot be reached .* start Barmill"):
        ask_market(home, KEY)


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "ключ"])
def test_a_key_that_no_header_can_carry_is_told_without_quoting_it(home: Home, key: str) -> None:
    settle_port(home, free_ports(1)[0])
    with pytest.raises(KeyTestError, match="characters that no key of the market has") as refused:
        ask_market(home, key)
    assert key not in str(refused.value)
