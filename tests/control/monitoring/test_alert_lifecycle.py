"""When findings become alerts and go away again: sequences of looks, five seconds apart."""

from collections.abc import Mapping, Sequence

import pytest

from control.monitoring.alerts import AlertState, Key, advance
from control.monitoring.judge import Finding
from control.monitoring.rules import DEFAULTS, AlertKind, Rule, Rules

STEP_MS = 5_000

# One sign a look: ! bad, . well, ? neither or unknown, - the subject is gone. Expected: the look of each change.
CASES: Mapping[str, tuple[AlertKind, str, Sequence[tuple[str, int]]]] = {
    "all well": (AlertKind.DISK_LOW, "......", []),
    "bad for long enough": (AlertKind.DISK_LOW, ".!!!!!", [("raised", 3)]),  # 10 s
    "a hiccup": (AlertKind.DISK_LOW, "!!.!!.!!.", []),
    "a hiccup of knowing": (AlertKind.DISK_LOW, "!!?!!?!!?", []),
    "what counts over a while already is raised at once": (AlertKind.NO_DATA, ".!", [("raised", 1)]),
    "well for long enough": (AlertKind.NO_DATA, "!.....", [("raised", 0), ("cleared", 4)]),  # 15 s
    "well for a moment only": (AlertKind.NO_DATA, "!...!...!...", [("raised", 0)]),
    "hovering about the threshold": (AlertKind.NO_DATA, "!?!?!?!?..?..?..", [("raised", 0)]),
    "unknown is not well": (AlertKind.NO_CHECKPOINT, "!????????", [("raised", 0)]),
    "unknown is not bad": (AlertKind.JOB_STATE, "????????????????", []),
    "a state may last as long as its rule says": (AlertKind.PROCESS_DOWN, "!!!!!!", [("raised", 4)]),  # 20 s
    "a process that is back in time": (AlertKind.PROCESS_DOWN, "!!!!.!!!!.", []),
    "a subject that is gone": (AlertKind.NO_DATA, "!-----", [("raised", 0), ("cleared", 4)]),
    "a subject that comes back": (AlertKind.NO_DATA, "!--!--!", [("raised", 0)]),
    "twice": (AlertKind.NO_DATA, "!....!....", [("raised", 0), ("cleared", 4), ("raised", 5), ("cleared", 9)]),
}
BAD = {"!": True, ".": False, "?": None}


def looks(
    trouble: AlertKind, signs: str, rules: Rules = DEFAULTS, pending: Mapping[Key, AlertState] | None = None
) -> list[tuple[str, int]]:
    changes: list[tuple[str, int]] = []
    pending = pending or {}
    for number, sign in enumerate(signs):
        findings = [] if sign == "-" else [Finding(trouble, "x", BAD[sign], f"look {number}")]
        step = advance(pending, findings, rules, number * STEP_MS)
        pending = step.pending
        changes += [("raised", number) for _ in step.raised] + [("cleared", number) for _ in step.cleared]
    return changes


@pytest.mark.parametrize("case", CASES)
def test_raised_and_cleared(case: str) -> None:
    trouble, signs, expected = CASES[case]
    assert looks(trouble, signs) == expected


def test_a_controller_that_was_restarted_knows_what_is_open() -> None:
    known = {(AlertKind.NO_DATA, "x"): AlertState(open=True)}
    assert looks(AlertKind.NO_DATA, "!!!", pending=known) == []
    assert looks(AlertKind.NO_DATA, "....", pending=known) == [("cleared", 3)]
    assert looks(AlertKind.NO_DATA, "----", pending=known) == [("cleared", 3)]


def test_how_long_a_state_may_last_is_read_from_the_rules_of_the_moment() -> None:
    patient = {**DEFAULTS, AlertKind.PROCESS_DOWN: Rule(threshold=40)}
    assert looks(AlertKind.PROCESS_DOWN, "!" * 12, patient) == [("raised", 8)]


def test_the_alert_says_what_was_seen_when_it_was_raised() -> None:
    step = advance({}, [Finding(AlertKind.NO_DATA, "x", True, "now")], DEFAULTS, 0)
    assert [finding.sentence for finding in step.raised] == ["now"]


def test_what_is_well_is_not_remembered() -> None:
    findings = [Finding(AlertKind.NO_DATA, str(number), False, "") for number in range(100)]
    assert advance({}, findings, DEFAULTS, 0).pending == {}


def test_troubles_of_one_subject_do_not_mix() -> None:
    both = [Finding(AlertKind.NO_CHECKPOINT, "job:bars", True, ""), Finding(AlertKind.JOB_STATE, "job:bars", True, "")]
    step = advance({}, both, DEFAULTS, 0)
    assert [finding.alert_kind for finding in step.raised] == [AlertKind.NO_CHECKPOINT]
    assert step.pending[AlertKind.JOB_STATE, "job:bars"] == AlertState(open=False, contradicted_since_ms=0)
