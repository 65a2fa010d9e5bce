"""Operations: what people ask of a job that takes time. The controller carries them out, step by step.

An operation's id is also its trace id in the audit trail and the trigger id of its savepoint, and it is on disk before
anything is done about it: whatever dies in the middle, repeating the step does no harm.
"""

import json
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What can be asked for."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"
    UPGRADE = "upgrade"
    RESCALE = "rescale"
    SAVEPOINT = "savepoint"
    DELETE = "delete"

    @property
    def done(self) -> str:
        """Return what has become of a job by it, such as "stopped"."""
        return _DONE[self]


_DONE = {
    Kind.START: "started",
    Kind.STOP: "stopped",
    Kind.RESTART: "restarted",
    Kind.UPGRADE: "upgraded",
    Kind.RESCALE: "rescaled",
    Kind.SAVEPOINT: "saved",
    Kind.DELETE: "deleted",
}


class StopMode(StrEnum):
    """How a job is stopped, and what it goes on from later."""

    SAVEPOINT = "savepoint"  # a savepoint is taken, and the job goes on from it
    LAST_STATE = "last-state"  # cancelled at once; the job goes on from its last checkpoint
    STATELESS = "stateless"  # cancelled at once; the job begins with the tick log again


class Outcome(StrEnum):
    """What became of an operation."""

    DONE = "done"
    FAILED = "failed"
    SUPERSEDED = "superseded"


class Phase(StrEnum):
    """How far an operation of several parts is."""

    FIRST = "first"
    STARTING = "starting"
    SETTLING = "settling"
    GOING_BACK = "going back"


@dataclass(frozen=True)
class Wanted:
    """What exactly was asked for; each kind has its own.

    restore: where to go on from, a URI; None for the newest. savepoint_dir: a folder other than the usual one.
    from_version, to_version: of an upgrade.
    """

    mode: StopMode = StopMode.SAVEPOINT
    restore: str | None = None
    parallelism: int | None = None
    savepoint_dir: str | None = None
    from_version: int | None = None
    to_version: int | None = None

    def as_json(self) -> str:
        """Write down what differs from the usual."""
        usual = Wanted()
        given = {name: value for name, value in vars(self).items() if value != getattr(usual, name)}
        return json.dumps(given, sort_keys=True)

    @classmethod
    def of_json(cls, text: str) -> "Wanted":
        """Undo `as_json`."""
        given = json.loads(text)
        return cls(**{**given, "mode": StopMode(given.get("mode", StopMode.SAVEPOINT))})


@dataclass(frozen=True)
class Operation:
    """One operation.

    run: the run it has started, once there is one. savepoint: the one it has taken, a URI. problem: why an upgrade
    goes back. outcome: None while it is open. sentence: how it is, or what became of it.
    """

    id: str
    job: str
    kind: Kind
    wanted: Wanted
    actor: str
    asked_ms: int
    phase: Phase = Phase.FIRST
    run: str | None = None
    savepoint: str | None = None
    problem: str | None = None
    ended_ms: int | None = None
    outcome: Outcome | None = None
    sentence: str = "Waiting for the controller."

    @property
    def open(self) -> bool:
        """Tell whether it is still being carried out."""
        return self.outcome is None

    @property
    def takes_savepoint(self) -> bool:
        """Tell whether a savepoint is a part of it."""
        kinds = (Kind.STOP, Kind.RESTART, Kind.UPGRADE, Kind.SAVEPOINT)
        return self.kind in kinds and self.wanted.mode is StopMode.SAVEPOINT

    @property
    def row(self) -> tuple[object, ...]:
        """Return it as a row of the table."""
        enums = (self.phase.value, self.run, self.savepoint, self.problem, self.ended_ms)
        outcome = None if self.outcome is None else self.outcome.value
        head = (self.id, self.job, self.kind.value, self.wanted.as_json(), self.actor, self.asked_ms)
        return (*head, *enums, outcome, self.sentence)

    @classmethod
    def of_row(cls, row: tuple[str, ...]) -> "Operation":
        """Undo `row`."""
        identity, job, kind, wanted, actor, asked_ms, phase, run, savepoint, problem, ended_ms, outcome, sentence = row
        return cls(
            id=identity,
            job=job,
            kind=Kind(kind),
            wanted=Wanted.of_json(wanted),
            actor=actor,
            asked_ms=int(asked_ms),
            phase=Phase(phase),
            run=run,
            savepoint=savepoint,
            problem=problem,
            ended_ms=None if ended_ms is None else int(ended_ms),
            outcome=None if outcome is None else Outcome(outcome),
            sentence=sentence,
        )
