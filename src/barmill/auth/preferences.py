"""Preferences of an account: theme, chart layout, favourites. Stored with the account, not in a browser."""

import json
import re
from collections.abc import Mapping
from typing import Annotated, Literal
from zoneinfo import available_timezones

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from barmill.audit.accounts import PreferenceError, get_account
from barmill.audit.actions import action
from barmill.audit.roles import Actor, Permission
from barmill.model.frames import parse_frame, parse_frames
from barmill.platform.clock import now_ms
from barmill.platform.sqlite_file import Database

ZONES = ("UTC", "local", "exchange")
_STUDIES = re.compile(r"[a-z0-9:.,]*")

Theme = Literal["system", "light", "dark"]
Kind = Literal["candles", "ohlc", "line", "heikin-ashi"]
Scale = Literal["linear", "log"]
StartPage = Literal["overview", "chart", "frames", "study", "compare"]


class Preferences(BaseModel):
    """The preferences of one account.

    theme: "system" leaves light or dark to the browser.
    frame, kind, studies, zone, scale, fill: how a chart opens if its address does not say.
    frames: the frames shown side by side. favourites: instruments listed first in the watchlist.
    start_page: the page that opens first.
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
    def _without_duplicates(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(value))


def preferences(db: Database, account: str) -> Preferences:
    """Return the preferences of an account, with defaults for those never set."""
    row = db.conn.execute("SELECT settings FROM preferences WHERE account = ?", (account,)).fetchone()
    return _read_stored(json.loads(row[0])) if row else Preferences()


def save_preferences(db: Database, actor: Actor, account: str, changes: Mapping[str, object]) -> Preferences:
    """Change some preferences of an account; return all. Raise PreferenceError and change nothing if one is invalid.

    Changing another account's preferences requires an admin. Preferences not named keep their current values, even
    if another session has changed them in the meantime.
    """
    needs = Permission.VIEW_PRICES if actor.account == account else Permission.MANAGE_ACCOUNTS
    with action(db, actor, "account.preferences", account, needs=needs) as change:
        before = preferences(db, get_account(db, account).name)
        after = _validated({**before.model_dump(), **changes})
        old, new = before.model_dump(mode="json"), after.model_dump(mode="json")
        changed = [name for name in new if new[name] != old[name]]
        # Store only values that differ from the defaults, so that a better default reaches users who never changed it.
        stored = after.model_dump_json(exclude_defaults=True)
        db.conn.execute("INSERT OR REPLACE INTO preferences VALUES (?, ?, ?)", (account, stored, now_ms()))
        change.before = {name: old[name] for name in changed}
        change.after = {name: new[name] for name in changed}
    return after


def _validated(values: Mapping[str, object]) -> Preferences:
    try:
        return Preferences.model_validate(values)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        name = str(detail["loc"][0])
        if detail["type"] == "extra_forbidden":
            names = ", ".join(Preferences.model_fields)
            raise PreferenceError(f"There is no preference {name}; choose one of {names}.") from error
        problem = detail["msg"].removeprefix("Value error, ").removesuffix(".")
        raise PreferenceError(f"The preference {name} is invalid: {problem}.") from error


def _read_stored(stored: dict[str, object]) -> Preferences:
    """Return stored preferences, perhaps of an earlier version. Values that are no longer valid become defaults."""
    try:
        return Preferences.model_validate(stored)
    except ValidationError as error:
        invalid = {detail["loc"][0] for detail in error.errors()}
        return Preferences.model_validate({name: value for name, value in stored.items() if name not in invalid})
