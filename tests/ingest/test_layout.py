"""Which column is which field, whatever a file calls it and however it writes it."""

import json
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from barmill.ingest.files.layout import Layout
from barmill.ingest.files.streams import ReplayFileError
from barmill.ingest.mapping.row_mapping import RowMapping
from tests.hunt.answers import Polls, feed_of
from tests.hunt.order import answer_row, file_of
from tests.hunt.trades import START_NS, Made
from tests.support.reading import Taken, take, taken_from
from tests.support.ticks import START_MS, bars_of

ISO = "2025-01-01 12:00:00"
ISO_NS = 1_735_732_800_000_000_000


def read(tmp_path: Path, text: str, **layout: object) -> Taken:
    (tmp_path / "ticks").write_text(text)
    return take(tmp_path / "ticks", Layout(**layout))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        f"time,instrument,last,volume,price\n{START_MS},A,5.1,1,4900\n",
        f'{{"time": {START_MS}, "instrument": "A", "last": 5.1, "volume": 1, "price": 4900}}\n',
        f'[{{"time": {START_MS}, "instrument": "A", "last": "5.1", "volume": 1, "price": 4900}}]\n',
        f'{{"time": {START_MS}, "instrument": "A", "last": 5.1, "volume": 1, "price": 4900, "price_open": 7}}\n',
    ],
)
def test_a_mapped_column_wins_over_one_of_the_fields_own_name(tmp_path: Path, text: str) -> None:
    taken = read(tmp_path, text, sources={"price": ("last",)})
    assert (taken.ticks["price_open"].to_list(), taken.closes) == ([5.1], [5.1])


def test_a_mapped_time_wins_in_json_lines(tmp_path: Path) -> None:
    row = {"ts": START_MS, "time": START_MS + 3_600_000, "instrument": "A", "price": 1.5}
    taken = read(tmp_path, json.dumps(row), sources={"time": ("ts",)})
    assert taken.ticks["time_ns"].to_list() == [START_MS * 1_000_000]


def test_a_column_that_is_mapped_to_one_field_is_not_another_by_its_name(tmp_path: Path) -> None:
    text = f"time,id,price\n{START_MS},A,1\n{START_MS + 1},A,2\n"
    taken = read(tmp_path, text, sources={"instrument": ("id",)})
    assert (taken.closes, taken.ticks["id_text"].to_list()) == ([1.0, 2.0], [None, None])


def test_ids_of_files_are_kept_as_sent_and_are_numbers_only_if_they_rise(tmp_path: Path) -> None:
    ids = ["8f14e45f-ceea-467f", "1900000000000000001", "1900000000000000002", "99999999999999999999", "07"]
    text = "time,instrument,price,id\n" + "".join(f"{START_MS},A,1,{row_id}\n" for row_id in ids)
    assert read(tmp_path, text).ticks["id_text"].to_list() == ids
    rising = read(tmp_path, text, rising_ids=True).ticks.select("id", "id_text").rows()
    numbers = {text: int(text) for text in ids[1:3]}
    assert rising == [(numbers.get(row_id), None if row_id in numbers else row_id) for row_id in ids]


def test_a_file_without_a_header_is_recognized_and_read_with_names_or_numbers(tmp_path: Path) -> None:
    text = f"401,93500.1,0.5,{START_MS},True\n402,93500.2,0.25,{START_MS + 1},False\n"
    with pytest.raises(ReplayFileError, match=r"no line of column names: its first line is 401,.* --columns a,b,c"):
        read(tmp_path, text)
    constants = {"instrument": "BTC"}
    named = read(tmp_path, text, columns=("trade", "price", "volume", "time", "maker"), constants=constants)
    sources = {"time": ("4",), "price": ("2",), "volume": ("3",)}
    numbered = read(tmp_path, text, header=False, sources=sources, constants=constants)
    for taken in (named, numbered):
        assert taken.ticks.select("instrument", "price_close", "volume", "line").rows() == [
            ("BTC", 93500.1, 0.5, 1),
            ("BTC", 93500.2, 0.25, 2),
        ]


def test_rows_of_json_that_are_lists_are_read_with_names(tmp_path: Path) -> None:
    text = json.dumps([[START_MS, "1.5", "2"], [START_MS + 1, "1.6", "3"]])
    taken = read(tmp_path, text, columns=("time", "price", "volume"), constants={"instrument": "A"})
    assert taken.ticks.select("price_close", "volume").rows() == [(1.5, 2.0), (1.6, 3.0)]


def test_nested_members_of_json_are_read_by_their_path(tmp_path: Path) -> None:
    text = "\n".join(json.dumps({"s": "A", "k": {"t": START_MS + n, "c": [0, n + 1]}}) for n in range(2))
    taken = read(tmp_path, text, sources={"time": ("k.t",), "instrument": ("s",), "price": ("k.c[1]",)})
    assert taken.closes == [1.0, 2.0]


def test_quotes_with_date_and_time_apart_and_a_zone_are_read(tmp_path: Path) -> None:
    text = "<DATE>\t<TIME>\t<BID>\t<ASK>\n2025.01.01\t13:00:00.123\t1.1000\t1.1002\n2025.01.01\t13:00:00.2\t\t1.1003\n"
    taken = read(
        tmp_path,
        text,
        sources={"time": ("<DATE>", "<TIME>"), "price_bid": ("<BID>",), "price_ask": ("<ASK>",)},
        constants={"instrument": "EURUSD"},
        time_format="%Y.%m.%d %H:%M:%S.%f",
        zone="Europe/Paris",
    )
    assert taken.ticks.select("time_ns", "price_close").rows() == [(ISO_NS + 123_000_000, 1.1001)]
    assert taken.refused == [(3, "bad_number")]


def test_a_time_with_a_part_missing_is_refused(tmp_path: Path) -> None:
    text = "d,t,instrument,price\n2025-01-01,,A,1\n2025-01-01,12:00:00,A,2\n"
    taken = read(tmp_path, text, sources={"time": ("d", "t")}, zone="UTC")
    assert (taken.closes, taken.refused) == ([2.0], [(2, "bad_time")])


def test_decimal_commas_are_read_and_a_point_beside_them_is_refused(tmp_path: Path) -> None:
    text = f"time;instrument;price;volume\n{START_MS};A;1,12551;1,5\n{START_MS};A;1.500,5;1\n{START_MS};A;1.500;1\n"
    taken = read(tmp_path, text, decimal=",")
    assert taken.ticks.select("price_close", "volume").rows() == [(1.12551, 1.5)]
    assert taken.refused == [(3, "bad_number"), (4, "bad_number")]


@pytest.mark.parametrize("decimal", [".", ","])
def test_signs_of_amounts_are_left_out_only_if_asked_for(tmp_path: Path, decimal: str) -> None:
    text = f"time;instrument;price;volume\n{START_MS};A;1;-2{decimal}5\n"
    assert read(tmp_path, text, decimal=decimal).refused == [(2, "volume_negative")]
    assert read(tmp_path, text, decimal=decimal, absolute=True).ticks["volume"].to_list() == [2.5]


@pytest.mark.parametrize(
    ("header", "layout", "sentence"),
    [
        ("ts,instrument,price", {}, r"has no column time; its columns: ts, instrument.*--map time=COLUMN"),
        ("time,price", {}, r"has no column instrument; its columns: .*--instrument NAME"),
        ("time,instrument,price_bid", {}, r"has no column price; its columns:"),
        ("time,instrument,price", {"sources": {"volume": ("qty",)}}, r"no column qty, to which volume is mapped"),
        ("time,instrument,price,price", {"sources": {"price": ("price",)}}, r"has 2 columns price"),
    ],
)
def test_columns_that_are_missing_are_named(
    tmp_path: Path, header: str, layout: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ReplayFileError, match=sentence):
        read(tmp_path, f"{header}\n{','.join('x' * (header.count(',') + 1))}\n", **layout)


def test_a_foreign_json_file_says_which_members_it_has(tmp_path: Path) -> None:
    with pytest.raises(
        ReplayFileError, match=r"has no column time or instrument or price; its columns: e, T, s, p; assign it with"
    ):
        read(tmp_path, json.dumps({"e": "trade", "T": START_MS, "s": "A", "p": "1.5"}))


def test_a_row_of_empty_cells_is_a_reject(tmp_path: Path) -> None:
    assert read(tmp_path, f"time,instrument,price\n,,\n{START_MS},A,1\n").refused == [(2, "bad_time")]
    assert read(tmp_path, f'{{"time": {START_MS}, "instrument": "A", "price": 1}}\n{{}}\n').refused == [(2, "bad_time")]


def test_one_float_among_whole_times_rounds_none_of_them(tmp_path: Path) -> None:
    first, second = 1_735_732_799_999_999_999, 1_735_732_800_000_000_001
    rows = [f'{{"time": {time}, "instrument": "A", "price": 1.5}}' for time in (first, f"{second}.0")]
    taken = read(tmp_path, "\n".join(rows))
    assert taken.ticks["time_ns"].to_list()[0] == first
    assert taken.read == 2


def test_one_float_among_names_that_are_numbers_changes_none_of_them(tmp_path: Path) -> None:
    names = ["600519", "1.5", "700"]
    rows = (f'{{"time": {START_MS + n}, "instrument": {name}, "price": 1}}\n' for n, name in enumerate(names))
    assert read(tmp_path, "".join(rows)).ticks["instrument"].to_list() == names


def test_a_column_that_a_file_has_twice_is_not_read_as_a_field(tmp_path: Path) -> None:
    with pytest.raises(ReplayFileError, match="has 2 columns price; name the columns with --columns"):
        read(tmp_path, f"time,instrument,price,price\n{START_MS},A,1,2\n")


def test_a_mapping_of_a_feed_reads_a_file(tmp_path: Path) -> None:
    mapping = RowMapping(time="T", instrument="=A", price_bid="b", price_ask="['a b']", time_format="s", zone="UTC")
    layout = Layout().with_mapping(mapping)
    assert layout.constants == {"instrument": "A"}
    (tmp_path / "t").write_text(f"T,b,a b\n{ISO_NS // 10**9},1.1,1.3\n")
    taken = take(tmp_path / "t", layout)
    assert taken.ticks.select("time_ns", "price_close").rows() == [(ISO_NS, 1.2)]


@pytest.mark.parametrize("indent", [None, 2])
def test_rows_within_a_json_text_are_read_by_their_path(tmp_path: Path, indent: int | None) -> None:
    trades = [{"t": START_MS + number, "p": f"{number + 1}.5"} for number in range(3)]
    text = json.dumps({"code": "0", "data": {"list": [*trades, 7]}}, indent=indent)
    sources = {"time": ("t",), "price": ("p",)}
    with pytest.raises(ReplayFileError, match="has no column t, to which time is mapped; its columns: code, data"):
        read(tmp_path, text, sources=sources, constants={"instrument": "A"})
    taken = read(tmp_path, text, sources=sources, constants={"instrument": "A"}, rows="data.list")
    assert (taken.closes, taken.ticks["line"].to_list()) == ([1.5, 2.5, 3.5], [1, 1, 1])
    assert taken.refused == [(1, "bad_time")]


def test_rows_within_a_json_text_are_suggested(tmp_path: Path) -> None:
    text = json.dumps({"code": "0", "list": [{"time": START_MS, "price": 1}]})
    with pytest.raises(ReplayFileError, match="--rows list if the rows are nested in it"):
        read(tmp_path, text)


def test_names_and_order_of_a_mapping_count_for_a_file(tmp_path: Path) -> None:
    mapping = RowMapping(time="t", instrument="s", price="p", names={"XXBTZUSD": "BTC/USD"}, order="newest_first")  # type: ignore[arg-type]
    layout = Layout().with_mapping(mapping)
    (tmp_path / "t").write_text(f"t,s,p\n{START_MS},XXBTZUSD,1\n{START_MS},ETH,2\n")
    assert take(tmp_path / "t", layout).ticks["instrument"].to_list() == ["BTC/USD", "ETH"]
    assert layout.newest_first


def test_empty_parts_are_no_id_and_no_time(tmp_path: Path) -> None:
    rows = [{"d": "2025-01-01", "t": time, "a": "", "b": "", "price": 1} for time in ("12:00:00", "12:00:00", "")]
    sources = {"time": ("d", "t"), "id": ("a", "b")}
    text = "\n".join(json.dumps(row) for row in rows)
    taken = read(tmp_path, text, sources=sources, constants={"instrument": "A"}, zone="UTC")
    assert taken.ticks.select("id", "id_text").rows() == [(None, None)] * 2
    assert taken.refused == [(3, "bad_time")]


def test_ids_of_two_parts_order_no_ticks_of_one_time(tmp_path: Path) -> None:
    made = [Made(START_NS, "A", Decimal(100 + n), "1", (str(900 - 37 * n % 11), f"x{7 * n % 5}")) for n in range(8)]
    (tmp_path / "t.csv").write_text(file_of(made))
    of_file = take(tmp_path / "t.csv", Layout(sources={"id": ("id", "id2")}))
    feed = feed_of(id=["i0", "i1"], volume="v", order="oldest_first")
    of_feed = taken_from(Polls(feed, [[answer_row(frame) for frame in made]]))
    for taken in (of_file, of_feed):
        assert taken.ticks["id_text"].to_list() == [frame.id_text for frame in made]
        bar = bars_of(taken.ticks.with_columns(sequence=pl.int_range(pl.len(), dtype=pl.Int64)), "1s").row(
            0, named=True
        )
        assert (bar["open"], bar["close"], bar["ticks"]) == (100.0, 107.0, 8)
