"""When findings become alerts and go away again: sequences of looks, five seconds apart."""

from collections.abc import Mapping, Sequence

import pytest

from control.monitor.judge import Finding
from control.monitor.rules import DEFAULTS, Rule, Rules, Trouble
from control.monitor.standing import Key, Standing, advance

LOOK_MS = 5_000

# One sign a look: ! bad, . well, ? neither or unknown, - the subject is gone. Expected: the look of each change.
CASES: Mapping[str, tuple[Trouble, str, Sequence[tuple[str, int]]]] = {
    "all well": (Trouble.DISK_LOW, "......", []),
    "bad for long enough": (Trouble.DISK_LOW, ".!!!!!", [("raised", 3)]),  # 10 s
    "a hiccup": (Trouble.DISK_LOW, "!!.!!.!!.", []),
    "a hiccup of knowing": (Trouble.DISK_LOW, "!!?!!?!!?", []),
    "what counts over a while already is raised at once": (Trouble.NO_DATA, ".!", [("raised", 1)]),
    "well for long enough": (Trouble.NO_DATA, "!.....", [("raised", 0), ("cleared", 4)]),  # 15 s
    "well for a moment only": (Trouble.NO_DATA, "!...!...!...", [("raised", 0)]),
    "hovering about the threshold": (Trouble.NO_DATA, "!?!?!?!?..?..?..", [("raised", 0)]),
    "unknown is not well": (Trouble.NO_CHECKPOINT, "!????????", [("raised", 0)]),
    "unknown is not bad": (Trouble.JOB_STATE, "????????????????", []),
    "a state may last as long as its rule says": (Trouble.PROCESS_DOWN, "!!!!!!", [("raised", 4)]),  # 20 s
    "a process that is back in time": (Trouble.PROCESS_DOWN, "!!!!.!!!!.", []),
    "a subject that is gone": (Trouble.NO_DATA, "!-----", [("raised", 0), ("cleared", 4)]),
    "a subject that comes back": (Trouble.NO_DATA, "!--!--!", [("raised", 0)]),
    "twice": (Trouble.NO_DATA, "!....!....", [("raised", 0), ("cleared", 4), ("raised", 5), ("cleared", 9)]),
}
BAD = {"!": True, ".": False, "?": None}


def looks(
    trouble: Trouble, signs: str, rules: Rules = DEFAULTS, standings: Mapping[Key, Standing] | None = None
) -> list[tuple[str, int]]:
    changes: list[tuple[str, int]] = []
    standings = standings or {}
    for number, sign in enumerate(signs):
        findings = [] if sign == "-" else [Finding(trouble, "x", BAD[sign], f"look {number}")]
        step = advance(standings, findings, rules, number * LOOK_MS)
        standings = step.standings
        changes += [("raised", number) for _ in step.raised] + [("cleared", number) for _ in step.cleared]
    return changes


@pytest.mark.parametrize("case", CASES)
def test_raised_and_cleared(case: str) -> None:
    trouble, signs, expected = CASES[case]
    assert looks(trouble, signs) == expected


def test_a_controller_that_was_restarted_knows_what_is_open() -> None:
    known = {(Trouble.NO_DATA, "x"): Standing(open=True)}
    assert looks(Trouble.NO_DATA, "!!!", standings=known) == []
    assert looks(Trouble.NO_DATA, "....", standings=known) == [("cleared", 3)]
    assert looks(Trouble.NO_DATA, "----", standings=known) == [("cleared", 3)]


def test_how_long_a_state_may_last_is_read_from_the_rules_of_the_moment() -> None:
    patient = {**DEFAULTS, Trouble.PROCESS_DOWN: Rule(threshold=40)}
    assert looks(Trouble.PROCESS_DOWN, "!" * 12, patient) == [("raised", 8)]


def test_the_alert_says_what_was_seen_when_it_was_raised() -> None:
    step = advance({}, [Finding(Trouble.NO_DATA, "x", True, "now")], DEFAULTS, 0)
    assert [one.sentence for one in step.raised] == ["now"]


def test_what_is_well_is_not_remembered() -> None:
    findings = [Finding(Trouble.NO_DATA, str(number), False, "") for number in range(100)]
    assert advance({}, findings, DEFAULTS, 0).standings == {}


def test_troubles_of_one_subject_do_not_mix() -> None:
    both = [Finding(Trouble.NO_CHECKPOINT, "job:bars", True, ""), Finding(Trouble.JOB_STATE, "job:bars", True, "")]
    step = advance({}, both, DEFAULTS, 0)
    assert [one.trouble for one in step.raised] == [Trouble.NO_CHECKPOINT]
    assert step.standings[Trouble.JOB_STATE, "job:bars"] == Standing(open=False, otherwise_since_ms=0)
