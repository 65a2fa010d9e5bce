"""When to raise an alert: one rule for each kind of trouble, kept in the control database.

alert_rules   trouble, rule (JSON): only what somebody has changed; everything else is as DEFAULTS says
"""

from collections.abc import Mapping
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from bar.sqlite import Database, Migrations
from control.actions import action
from control.people.roles import Actor, Permission

rule_migrations = Migrations("alert_rules")
# How far back restarts are counted.
WINDOW_MS = 600_000


@rule_migrations()
def create(db: Database) -> None:
    """Make the first version of the table."""
    db.table("alert_rules").create({"trouble": str, "rule": str}, pk="trouble", not_null={"rule"}, strict=True)


class Severity(StrEnum):
    """How soon somebody should look."""

    CRITICAL = "critical"
    WARNING = "warning"


class Trouble(StrEnum):
    """What an alert can be about."""

    NO_DATA = "no_data"
    NO_CHECKPOINT = "no_checkpoint"
    JOB_STATE = "job_state"
    JOB_RESTARTS = "job_restarts"
    REJECTS = "rejects"
    DISK_LOW = "disk_low"
    PROCESS_DOWN = "process_down"
    PROCESS_RESTARTS = "process_restarts"
    KEY_EXPIRES = "key_expires"
    KAFKA_AWAY = "kafka_away"
    FEED_DOWN = "feed_down"
    FEED_GAPS = "feed_gaps"
    DAMAGE = "damage"

    @property
    def words(self) -> str:
        """Say in a few words what it is."""
        return _WORDS[self][0]

    @property
    def unit(self) -> str:
        """Say what the threshold counts."""
        return _WORDS[self][1]


_WORDS = {
    Trouble.NO_DATA: ("No new ticks", "seconds without a tick"),
    Trouble.NO_CHECKPOINT: ("No checkpoint", "minutes since the last one"),
    Trouble.JOB_STATE: ("A job is not as it should be", "seconds"),
    Trouble.JOB_RESTARTS: ("A job keeps restarting", "restarts within 10 minutes"),
    Trouble.REJECTS: ("Many rejects", "rows a second, over a minute"),
    Trouble.DISK_LOW: ("The disk is filling up", "GB that must be free"),
    Trouble.PROCESS_DOWN: ("A process is down", "seconds"),
    Trouble.PROCESS_RESTARTS: ("A process keeps restarting", "restarts within 10 minutes"),
    Trouble.KEY_EXPIRES: ("A key is about to expire", "days before"),
    Trouble.KAFKA_AWAY: ("Kafka takes no ticks", "seconds"),
    Trouble.FEED_DOWN: ("A feed needs somebody", "seconds"),
    Trouble.FEED_GAPS: ("Rows of a feed may be missing", "seconds"),
    Trouble.DAMAGE: ("Stored data is damaged", "seconds"),
}


class Rule(BaseModel):
    """When one kind of trouble is worth an alert; what the threshold counts, its trouble's `unit` says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = True
    severity: Severity = Severity.WARNING
    threshold: float = Field(gt=0, le=1e9, allow_inf_nan=False)


Rules = Mapping[Trouble, Rule]

DEFAULTS: Rules = {
    Trouble.NO_DATA: Rule(threshold=30, severity=Severity.CRITICAL),
    Trouble.NO_CHECKPOINT: Rule(threshold=5),
    Trouble.JOB_STATE: Rule(threshold=60, severity=Severity.CRITICAL),
    Trouble.JOB_RESTARTS: Rule(threshold=3),
    Trouble.REJECTS: Rule(threshold=5),
    Trouble.DISK_LOW: Rule(threshold=2, severity=Severity.CRITICAL),
    Trouble.PROCESS_DOWN: Rule(threshold=20, severity=Severity.CRITICAL),
    Trouble.PROCESS_RESTARTS: Rule(threshold=3),
    Trouble.KEY_EXPIRES: Rule(threshold=14),
    Trouble.KAFKA_AWAY: Rule(threshold=30, severity=Severity.CRITICAL),
    Trouble.FEED_DOWN: Rule(threshold=30),
    Trouble.FEED_GAPS: Rule(threshold=1),
    Trouble.DAMAGE: Rule(threshold=1, severity=Severity.CRITICAL),
}


def rules(db: Database) -> Rules:
    """Return every rule as it is now."""
    stored = {
        Trouble(trouble): Rule.model_validate_json(rule)
        for trouble, rule in db.conn.execute("SELECT trouble, rule FROM alert_rules")
        if trouble in set(Trouble)  # another version may know more
    }
    return {**DEFAULTS, **stored}


def set_rules(db: Database, actor: Actor, changed: Rules) -> None:
    """Change rules, each an action of its own; those that are so already are left alone."""
    for trouble, rule in changed.items():
        if rules(db)[trouble] == rule:
            continue
        with action(db, actor, "alert.rule", trouble.value, needs=Permission.MANAGE_ALERTS) as change:
            change.before = rules(db)[trouble].model_dump(mode="json")
            change.after = rule.model_dump(mode="json")
            query = "INSERT OR REPLACE INTO alert_rules (trouble, rule) VALUES (?, ?)"
            db.conn.execute(query, (trouble.value, rule.model_dump_json()))
