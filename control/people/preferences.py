"""What each account likes to see first: look, layout of charts, favourites. Kept with the account, not in a browser."""

import json
import re
from collections.abc import Mapping
from typing import Annotated, Literal
from zoneinfo import available_timezones

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from bar.clock import now_ms
from bar.frames import parse_frame, parse_frames
from bar.sqlite import Database
from control.actions import action
from control.people.accounts import get_account
from control.people.errors import PreferenceError
from control.people.roles import Actor, Permission

ZONES = ("UTC", "local", "exchange")
_STUDIES = re.compile(r"[a-z0-9:.,]*")

Theme = Literal["system", "light", "dark"]
Kind = Literal["candles", "ohlc", "line", "heikin-ashi"]
Scale = Literal["linear", "log"]
StartPage = Literal["overview", "chart", "frames", "study", "compare"]


class Preferences(BaseModel):
    """The preferences of one account.

    theme: "system" leaves light or dark to the browser. frame, kind, studies, zone, scale, fill: how a chart opens when
    its address does not say; frames: which ones stand side by side. favourites: instruments that stand first in the
    watchlist. start_page: where one lands.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    theme: Theme = "system"
    frame: str = "1m"
    kind: Kind = "candles"
    studies: str = Field(default="", max_length=200)
    zone: str = "UTC"
    scale: Scale = "linear"
    fill: bool = False
    favourites: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = Field(default=(), max_length=500)
    start_page: StartPage = "overview"
    frames: str = "1s,1m,1h"

    @field_validator("frame")
    @classmethod
    def _is_a_frame(cls, value: str) -> str:
        return parse_frame(value).text

    @field_validator("frames")
    @classmethod
    def _are_frames(cls, value: str) -> str:
        return ",".join(frame.text for frame in parse_frames(value))

    @field_validator("studies")
    @classmethod
    def _looks_like_studies(cls, value: str) -> str:
        studies = "".join(value.lower().split())
        if not _STUDIES.fullmatch(studies):
            raise ValueError("write names and numbers such as sma:20,rsi:14")
        return studies

    @field_validator("zone")
    @classmethod
    def _is_a_zone(cls, value: str) -> str:
        if value not in ZONES and value not in available_timezones():
            raise ValueError(f"write {', '.join(ZONES)} or a name such as Europe/Vienna")
        return value

    @field_validator("favourites")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(value))


def preferences(db: Database, account: str) -> Preferences:
    """Return what an account prefers, with defaults for what was never chosen."""
    row = db.conn.execute("SELECT settings FROM preferences WHERE account = ?", (account,)).fetchone()
    return _usable(json.loads(row[0])) if row else Preferences()


def save_preferences(db: Database, actor: Actor, account: str, changes: Mapping[str, object]) -> Preferences:
    """Change some preferences of an account, one's own or as an admin; raise PreferenceError and change nothing.

    What is not named stays as it is at that moment, whoever else has changed it.
    """
    needs = Permission.VIEW_PRICES if actor.account == account else Permission.MANAGE_ACCOUNTS
    with action(db, actor, "account.preferences", account, needs=needs) as change:
        before = preferences(db, get_account(db, account).name)
        after = _checked({**before.model_dump(), **changes})
        old, new = before.model_dump(mode="json"), after.model_dump(mode="json")
        changed = [name for name in new if new[name] != old[name]]
        # Only what was chosen is kept, so that a better default reaches those who left it alone.
        kept = after.model_dump_json(exclude_defaults=True)
        db.conn.execute("INSERT OR REPLACE INTO preferences VALUES (?, ?, ?)", (account, kept, now_ms()))
        change.before = {name: old[name] for name in changed}
        change.after = {name: new[name] for name in changed}
    return after


def _checked(values: Mapping[str, object]) -> Preferences:
    try:
        return Preferences.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            known = ", ".join(Preferences.model_fields)
            raise PreferenceError(f"There is no preference {name}; there are {known}.") from error
        what = first["msg"].removeprefix("Value error, ").removesuffix(".")
        raise PreferenceError(f"The preference {name} is wrong: {what}.") from error


def _usable(stored: dict[str, object]) -> Preferences:
    """Read what an earlier version may have written: what is no longer understood is as if never chosen."""
    try:
        return Preferences.model_validate(stored)
    except ValidationError as error:
        wrong = {one["loc"][0] for one in error.errors()}
        return Preferences.model_validate({name: value for name, value in stored.items() if name not in wrong})
