"""What readers of the topic of bars are told: every version once, each later than the one before."""

import polars as pl
import pytest

from bar.fold import PARTIAL_SCHEMA
from bar.model import BAR_SCHEMA, BAR_VALUES
from flink_jobs.revisions import TOLD_SCHEMA, Revisions

AT_MS = 9_000


def bars(*rows: tuple[str, int, int, str]) -> pl.DataFrame:
    """Make bars of a second from rows of (instrument, second, ticks, state); the close tells how many ticks it saw."""
    table = [
        (name, "1s", s * 1_000, s * 1_000 + 1_000, 1.0, 9.0, 1.0, float(n), None, None, n, s * 1_000, s * 1_000, state)
        for name, s, n, state in rows
    ]
    return pl.DataFrame(table, {**BAR_VALUES, "state": pl.String()}, orient="row")


def told(revisions: Revisions, *rows: tuple[str, int, int, str]) -> list[tuple[str, int, int, str, int]]:
    """Return (instrument, second, ticks, state, revision) of what is told of these bars."""
    table, kept = revisions.tell(bars(*rows), AT_MS)
    assert table.schema == BAR_SCHEMA
    assert kept.schema == TOLD_SCHEMA
    assert (table["close"] == table["ticks"]).all()
    assert (table["changed_ms"] == AT_MS).all()
    return table.select("instrument", pl.col("start_ms") // 1_000, "ticks", "state", "revision").rows()


def test_a_bar_forms_closes_and_is_revised() -> None:
    one = Revisions()
    assert told(one, ("A", 0, 1, "forming")) == [("A", 0, 1, "forming", 0)]
    assert told(one, ("A", 0, 2, "forming")) == [("A", 0, 2, "forming", 0)]
    assert told(one, ("A", 0, 2, "closed")) == [("A", 0, 2, "closed", 0)]
    assert told(one, ("A", 0, 3, "closed")) == [("A", 0, 3, "revised", 1)]
    assert told(one, ("A", 0, 5, "closed")) == [("A", 0, 5, "revised", 2)]


def test_what_says_nothing_new_is_not_told_again() -> None:
    one = Revisions()
    told(one, ("A", 0, 2, "forming"), ("B", 0, 2, "closed"))
    assert told(one, ("A", 0, 2, "forming"), ("B", 0, 2, "closed")) == []
    assert told(one, ("A", 0, 1, "forming"), ("B", 0, 1, "closed")) == []
    # Closing with fewer ticks than were told before would take some back.
    assert told(one, ("A", 0, 1, "closed")) == []


def test_what_has_closed_does_not_form_again() -> None:
    one = Revisions()
    told(one, ("A", 0, 2, "closed"))
    assert told(one, ("A", 0, 3, "forming")) == [("A", 0, 3, "revised", 1)]


def test_bars_of_one_start_and_of_one_instrument_are_told_apart() -> None:
    one = Revisions()
    told(one, ("A", 0, 1, "closed"), ("B", 0, 1, "forming"), ("A", 1, 1, "forming"))
    assert told(one, ("A", 0, 2, "closed"), ("B", 0, 2, "forming"), ("A", 1, 2, "closed")) == [
        ("A", 0, 2, "revised", 1),
        ("B", 0, 2, "forming", 0),
        ("A", 1, 2, "closed", 0),
    ]


def test_after_a_restart_it_goes_on_from_what_was_kept() -> None:
    one, deltas = Revisions(), []
    for rows in ([("A", 0, 1, "forming")], [("A", 0, 2, "closed"), ("B", 0, 1, "closed")], [("A", 0, 3, "closed")]):
        deltas.append(one.tell(bars(*rows), AT_MS)[1])
    again = Revisions()
    again.restore(deltas)
    assert told(again, ("A", 0, 3, "closed"), ("B", 0, 2, "closed")) == [("B", 0, 2, "revised", 1)]
    assert told(again, ("A", 0, 4, "closed")) == [("A", 0, 4, "revised", 2)]


def test_what_can_change_no_more_is_forgotten() -> None:
    one = Revisions()
    told(one, ("A", 0, 1, "closed"), ("A", 1, 1, "closed"))
    open_still = pl.DataFrame(
        [dict.fromkeys(PARTIAL_SCHEMA) | {"instrument": "A", "frame_ms": 1_000, "start_ms": 1_000}],
        PARTIAL_SCHEMA,
    )
    kept = one.forget_all_but(open_still)
    assert kept.select("start_ms", "ticks").rows() == [(1_000, 1)]
    assert one.held == 1
    assert told(one, ("A", 1, 2, "closed")) == [("A", 1, 2, "revised", 1)]


def test_many_versions_take_no_more_room_than_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flink_jobs.revisions._RECENT_ROWS", 10)
    one = Revisions()
    for ticks in range(1, 500):
        told(one, ("A", 0, ticks, "forming"), ("B", 0, ticks, "forming"))
    assert one.held < 20
    assert told(one, ("A", 0, 499, "closed")) == [("A", 0, 499, "closed", 0)]
