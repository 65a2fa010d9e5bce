"""What readers of the topic of bars are published: every version once, each later than the one before."""

import polars as pl
import pytest

from barmill.model.bar import BAR_SCHEMA, BAR_VALUES
from barmill.model.fold import PARTIAL_SCHEMA
from flink_jobs.publication import PUBLISHED_SCHEMA, PublishedVersions

AT_MS = 9_000


def bars(*rows: tuple[str, int, int, str]) -> pl.DataFrame:
    """Make bars of a second from rows of (instrument, second, ticks, state); the close tells how many ticks it saw."""
    table = [
        (name, "1s", s * 1_000, s * 1_000 + 1_000, 1.0, 9.0, 1.0, float(n), None, None, n, s * 1_000, s * 1_000, state)
        for name, s, n, state in rows
    ]
    return pl.DataFrame(table, {**BAR_VALUES, "state": pl.String()}, orient="row")


def published(revisions: PublishedVersions, *rows: tuple[str, int, int, str]) -> list[tuple[str, int, int, str, int]]:
    """Return (instrument, second, ticks, state, revision) of what is published of these bars."""
    table, kept = revisions.changed_bars(bars(*rows), AT_MS)
    assert table.schema == BAR_SCHEMA
    assert kept.schema == PUBLISHED_SCHEMA
    assert (table["close"] == table["ticks"]).all()
    assert (table["changed_ms"] == AT_MS).all()
    return table.select("instrument", pl.col("start_ms") // 1_000, "ticks", "state", "revision").rows()


def test_a_bar_forms_closes_and_is_revised() -> None:
    revisions = PublishedVersions()
    assert published(revisions, ("A", 0, 1, "forming")) == [("A", 0, 1, "forming", 0)]
    assert published(revisions, ("A", 0, 2, "forming")) == [("A", 0, 2, "forming", 0)]
    assert published(revisions, ("A", 0, 2, "closed")) == [("A", 0, 2, "closed", 0)]
    assert published(revisions, ("A", 0, 3, "closed")) == [("A", 0, 3, "revised", 1)]
    assert published(revisions, ("A", 0, 5, "closed")) == [("A", 0, 5, "revised", 2)]


def test_what_says_nothing_new_is_not_told_again() -> None:
    revisions = PublishedVersions()
    published(revisions, ("A", 0, 2, "forming"), ("B", 0, 2, "closed"))
    assert published(revisions, ("A", 0, 2, "forming"), ("B", 0, 2, "closed")) == []
    assert published(revisions, ("A", 0, 1, "forming"), ("B", 0, 1, "closed")) == []
    # Closing with fewer ticks than were published before would take some back.
    assert published(revisions, ("A", 0, 1, "closed")) == []


def test_what_has_closed_does_not_form_again() -> None:
    revisions = PublishedVersions()
    published(revisions, ("A", 0, 2, "closed"))
    assert published(revisions, ("A", 0, 3, "forming")) == [("A", 0, 3, "revised", 1)]


def test_bars_of_one_start_and_of_one_instrument_are_told_apart() -> None:
    revisions = PublishedVersions()
    published(revisions, ("A", 0, 1, "closed"), ("B", 0, 1, "forming"), ("A", 1, 1, "forming"))
    assert published(revisions, ("A", 0, 2, "closed"), ("B", 0, 2, "forming"), ("A", 1, 2, "closed")) == [
        ("A", 0, 2, "revised", 1),
        ("B", 0, 2, "forming", 0),
        ("A", 1, 2, "closed", 0),
    ]


def test_after_a_restart_it_goes_on_from_what_was_kept() -> None:
    revisions, deltas = PublishedVersions(), []
    for rows in ([("A", 0, 1, "forming")], [("A", 0, 2, "closed"), ("B", 0, 1, "closed")], [("A", 0, 3, "closed")]):
        deltas.append(revisions.changed_bars(bars(*rows), AT_MS)[1])
    again = PublishedVersions()
    again.restore(deltas)
    assert published(again, ("A", 0, 3, "closed"), ("B", 0, 2, "closed")) == [("B", 0, 2, "revised", 1)]
    assert published(again, ("A", 0, 4, "closed")) == [("A", 0, 4, "revised", 2)]


def test_what_can_change_no_more_is_forgotten() -> None:
    revisions = PublishedVersions()
    published(revisions, ("A", 0, 1, "closed"), ("A", 1, 1, "closed"))
    open_still = pl.DataFrame(
        [dict.fromkeys(PARTIAL_SCHEMA) | {"instrument": "A", "frame_ms": 1_000, "start_ms": 1_000}],
        PARTIAL_SCHEMA,
    )
    kept = revisions.retain(open_still)
    assert kept.select("start_ms", "ticks").rows() == [(1_000, 1)]
    assert revisions.held == 1
    assert published(revisions, ("A", 1, 2, "closed")) == [("A", 1, 2, "revised", 1)]


def test_many_versions_take_no_more_room_than_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flink_jobs.publication._RECENT_ROWS", 10)
    revisions = PublishedVersions()
    for ticks in range(1, 500):
        published(revisions, ("A", 0, ticks, "forming"), ("B", 0, ticks, "forming"))
    assert revisions.held < 20
    assert published(revisions, ("A", 0, 499, "closed")) == [("A", 0, 499, "closed", 0)]
