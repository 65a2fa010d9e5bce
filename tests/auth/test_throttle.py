from collections.abc import Iterator

import pytest

from barmill.audit.accounts import TooManyFailuresError, open_audited_db
from barmill.auth.sign_in import FORGET_AFTER_MS, MAX_WAIT_MS, count_attempt, reset_failures
from barmill.platform.home import Home
from barmill.platform.sqlite_file import Database

ATTACKER, OWNER = "192.0.2.66", "198.51.100.7"
MINUTE_MS = 60_000


@pytest.fixture
def db(home: Home) -> Iterator[Database]:
    with open_audited_db(home) as opened:
        yield opened


class Clock:
    """A clock the test moves."""

    def __init__(self) -> None:
        self.now_ms = 1_700_000_000_000

    def try_in_a_row(self, db: Database, address: str, count: int, name: str = "ada") -> list[int]:
        """Fail this many times, with the required waits in between; return the waits in seconds."""
        waits = []
        for _ in range(count):
            waited = 0
            try:
                count_attempt(db, name, address, self.now_ms)
            except TooManyFailuresError as refused:
                waited = refused.wait_s
                self.now_ms += waited * 1_000
                count_attempt(db, name, address, self.now_ms)
            waits.append(waited)
        return waits


def test_a_few_slips_cost_nothing_and_each_further_one_twice_as_much(db: Database) -> None:
    waits = Clock().try_in_a_row(db, ATTACKER, 16)
    assert waits == [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]


def test_twenty_wrong_passwords_take_more_than_an_hour(db: Database) -> None:
    assert sum(Clock().try_in_a_row(db, ATTACKER, 20)) > 3_600


def test_tries_within_the_wait_are_not_made_and_do_not_make_it_longer(db: Database) -> None:
    clock = Clock()
    clock.try_in_a_row(db, ATTACKER, 8)
    for _ in range(50):
        with pytest.raises(TooManyFailuresError, match=r"try again in 16 s"):
            count_attempt(db, "ada", ATTACKER, clock.now_ms)
    clock.now_ms += 16_000
    count_attempt(db, "ada", ATTACKER, clock.now_ms)


def test_the_owner_is_not_held_up_by_what_others_got_wrong(db: Database) -> None:
    clock = Clock()
    clock.try_in_a_row(db, ATTACKER, 30)
    count_attempt(db, "ada", OWNER, clock.now_ms)


def test_an_account_that_many_addresses_guess_at_gives_each_one_try(db: Database) -> None:
    clock = Clock()
    for number in range(20):
        count_attempt(db, "ada", f"203.0.113.{number}", clock.now_ms)
    assert clock.try_in_a_row(db, OWNER, 4) == [0, 1, 2, 4]
    assert clock.try_in_a_row(db, OWNER, 4, name="bob") == [0, 0, 0, 0]


def test_an_address_that_guesses_at_many_accounts_is_slowed_down_for_all(db: Database) -> None:
    clock = Clock()
    waits = [clock.try_in_a_row(db, ATTACKER, 1, name=f"user{number}")[0] for number in range(24)]
    assert waits == [0] * 20 + [1, 2, 4, 8]
    count_attempt(db, "user1", OWNER, clock.now_ms)


def test_the_right_password_forgives_the_slips_of_its_owner_only(db: Database) -> None:
    clock = Clock()
    clock.try_in_a_row(db, ATTACKER, 6)
    clock.try_in_a_row(db, OWNER, 5)
    reset_failures(db, "ada", OWNER)
    assert clock.try_in_a_row(db, OWNER, 4) == [0, 0, 0, 0]
    with pytest.raises(TooManyFailuresError):
        count_attempt(db, "ada", ATTACKER, clock.now_ms)


def test_failures_are_forgotten_after_a_quiet_hour(db: Database) -> None:
    clock = Clock()
    clock.try_in_a_row(db, ATTACKER, 20)
    clock.now_ms += FORGET_AFTER_MS + 1
    assert clock.try_in_a_row(db, ATTACKER, 4) == [0, 0, 0, 0]
    assert db.table("sign_in_failures").count == 3


def test_one_machine_has_a_whole_network_of_ipv6(db: Database) -> None:
    clock = Clock()
    for number in range(4):
        count_attempt(db, "ada", f"2001:db8::{number}", clock.now_ms)
    with pytest.raises(TooManyFailuresError):
        count_attempt(db, "ada", "2001:db8::dead:beef", clock.now_ms)
    count_attempt(db, "ada", "2001:db8:0:1::1", clock.now_ms)


def test_a_clock_that_was_set_back_locks_nobody_out(db: Database) -> None:
    clock = Clock()
    clock.try_in_a_row(db, OWNER, 5)
    clock.now_ms -= 24 * 60 * MINUTE_MS
    with pytest.raises(TooManyFailuresError) as refused:
        count_attempt(db, "ada", OWNER, clock.now_ms)
    assert refused.value.wait_s <= MAX_WAIT_MS / 1_000


def test_what_was_typed_as_a_name_is_kept_nowhere(db: Database) -> None:
    count_attempt(db, "my secret password", ATTACKER, 1)
    assert "secret" not in "\n".join(db.conn.iterdump())
