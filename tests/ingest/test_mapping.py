"""From providers' answers, in the shapes that they have, to rows of ours."""

import orjson
import polars as pl
import pytest
from pydantic import ValidationError

from barmill.ingest.files.layout import Layout
from barmill.ingest.mapping.paths import MappingError, first_at, path_of
from barmill.ingest.mapping.row_mapping import RowMapping, time_of
from barmill.ingest.mapping.row_tables import table, times_ns
from barmill.ingest.mapping.rows import rows_of
from barmill.model.tick import check

T_MS, T_NS = 1_764_140_400_123, 1_764_140_400_123_000_000


def ticks(answer: object, mapping: RowMapping, asked: str | None = None) -> list[tuple[object, ...]]:
    """Take an answer all the way to ticks."""
    checked = check(table(rows_of(answer, mapping, asked)), None)
    assert checked.rejects.is_empty(), checked.rejects.to_dicts()
    return checked.ticks.drop("line").rows()


def mapping(**given: object) -> RowMapping:
    return RowMapping.model_validate({"time": "t", "price": "p", **given})


@pytest.mark.parametrize(
    ("answer", "fields"),
    [
        # The answer is the list, its rows are objects.
        ([{"t": T_MS, "p": "1.1", "s": "A"}], {"instrument": "s"}),
        # The answer is one row, and the instrument what was asked for.
        ({"t": T_MS, "p": 1.1}, {}),
        # The list is further down.
        ({"data": {"rows": [{"t": T_MS, "p": 1.1}]}}, {"rows": "$.data.rows"}),
        # Rows are lists.
        ({"result": [[T_MS, "1.1"]]}, {"rows": "result", "time": "[0]", "price": "[1]"}),
        ([[T_MS, "1.1"]], {"time": "$[0][0]", "price": "[1]"}),
        # One row that is a list.
        ([T_MS, "1.1"], {"time": "[0]", "price": "[-1]"}),
        # The instrument is the name of the member that holds a list or a row.
        ({"trades": {"A": [{"t": T_MS, "p": 1.1}]}}, {"rows": "trades.*", "instrument": "{key}"}),
        ({"trades": {"A": {"t": T_MS, "p": 1.1}}}, {"rows": "trades.*", "instrument": "{key}"}),
        # The row is the price itself, and the time is for all.
        ({"at": T_MS, "rates": {"A": 1.1}}, {"rows": "rates.*", "instrument": "{key}", "time": "$.at", "price": "@"}),
        # A name that needs quotes, a filter, a constant.
        ({"a b": [{"k": 1}, {"k": 2, "t": T_MS, "p": 1.1}]}, {"rows": "['a b'][?@.k == 2]", "instrument": "=A"}),
        # A list for each field.
        ({"t": [T_MS], "c": [1.1], "s": "ok"}, {"by": "column", "price": "c"}),
        ({"q": [{"t": [T_MS], "c": [1.1]}]}, {"by": "column", "rows": "q[0]", "price": "c", "instrument": "=A"}),
    ],
)
def test_answers_of_every_shape_become_ticks(answer: object, fields: dict[str, object]) -> None:
    assert ticks(answer, mapping(**fields), "A") == [(T_NS, "A", 1.1, 1.1, None, None, None)]


def test_rows_of_open_and_close_have_both_prices_and_the_rest() -> None:
    answer = {"values": [{"when": "2025-11-26 07:00", "o": "1.5", "c": "1.75", "v": "10", "n": "7"}]}
    by = RowMapping(
        rows="values", time="when", price_open="o", price_close="c", volume="v", id="n",
        time_format="%Y-%m-%d %H:%M", zone="Europe/Berlin",
    )  # fmt: skip
    assert ticks(answer, by, "A") == [(1_764_136_800_000_000_000, "A", 1.5, 1.75, 10.0, None, "7")]


def test_the_middle_of_bid_and_ask_is_exact() -> None:
    by = RowMapping(time="t", price_bid="bids[0].price", price_ask="asks[0].price")
    answer = {"t": T_MS, "bids": [{"price": "1.10001"}], "asks": [{"price": "1.10002"}]}
    assert rows_of(answer, by, "A")[0]["price"] == "1.100015"
    answer["asks"] = []
    assert rows_of([answer, {**answer, "asks": [{"price": "2"}]}], by, "A")[0]["price"] is None


@pytest.mark.parametrize("odd", ["1_000", "１", "NaN", "inf", "1.2.3", "", "0x10"])
def test_the_middle_of_what_is_no_number_stays_unreadable(odd: str) -> None:
    by = RowMapping(time="t", price_bid="b", price_ask="a")
    assert rows_of([{"t": T_MS, "b": odd, "a": "2"}], by, "A")[0]["price"] == f"{odd} and 2"


def test_ids_of_several_parts_are_told_apart() -> None:
    rows = [
        {"t": T_MS, "p": 1, "x": x, "i": i}
        for x, i in ((1, "12"), (11, "2"), (1, "12"), (None, "5"), ("a/b", "c"), ("a", "b/c"))
    ]
    ids = table(rows_of(rows, mapping(id=("x", "i")), "A"))["id"].to_list()
    assert len(set(ids)) == 5
    assert ids[0] == ids[2]
    layout = Layout(sources={"time": ("t",), "price": ("p",), "id": ("x", "i")}, constants={"instrument": "A"})
    texts = pl.DataFrame(rows, {"t": pl.String, "p": pl.String, "x": pl.String, "i": pl.String}, strict=False)
    assert layout.fields(["t", "p", "x", "i"], "a file").select(texts)["id"].to_list() == ids
    assert table(rows_of(rows, mapping(id="i"), "A"))["id"].to_list() == ["12", "2", "12", "5", "c", "b/c"]


def test_empty_parts_alone_are_no_id() -> None:
    rows = [{"t": T_MS, "p": 1, "x": x, "i": ""} for x in ("", " ", None, "X")]
    ids = [row["id"] for row in rows_of(rows, mapping(id=("x", "i")), "A")]
    assert ids == [None, None, None, "X/"]


def test_prices_are_exactly_what_was_written() -> None:
    body = b'[{"t":1764140400123,"p":0.1},{"t":1764140400123,"p":"0.30000000000000004"},{"t":1764140400123,"p":6e-7}]'
    assert [tick[2] for tick in ticks(orjson.loads(body), mapping(), "A")] == [0.1, 0.30000000000000004, 6e-7]


@pytest.mark.parametrize(
    ("answer", "fields", "said"),
    [
        (
            {"data": [], "status": "ok"},
            {"rows": "result"},
            '"result" matches nothing: there is an object with data, status',
        ),
        (
            {"a": {"b": 7}},
            {"rows": "a.b.c"},
            '"a.b.c" matches nothing: a.b is the number 7; the path must lead to the rows.',
        ),
        ({"a": "soon"}, {"rows": "a.*"}, '"a.*" matches nothing: a is the text "soon"'),
        (
            [{"time": 1, "p": 1}],
            {},
            'time: "t" matches nothing: there is an object with time, p; a number or text that is',
        ),
        ([{"t": 1, "p": {"bid": 2}}], {}, 'price: "p" is an object with bid; a number, or the text of one, is'),
        ([{"t": 1, "p": {"bid": 2}}], {"price": "p.ask"}, 'price: "p.ask" matches nothing: p is an object with bid;'),
        ([{"t": 1, "p": True}], {}, 'price: "p" is true'),
        ([{"t": [1], "p": 1}], {}, 'time: "t" is a list of 1'),
        ([[1, 2]], {"time": "[0]", "price": "[5]"}, 'price: "[5]" matches nothing: there is a list of 2'),
        ([{"t": 1, "p": 1}], {"instrument": "{key}"}, "instrument: the rows are not found under a name"),
        ([{"t": 1, "p": 1}], {"instrument": "s"}, 'instrument: "s" matches nothing'),
        ([{"t": 1, "p": 1}], {"time": "$.at"}, 'time: "$.at" matches nothing: there is a list of 1'),
        ({"t": [1, 2], "p": [1]}, {"by": "column"}, "different lengths (time has 2, price has 1)"),
        ([7, 8], {}, 'time: "t" matches nothing: there is a list of 2'),
        ("busy", {}, 'time: "t" matches nothing: there is the text "busy"'),
        ([[]] * 100_001, {"rows": "$"}, "matches 100,001 rows"),
    ],
)
def test_a_mapping_that_does_not_fit_says_where_and_what_is_there(
    answer: object, fields: dict[str, object], said: str
) -> None:
    with pytest.raises(MappingError) as error:
        rows_of(answer, mapping(**{"instrument": "=A", **fields}))
    assert said in str(error.value)


def test_an_instrument_is_needed_from_somewhere() -> None:
    with pytest.raises(MappingError, match="not about a single instrument"):
        rows_of([{"t": 1, "p": 1}], mapping())


@pytest.mark.parametrize("answer", [{"trades": []}, {"trades": None}, {"trades": {}}])
def test_no_rows_at_present_is_no_mistake(answer: object) -> None:
    assert rows_of(answer, mapping(rows="trades.*"), "A") == []
    if answer != {"trades": {}}:
        assert rows_of(answer, mapping(rows="trades"), "A") == []


def test_rows_that_lack_something_become_rejects_beside_good_ones() -> None:
    rows = [{"t": T_MS, "p": 1}, {"t": T_MS}, {"p": 1}, {"t": T_MS, "p": [1]}, {"t": T_MS, "p": "x", "v": {}}, 5]
    checked = check(table(rows_of(rows, mapping(volume="v"), "A")), None)
    assert checked.ticks.height == 1
    reasons = ["bad_number", "bad_time", "bad_number", "bad_number", "bad_time"]
    assert checked.rejects["reason"].to_list() == reasons


@pytest.mark.parametrize(
    ("value", "time_format", "zone", "time_ns"),
    [
        (1_764_140_400, "auto", "", 1_764_140_400_000_000_000),
        (1_764_140_400.123456, "auto", "", 1_764_140_400_123_456_000),
        ("1764140400.123456789", "s", "", 1_764_140_400_123_456_789),
        ("1764140400123.456", "auto", "", 1_764_140_400_123_456_000),
        (T_MS, "auto", "", T_NS),
        (float(T_MS), "ms", "", T_NS),
        (T_NS // 1_000, "us", "", T_NS),
        (str(T_NS + 7), "ns", "", T_NS + 7),
        ("2025-11-26T07:00:00.123456789Z", "iso", "", 1_764_140_400_123_456_789),
        ("2025-11-26 07:00:00", "auto", "UTC", 1_764_140_400_000_000_000),
        ("2025-11-26T08:00:00+01:00", "auto", "", 1_764_140_400_000_000_000),
        ("26/11/2025 07.00 +0000", "%d/%m/%Y %H.%M %z", "", 1_764_140_400_000_000_000),
        ("2025-11-26 08:00:00.123456789", "auto", "Europe/Paris", 1_764_140_400_123_456_789),
        ("26/11/2025 07.00.00,123456789", "%d/%m/%Y %H.%M.%S,%f", "UTC", 1_764_140_400_123_456_789),
        (638_000_000_000_000_000, "ns", "", 638_000_000_000_000_000),
        (10**14, "us", "", 10**17),
    ],
)
def test_times_of_all_forms(value: object, time_format: str, zone: str, time_ns: int) -> None:
    assert times_ns([time_of(value, time_format, zone)]) == [time_ns]


@pytest.mark.parametrize(
    ("value", "time_format"),
    [
        (0, "auto"), (0, "s"), (1_000_000, "s"), (10**13, "us"), (-5, "ms"), ("soon", "auto"), ("", "auto"),
        ("2025-11-26T07:00:00", "iso"), (T_MS, "iso"), ("26/11/2025", "%d/%m/%Y"), ("x", "%d/%m/%Y"), (None, "auto"),
        (True, "auto"), ({}, "s"), ("nan", "s"), ("1e999999", "s"), (1e300, "s"), (T_MS, "s"), (T_MS, "us"),
        (20_250_101_120_000, "auto"), ("2025-11-26T07:00:00", "auto"), ("2025-11-26", "auto"),
    ],
)  # fmt: skip
def test_what_is_no_time_stays_a_reject(value: object, time_format: str) -> None:
    assert times_ns([time_of(value, time_format)]) == [None]


@pytest.mark.parametrize(
    "path",
    ["a..b", "$..*", "a[?length(@.b) > 1]", "a[", "a[?@.b == $.c]", "['a','b']", "a b", "." * 301, "a[*,*]", "a.[0]"],
)
def test_paths_that_are_none_or_could_take_forever_are_refused(path: str) -> None:
    with pytest.raises(MappingError):
        path_of(path)
    with pytest.raises(ValidationError):
        mapping(rows=path)


@pytest.mark.parametrize(
    "fields",
    [
        {"price": ""}, {"price_open": "o"}, {"price": "", "price_open": "o"}, {"price": "", "price_bid": "b"},
        {"time": ""}, {"instrument": "{name}"}, {"time_format": "seconds"}, {"time_format": "%Q"}, {"zone": "Mars"},
        {"time_format": "%H:%M:%S"}, {"time_format": "%d %H:%M"}, {"time_format": "%Y-%m-%d %I:%M"},
        {"nonsense": "x"}, {"by": "cell"},
    ],
)  # fmt: skip
def test_a_mapping_says_the_price_in_one_way_and_knows_its_words(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        mapping(**fields)


def test_an_empty_path_is_the_answer_itself_and_what_is_not_there_is_none() -> None:
    assert first_at({"a": [1, 2]}, "") == {"a": [1, 2]}
    assert first_at({"a": [1, 2]}, "a[*]") == 1
    assert first_at({"a": [1, 2]}, "b") is None


def test_a_table_without_rows_has_no_ticks() -> None:
    assert check(table([]), None).ticks.equals(pl.DataFrame(schema=check(table([]), None).ticks.schema))
