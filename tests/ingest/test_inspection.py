"""Files are looked at before they are replayed: what they are, and which options may help."""

import gzip
import json
import re
from pathlib import Path

import pytest

from barmill.ingest.files.layout import Layout
from barmill.ingest.files.streams import ReplayFileError
from barmill.ingest.providers.inspection import InspectedDocument, as_json, as_text, in_natural_order, inspect
from tests.support.ticks import START_MS

HEADER = "time,instrument,price,volume\n"
GIVEN = {"decimal": "."}
MINUTE_MS = 60_000


def rows(*minutes: int, instrument: str = "A") -> str:
    return "".join(f"{START_MS + minute * MINUTE_MS},{instrument},{n + 1},1\n" for n, minute in enumerate(minutes))


def look(folder: Path, text: str, lateness_ms: int = 5 * MINUTE_MS, layout: Layout | None = None) -> InspectedDocument:
    (folder / "t.csv").write_text(text)
    return inspect([folder / "t.csv"], layout or Layout(), lateness_ms, inspect_all=True)[0]


@pytest.mark.parametrize(
    ("text", "order", "late", "advice"),
    [
        (HEADER + rows(0, 1, 1, 2), "oldest first", 0, ""),
        (HEADER + rows(0, 0, 0), "one time", 0, ""),
        (HEADER + rows(20, 15, 10, 5, 0), "newest first", 3, "use --newest-first"),
        (HEADER + rows(0, 30, 1, 31, 2, 32), "mixed", 2, "2 rows are too far behind .* --sort, or a .* such as 29m"),
        (HEADER + rows(0, 9_000, 1, 9_001), "mixed", 1, r"use --sort\.$"),
        # One instrument after the other is in order.
        (HEADER + rows(0, 30) + rows(0, 30, instrument="B"), "oldest first", 0, ""),
        (HEADER.replace(",", ";") + f"{START_MS};A;1,5;2,5\n", None, 0, "use --decimal ,"),
        (HEADER + "2025-01-01 12:00:00,A,1,1\n", None, 0, "have no zone; set it with --zone"),
        (HEADER + "soon,A,1,1\n", None, 0, "Times cannot be read"),
        (HEADER + f"{START_MS},A,1,-1\n", None, 0, "use --amounts signed"),
    ],
)
def test_order_and_late_rows_are_found_and_the_option_offered(
    tmp_path: Path, text: str, order: str | None, late: int, advice: str
) -> None:
    found = look(tmp_path, text).findings
    assert (found.order, found.late) == (order, late)
    sentences = found.advice(GIVEN)
    if advice:
        assert len(sentences) == 1
        assert re.search(advice, sentences[0])
    else:
        assert sentences == []


def test_ids_that_repeat_with_other_values_suggest_the_column_of_the_venue(tmp_path: Path) -> None:
    text = f"time,instrument,exchange,id,price\n{START_MS},A,4,1,10\n{START_MS + 1},A,11,1,10.5\n{START_MS},A,4,2,10\n"
    found = look(tmp_path, text).findings
    assert found.advice(GIVEN) == [
        "1 ids repeat with another price or time; if each venue has separate ids, use --id exchange,id."
    ]
    assert found.advice({**GIVEN, "id": True}) == []


def test_a_document_is_described_for_people_and_programs(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_bytes(gzip.compress((HEADER + rows(0, 1) + "broken\n").encode()))
    seen = inspect([path], Layout(), 0, inspect_all=True)[0]
    text = as_text(seen)
    assert f"{path}: CSV in gzip, columns time, instrument, price, volume" in text
    assert "3 rows: 2 ticks, rejects: 1 broken_line" in text
    described = json.loads(json.dumps(as_json(seen, ["an option"])))
    assert (described["format"], described["packing"], described["order"], described["rows"]) == (
        "CSV",
        ["gzip"],
        "oldest first",
        3,
    )
    assert described["rejected"] == {"broken_line": 1}
    assert described["advice"] == ["an option"]


def test_files_are_put_in_the_order_of_their_numbers_only_if_times_rise_in_it(tmp_path: Path) -> None:
    def ordered(minutes: dict[str, int]) -> list[str] | None:
        files = [tmp_path / name for name in minutes]
        for path in files:
            path.write_text(HEADER + rows(minutes[path.name]))
        better = in_natural_order(files, inspect(files, Layout(), 0, inspect_all=False))
        return None if better is None else [path.name for path in better]

    assert ordered({"part-1": 0, "part-10": 9, "part-2": 1}) == ["part-1", "part-2", "part-10"]
    assert ordered({"part-1": 0, "part-10": 1, "part-2": 2}) is None
    assert ordered({"b": 0, "a": 1}) is None
    assert ordered({"part-1": 5, "part-10": 0, "part-2": 1}) is None


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [
        (
            json.dumps({"e": "trade", "E": 1, "s": "BTC", "t": 1, "p": "1.5", "q": "1", "T": START_MS}),
            "perhaps --map time=T --map instrument=s --map price=p --map volume=q",
        ),
        ("date,symbol,price\n2026-11-24,A,1\n", "perhaps --map time=date --map instrument=symbol --zone UTC."),
        ("date,symbol,price\n2026-11-24T00:00:00Z,A,1\n", "perhaps --map time=date --map instrument=symbol."),
        (f"when,symbol,px\n{START_MS},A,1\n", "perhaps --map time=when --map instrument=symbol --map price=px"),
        ("id,symbol,price\n1,A,1\n", r"NAME|COLUMN\.$"),
    ],
)
def test_columns_are_suggested_by_name_and_value(tmp_path: Path, text: str, suggestion: str) -> None:
    with pytest.raises(ReplayFileError, match=suggestion):
        look(tmp_path, text)
