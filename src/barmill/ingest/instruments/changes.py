"""User actions on instruments: enable, disable, and request a new catalogue."""

from collections.abc import Sequence

from barmill.audit.actions import action
from barmill.audit.roles import Actor, Permission
from barmill.audit.trail import Stage
from barmill.ingest.instruments.names import (
    InstrumentsError,
    NameOutcome,
    NoCatalogueError,
    NotSelectableError,
    UnknownInstrumentsError,
    evaluate_names,
    report_text,
)
from barmill.ingest.instruments.store import REFRESH, CatalogueState, Instruments, delivered_without_selection
from barmill.platform.clock import now_ms


def change_selection(
    instruments: Instruments,
    actor: Actor,
    provider: str,
    names: Sequence[tuple[int, str]],
    *,
    enable: bool,
    partial: bool = False,
) -> tuple[NameOutcome, ...]:
    """Enable or disable the named instruments; return the outcome of each name.

    names: as returned by `parse_names`. If a name is unknown, change nothing and raise UnknownInstrumentsError with the
    report, unless `partial`. Raise InstrumentsError if there are no names, NotSelectableError if the provider has no
    selection, and NoCatalogueError if its catalogue was never fetched.
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
            raise InstrumentsError("No instruments are named; name at least one.")
        report = evaluate_names(names, _enabled_by_name(instruments, provider), enable=enable)
        errors = [line for line in report if line.outcome.is_error]
        if errors and not partial:
            raise UnknownInstrumentsError(_unknown_names_sentence(provider, errors), report)
        changed = [line.instrument for line in report if line.outcome.is_change]
        before, after = ("disabled", "enabled") if enable else ("enabled", "disabled")
        change.before = {"provider": provider, before: changed}
        change.after = {"provider": provider, after: changed}
        change.result = report_text(report)
        at_ms = now_ms()
        instruments.db.conn.executemany(
            "INSERT INTO instrument_picks VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET enabled = excluded.enabled, changed_ms = excluded.changed_ms",
            [(provider, name, enable, at_ms) for name in changed],
        )
    return report


def request_refresh(instruments: Instruments, actor: Actor, provider: str) -> CatalogueState:
    """Ask the feed to fetch the provider's catalogue again.

    Return the state of the catalogue, including the request. Raise NotSelectableError if the provider has no selection.
    """
    with action(instruments.db, actor, REFRESH, provider, needs=Permission.MANAGE_INSTRUMENTS) as change:
        _require_catalogue_of(instruments, provider)
        if instruments.state(provider).requested_ms is not None:
            change.result = "was already requested"
        else:
            change.stage = Stage.ISSUED
            at_ms = now_ms()
            instruments.db.conn.execute(
                "INSERT INTO instrument_catalogues (provider, requested_ms, trace_id) VALUES (?, ?, ?)"
                " ON CONFLICT DO UPDATE SET requested_ms = excluded.requested_ms, trace_id = excluded.trace_id",
                (provider, at_ms, change.trace_id),
            )
    return instruments.state(provider)


def _enabled_by_name(instruments: Instruments, provider: str) -> dict[str, bool]:
    """Return whether each instrument of the catalogue is enabled."""
    _require_catalogue_of(instruments, provider)
    catalogue = instruments.catalogue(provider)
    if not catalogue:
        raise NoCatalogueError(
            f"The catalogue of {provider} has not been fetched yet; start Barmill with ./barmill up to fetch it."
        )
    return {instrument.instrument: instrument.enabled for instrument in catalogue}


def _require_catalogue_of(instruments: Instruments, provider: str) -> None:
    content = delivered_without_selection(provider, instruments.state(provider))
    if content is not None:
        raise NotSelectableError(
            f"The provider {provider} delivers everything {content}, so instruments cannot be"
            " enabled or disabled; remove unwanted instruments there."
        )


def _unknown_names_sentence(provider: str, errors: Sequence[NameOutcome]) -> str:
    names = ", ".join(repr(line.text[:64]) for line in errors[:3])
    others = f" and {len(errors) - 3:,} more" if len(errors) > 3 else ""
    verb = "is not an instrument" if len(errors) == 1 else "are not instruments"
    return f"{names}{others} {verb} of {provider}, so nothing was changed; see ./barmill instrument list."
