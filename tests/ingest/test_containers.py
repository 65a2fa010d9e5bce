"""Files are recognized by content, and what can be read of damaged ones is read."""

import bz2
import gzip
import io
import json
import lzma
import struct
import zipfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from barmill.ingest.files.streams import ReplayFileError, decompress
from tests.support.reading import take
from tests.support.ticks import START_MS

ROWS = 200
CLOSES = [1.5 + number for number in range(ROWS)]
CSV = b"time,instrument,price,volume\n" + b"".join(
    b"%d,A,%d.5,1\n" % (START_MS + number, number + 1) for number in range(ROWS)
)
OBJECTS = [{"time": START_MS + n, "instrument": "A", "price": price, "volume": 1} for n, price in enumerate(CLOSES)]
JSON_LINES = "\n".join(json.dumps(row) for row in OBJECTS).encode()
SKIPPABLE = struct.pack("<II", 0x184D2A53, 5) + b"notes"


def zipped(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


def framed(data: bytes) -> bytes:
    """Compress without a size, as a stream of unknown length is."""
    compressor = zstandard.ZstdCompressor(write_content_size=False, write_checksum=True).compressobj()
    return compressor.compress(data) + compressor.flush()


def halves(pack: Callable[[bytes], bytes]) -> bytes:
    middle = CSV.index(b"\n", len(CSV) // 2) + 3
    return pack(CSV[:middle]) + pack(CSV[middle:])


CONTAINERS: dict[str, bytes] = {
    "plain": CSV,
    "gzip": gzip.compress(CSV),
    "gzip of two members and padding": halves(gzip.compress) + b"\0" * 1_000,
    "gzip of an empty member first": gzip.compress(b"") + gzip.compress(CSV),
    "bzip2": bz2.compress(CSV),
    "bzip2 of two": halves(bz2.compress),
    "xz": lzma.compress(CSV),
    "xz of two and padding": halves(lzma.compress) + b"\0" * 8,
    "zstd": zstandard.ZstdCompressor().compress(CSV),
    "zstd without a size": framed(CSV),
    "zstd of frames": SKIPPABLE + halves(framed) + SKIPPABLE + b"\0" * 100,
    "zip": zipped(("ticks.csv", CSV)),
    "zip with what desktops add": zipped(("__MACOSX/._t.csv", b"\0\1"), (".DS_Store", b"\0"), ("t.csv", CSV)),
    "zip of gzip": zipped(("t.csv.gz", gzip.compress(CSV))),
    "gzip of gzip": gzip.compress(gzip.compress(CSV)),
    "byte order mark": b"\xef\xbb\xbf" + CSV,
    "UTF-16 with mark": CSV.decode().encode("utf-16"),
    "UTF-16 without mark": CSV.decode().encode("utf-16-le"),
    "UTF-16, big end first": b"\xfe\xff" + CSV.decode().encode("utf-16-be"),
    "carriage returns": CSV.replace(b"\n", b"\r"),
    "carriage returns and newlines": CSV.replace(b"\n", b"\r\n"),
    "semicolons": CSV.replace(b",", b";"),
    "blank lines first": b"\n \n" + CSV,
    "JSON Lines": JSON_LINES,
    "JSON array": json.dumps(OBJECTS).encode(),
    "JSON array, laid out": json.dumps(OBJECTS, indent=2).encode(),
    "JSON array, one element a line": b"[\n" + JSON_LINES.replace(b"\n", b",\n") + b"\n]\n",
    "JSON array in UTF-16": json.dumps(OBJECTS).encode("utf-16"),
}


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("suffix", ["", ".pq.zst"])
def test_what_a_file_is_shows_in_its_content_and_not_in_its_name(tmp_path: Path, name: str, suffix: str) -> None:
    path = tmp_path / f"ticks{suffix}"
    path.write_bytes(CONTAINERS[name])
    taken = take(path)
    assert taken.closes == CLOSES
    assert taken.refused == []


def arrow(kind: str, table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    if kind == "parquet":
        pq.write_table(table, buffer, row_group_size=100)
    else:
        writer = pa.ipc.new_file if kind == "arrow file" else pa.ipc.new_stream
        with writer(buffer, table.schema) as sink:
            sink.write_table(table, max_chunksize=100)
    return buffer.getvalue()


PLAIN = pa.table(
    {
        "time": pa.array(range(START_MS, START_MS + ROWS)),
        "instrument": ["A"] * ROWS,
        "price": CLOSES,
        "volume": [1.0] * ROWS,
    }
)


@pytest.mark.parametrize("kind", ["parquet", "arrow file", "arrow stream"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, lambda data: zipped(("t", data))])
def test_columnar_files_are_read_in_any_container(tmp_path: Path, kind: str, pack: Callable[[bytes], bytes]) -> None:
    (tmp_path / "t").write_bytes(pack(arrow(kind, PLAIN)))
    taken = take(tmp_path / "t")
    assert (taken.closes, taken.ticks["line"].to_list()) == (CLOSES, list(range(1, ROWS + 1)))


TIMES = [START_MS + 1, START_MS + 1_000]
COLUMNS: dict[str, tuple[str, pa.Array]] = {
    "decimal256": ("price", pa.array([Decimal("1.5"), Decimal("2.5")], pa.decimal256(50, 10))),
    "decimal128": ("price", pa.array([Decimal("1.5"), Decimal("2.5")], pa.decimal128(20, 5))),
    "float32": ("price", pa.array([1.1, 2.3], pa.float32())),
    "float16": ("price", pa.array([np.float16(1.5), np.float16(2.5)], pa.float16())),
    "dictionary of floats": ("price", pa.array([1.5, 2.5]).dictionary_encode()),
    "dictionary of texts": ("instrument", pa.array(["A", "A"]).dictionary_encode()),
    "bytes": ("instrument", pa.array([b"A", b"A"])),
    "large text": ("instrument", pa.array(["A", "A"], pa.large_string())),
    "moments in a zone": ("time", pa.array(TIMES, pa.timestamp("ms", "America/New_York"))),
    "moments in a fixed zone": ("time", pa.array(TIMES, pa.timestamp("ms", "+05:30"))),
    "times in an unknown zone": ("time", pa.array(TIMES, pa.timestamp("ms", "Mars/Olympus"))),
    "moments in nanoseconds": ("time", pa.array([t * 1_000_000 for t in TIMES], pa.timestamp("ns"))),
    "unsigned": ("time", pa.array(TIMES, pa.uint64())),
    "times as dictionary": ("time", pa.array(TIMES).dictionary_encode()),
    "times in text": ("time", pa.array(map(str, TIMES))),
}


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("kind", ["parquet", "arrow file"])
def test_columns_of_every_type_are_read_exactly(tmp_path: Path, name: str, kind: str) -> None:
    column, values = COLUMNS[name]
    columns = {"time": pa.array(TIMES), "instrument": pa.array(["A", "A"]), "price": pa.array([1.5, 2.5])}
    (tmp_path / "t").write_bytes(arrow(kind, pa.table({**columns, column: values})))
    taken = take(tmp_path / "t")
    assert taken.closes == ([1.1, 2.3] if name == "float32" else [1.5, 2.5])
    assert (taken.ticks["time_ns"] // 1_000_000).to_list() == TIMES
    assert taken.ticks["instrument"].to_list() == ["A", "A"]


@pytest.mark.parametrize("kind", ["parquet", "arrow file", "arrow stream"])
def test_text_that_is_no_utf8_costs_its_own_rows(tmp_path: Path, kind: str) -> None:
    data, ends = b"A\xff\xfeAA", np.array([0, 1, 3, 4, 5], "int32").tobytes()
    names = pa.Array.from_buffers(pa.string(), 4, [None, pa.py_buffer(ends), pa.py_buffer(data)])
    table = pa.table({"time": [START_MS + n for n in range(4)], "instrument": names, "price": [1.5, 2.5, 3.5, 4.5]})
    (tmp_path / "t").write_bytes(arrow(kind, table))
    taken = take(tmp_path / "t")
    assert (taken.closes, taken.refused) == ([1.5, 3.5, 4.5], [(2, "bad_instrument")])
    assert taken.rejects["instrument"][0].startswith(r"\xff\xfe")


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
@pytest.mark.parametrize("wrong", [2**63 - 1, -(2**63) + 1, 10**17])
@pytest.mark.parametrize("kind", ["parquet", "arrow file"])
def test_a_moment_that_cannot_be_printed_costs_its_own_row(tmp_path: Path, kind: str, wrong: int, unit: str) -> None:
    good = START_MS // 1_000 * 10 ** {"s": 0, "ms": 3, "us": 6}[unit]
    table = pa.table(
        {
            "time": pa.array([good, wrong, None, good], pa.timestamp(unit)),
            "instrument": ["A"] * 4,
            "price": [1.5, 2.5, 3.5, 4.5],
        }
    )
    (tmp_path / "t").write_bytes(arrow(kind, table))
    taken = take(tmp_path / "t")
    assert (taken.closes, taken.refused) == ([1.5, 4.5], [(2, "bad_time"), (3, "bad_time")])


def test_an_arrow_file_that_polars_wrote_is_read(tmp_path: Path) -> None:
    pl.DataFrame(PLAIN.to_pydict()).write_ipc(tmp_path / "t")
    assert take(tmp_path / "t").closes == CLOSES


def test_a_column_that_holds_lists_is_refused_in_a_sentence(tmp_path: Path) -> None:
    table = pa.table({"time": TIMES, "instrument": ["A", "A"], "price": pa.array([[1.5], [2.5]])})
    (tmp_path / "t").write_bytes(arrow("parquet", table))
    with pytest.raises(
        ReplayFileError, match=r"has a column price of type list<.*, which is not a time, number or text"
    ):
        take(tmp_path / "t")


@pytest.mark.parametrize("name", ["gzip", "bzip2 of two", "xz of two and padding", "zstd without a size", "zip"])
def test_a_container_that_is_cut_off_gives_what_is_in_front_and_says_where_it_ends(tmp_path: Path, name: str) -> None:
    packed = CONTAINERS[name]
    (tmp_path / "t").write_bytes(packed[: len(packed) * 3 // 4])
    taken = take(tmp_path / "t")
    assert taken.closes == CLOSES[: len(taken.closes)]
    assert [reason for _, reason in taken.refused] == ["truncated_file"]
    assert taken.refused[0][0] == taken.ticks.height + 2 if taken.ticks.height else True


def test_damage_in_a_member_of_an_archive_leaves_the_others(tmp_path: Path) -> None:
    packed = bytearray(zipped(("1.csv", CSV), ("2.csv", CSV), ("10.csv", CSV.replace(b",A,", b",B,"))))
    middle = packed.index(b"2.csv") + 200
    packed[middle : middle + 40] = bytes(40)
    (tmp_path / "t.zip").write_bytes(packed)
    taken = take(tmp_path / "t.zip")
    assert taken.closes[:ROWS] == CLOSES
    assert taken.ticks.filter(instrument="B")["price_close"].to_list() == CLOSES
    sources = taken.rejects["source"].unique().to_list()
    assert sources == ["t.zip/2.csv"]
    assert "truncated_file" in [reason for _, reason in taken.refused]


@pytest.mark.parametrize("kind", ["parquet", "arrow file", "arrow stream"])
def test_good_parts_of_a_columnar_file_are_kept_and_the_damage_is_located(tmp_path: Path, kind: str) -> None:
    packed = bytearray(arrow(kind, PLAIN))
    where = packed.index(struct.pack("<d", CLOSES[100])) if kind != "parquet" else pq_column_start(bytes(packed))
    packed[where - 40 : where + 4] = b"\xff" * 44
    (tmp_path / "t").write_bytes(packed)
    taken = take(tmp_path / "t")
    good = [close for close in taken.closes if close in CLOSES[:100]]
    assert good == CLOSES[:100]
    if kind == "parquet":
        assert taken.refused == [(101, "truncated_file")]
        assert "row group 2 of 2 is damaged" in taken.rejects["detail"][0]
        assert "rows 101 to 200 are lost" in taken.rejects["detail"][0]


def pq_column_start(data: bytes) -> int:
    return int(pq.ParquetFile(io.BytesIO(data)).metadata.row_group(1).column(0).data_page_offset) + 40


def test_an_arrow_file_without_its_directory_is_read_as_a_stream(tmp_path: Path) -> None:
    packed = arrow("arrow file", PLAIN)
    (tmp_path / "t").write_bytes(packed[: packed.rindex(struct.pack("<d", CLOSES[150]))])
    taken = take(tmp_path / "t")
    assert taken.closes == CLOSES[:100]
    assert taken.refused == [(101, "truncated_file")]


def test_brackets_that_close_nothing_end_a_json_array_s_reading(tmp_path: Path) -> None:
    (tmp_path / "t").write_text(f"[{ELEMENTS[0]}}}}}, {ELEMENTS[0]}, {{]}}, {ELEMENTS[0]}]")
    taken = take(tmp_path / "t")
    assert taken.closes[:2] == [1.5, 1.5]
    assert len(taken.refused) >= 2


ELEMENTS = [
    f'{{"time": {START_MS}, "instrument": "A", "price": 1.5}}',
    '{"time": tru, "instrument": "A"}',
    "7",
    f'{{"time": {START_MS}, "instrument": "Zürich", "price": 2.5}}',
]


def test_a_bad_element_of_a_json_array_costs_that_element(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("[" + ",\n ".join([*ELEMENTS, ELEMENTS[0]]) + "]", "utf-8")
    taken = take(tmp_path / "t")
    assert taken.ticks.select("instrument", "line").rows() == [("A", 1), ("Zürich", 4), ("A", 5)]
    assert taken.refused == [(2, "broken_line"), (3, "broken_line")]


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_json_array_that_is_cut_off_says_so(tmp_path: Path, cut: int) -> None:
    text = "[" + ", ".join([ELEMENTS[0]] * 5) + "]"
    (tmp_path / "t").write_text(text[:-cut])
    taken = take(tmp_path / "t")
    whole = text[:-cut].count("}")
    assert taken.closes == [1.5] * whole
    assert taken.refused == [(whole + 1, "truncated_file")]


@pytest.mark.parametrize("pack", [framed, gzip.compress, bz2.compress])
def test_a_small_file_that_unpacks_to_much_is_unpacked_in_small_pieces(pack: Callable[[bytes], bytes]) -> None:
    size = 64 << 20
    bomb = pack(bytes(size))
    kinds = {b"\x28": "zstd", b"\x1f": "gzip", b"B": "bzip2"}
    pieces = decompress(iter([bomb]), kinds[bomb[:1]])
    lengths = [len(piece) for piece in pieces]
    assert sum(lengths) == size
    assert max(lengths) <= 33 << 20


def test_zstd_that_asks_for_much_memory_is_refused_in_a_sentence(tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=30, enable_ldm=True)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    (tmp_path / "t").write_bytes(compressor.compress(CSV) + compressor.flush())
    taken = take(tmp_path / "t")
    assert taken.refused == [(1, "truncated_file")]
    assert "needs more than 128 MB of memory" in taken.rejects["detail"][0]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"7z\xbc\xaf\x27\x1c" + bytes(50), "is a 7z archive"),
        (b"SQLite format 3\0" + bytes(50), "is an SQLite database"),
        (zipped(("[Content_Types].xml", b""), ("xl/sheet1.xml", b"")), "is an Excel or Office file"),
        (zipped(), "is an empty archive"),
        (bytes(range(256)) * 4, "is unknown; convert it"),
        (gzip.compress(gzip.compress(gzip.compress(gzip.compress(b"a")))), "compressed more than 3 times"),
        (b"[[1, 2], [3, 4]]", "contains lists, such as"),
    ],
    ids=lambda value: value if isinstance(value, str) else "data",
)
def test_what_cannot_be_read_is_refused_in_a_sentence(tmp_path: Path, data: bytes, sentence: str) -> None:
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(ReplayFileError, match=sentence):
        take(tmp_path / "t.csv")
