"""When findings become alerts, and alerts go away again: pure.

Something must be bad for a while before an alert is raised, and well for a while before it is cleared. So neither a
hiccup nor a value that hovers about its threshold makes an alert come and go.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from control.monitor.judge import Finding
from control.monitor.rules import Rules, Trouble

CLEAR_AFTER_MS = 15_000
_RAISE_AFTER_MS = 10_000
# Of these the threshold itself says how long it may last.
_LASTING = frozenset(
    {Trouble.JOB_STATE, Trouble.PROCESS_DOWN, Trouble.KAFKA_AWAY, Trouble.FEED_DOWN, Trouble.FEED_GAPS, Trouble.DAMAGE}
)
# These count something over a while already.
_AT_ONCE = frozenset(
    {Trouble.NO_DATA, Trouble.NO_CHECKPOINT, Trouble.JOB_RESTARTS, Trouble.PROCESS_RESTARTS, Trouble.KEY_EXPIRES}
)

Key = tuple[Trouble, str]


@dataclass(frozen=True)
class Standing:
    """Whether there is an open alert, and since when, without a break, it should be otherwise."""

    open: bool
    otherwise_since_ms: int | None = None


@dataclass(frozen=True)
class Changes:
    """What to do: alerts to raise and to clear; and how things stand from now on."""

    standings: Mapping[Key, Standing]
    raised: Sequence[Finding]
    cleared: Sequence[Key]


def advance(standings: Mapping[Key, Standing], findings: Sequence[Finding], rules: Rules, now_ms: int) -> Changes:
    """Take in one look. A subject that is gone, or whose rule is switched off, counts as well."""
    found = {(one.trouble, one.subject): one for one in findings}
    after: dict[Key, Standing] = {}
    raised, cleared = list[Finding](), list[Key]()
    for key in {**standings, **found}:
        before, finding = standings.get(key, Standing(open=False)), found.get(key)
        bad = finding.bad if finding is not None else False
        if bad is None or bad == before.open:
            now = Standing(before.open)
        else:
            since_ms = before.otherwise_since_ms if before.otherwise_since_ms is not None else now_ms
            wait_ms = _raise_after_ms(key[0], rules) if bad else CLEAR_AFTER_MS
            turned = now_ms - since_ms >= wait_ms
            now = Standing(bad) if turned else Standing(before.open, since_ms)
            if turned and bad and finding is not None:
                raised.append(finding)
            elif turned:
                cleared.append(key)
        if now != Standing(open=False):
            after[key] = now
    return Changes(after, raised, cleared)


def _raise_after_ms(trouble: Trouble, rules: Rules) -> float:
    if trouble in _LASTING:
        return rules[trouble].threshold * 1_000
    return 0 if trouble in _AT_ONCE else _RAISE_AFTER_MS
