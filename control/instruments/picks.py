"""What people do with instruments: enable them, disable them, and ask for a new catalogue."""

import time
from collections.abc import Sequence

from control.actions import action
from control.audit import Stage
from control.instruments.errors import (
    InstrumentsError,
    NoCatalogueError,
    NotPickableError,
    UnknownInstrumentsError,
)
from control.instruments.report import Line, in_words, judge
from control.instruments.store import REFRESH, CatalogueState, Instruments, what_it_has
from control.people.roles import Actor, Permission


def pick(
    instruments: Instruments,
    actor: Actor,
    provider: str,
    names: Sequence[tuple[int, str]],
    *,
    enable: bool,
    partial: bool = False,
) -> tuple[Line, ...]:
    """Enable or disable what is named (see names_in); return what became of each name.

    If one of them names nothing, nothing is done and UnknownInstrumentsError has the report, unless `partial`.
    """
    subject = names[0][1] if len(names) == 1 else f"{len(names):,} names"
    with action(
        instruments.db,
        actor,
        "instrument.enable" if enable else "instrument.disable",
        subject[:64],
        needs=Permission.MANAGE_INSTRUMENTS,
    ) as change:
        if not names:
            raise InstrumentsError("Name the instruments to pick.")
        report = judge(names, _as_they_are(instruments, provider), enable=enable)
        wrong = [line for line in report if line.outcome.wrong]
        if wrong and not partial:
            raise UnknownInstrumentsError(_why_nothing_was_done(provider, wrong), report)
        changed = [line.instrument for line in report if line.outcome.changes]
        before, after = ("disabled", "enabled") if enable else ("enabled", "disabled")
        change.before = {"provider": provider, before: changed}
        change.after = {"provider": provider, after: changed}
        change.result = in_words(report)
        now_ms = time.time_ns() // 1_000_000
        instruments.db.conn.executemany(
            "INSERT INTO instrument_picks VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET enabled = excluded.enabled, changed_ms = excluded.changed_ms",
            [(provider, name, enable, now_ms) for name in changed],
        )
    return report


def request_refresh(instruments: Instruments, actor: Actor, provider: str) -> CatalogueState:
    """Ask the feed to fetch the provider's catalogue again; return how the catalogue is, the request included."""
    with action(instruments.db, actor, REFRESH, provider, needs=Permission.MANAGE_INSTRUMENTS) as change:
        _require_catalogue_of(instruments, provider)
        if instruments.state(provider).requested_ms is not None:
            change.result = "was asked for already"
        else:
            change.stage = Stage.ISSUED
            now_ms = time.time_ns() // 1_000_000
            instruments.db.conn.execute(
                "INSERT INTO instrument_catalogues (provider, requested_ms, trace_id) VALUES (?, ?, ?)"
                " ON CONFLICT DO UPDATE SET requested_ms = excluded.requested_ms, trace_id = excluded.trace_id",
                (provider, now_ms, change.trace_id),
            )
    return instruments.state(provider)


def _as_they_are(instruments: Instruments, provider: str) -> dict[str, bool]:
    """Return which instruments of the catalogue are enabled."""
    _require_catalogue_of(instruments, provider)
    catalogue = instruments.catalogue(provider)
    if not catalogue:
        raise NoCatalogueError(
            f"The catalogue of {provider} has not been fetched yet; start Barmill with ./barmill up, which fetches it."
        )
    return {one.instrument: one.enabled for one in catalogue}


def _require_catalogue_of(instruments: Instruments, provider: str) -> None:
    has = what_it_has(provider, instruments.state(provider))
    if has is not None:
        raise NotPickableError(
            f"The provider {provider} delivers everything {has}, so there is nothing to"
            " pick; leave out what you do not want there."
        )


def _why_nothing_was_done(provider: str, wrong: Sequence[Line]) -> str:
    shown = ", ".join(repr(line.text[:64]) for line in wrong[:3])
    others = f" and {len(wrong) - 3:,} more" if len(wrong) > 3 else ""
    verb = "is no instrument" if len(wrong) == 1 else "are no instruments"
    return f"{shown}{others} {verb} of {provider}, so nothing was changed; see ./barmill instrument list."
