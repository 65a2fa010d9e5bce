"""Makes files of ticks as nasty as people have them, and reads them again with the standard library alone.

`nasty_file` returns a file's bytes, the layout to read it with, and a `Plan` by which `independent` finds what
each line of it must become. To try another kind of number or instrument, add it to NUMBERS or INSTRUMENTS; of times or
ids, add it to `_made_time` or `_row`; and say what is right in `_tick`, `_time_ns` and `_number`, which use nothing of
Barmill.
"""

import csv
import io
import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from functools import partial

from barmill.ingest.files.layout import Layout
from tests.support.file_packing import ENCODINGS, PACKERS, UNPACKERS, arrow, parquet, read_columnar

START_MS = 1_735_732_800_000
NUMBERS = (
    *("", " ", "abc", "NaN", "inf", "-inf", "1e400", "0x10", "1_000", "１", "--1", "1e", "1.2.3", "0", "-1", "-0.5"),
    *("1e16", "1e-3", "1.5E+2", " 2.5 ", "+3", ".5", "7.", "007", "1e5", "0.1", "0.30000000000000004", "1e-13"),
    *("0.1234567890123456789", "1e-400", "9007199254740993", "999999999999999.9"),
)
INSTRUMENTS = (
    "A",
    "A",
    "A",
    "B/USD",
    "Ä/USD",
    " A ",
    "",
    "x" * 64,
    "é" * 64,
    "x" * 65,
    'q"q',
    "a,b",
    "a;b",
    "1",
    "NULL",
)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_SPACE = " \t"
_MAX = Decimal(10) ** 15
_EXACT = Context(prec=2_000)


@dataclass(frozen=True)
class Plan:
    """How a file was made. fields: the columns of each field; constant: the instrument of all rows."""

    kind: str
    packing: str
    encoding: str
    separator: str
    columns: tuple[str, ...]
    header: bool
    fields: dict[str, tuple[str, ...]]
    constant: str | None
    comma: bool
    absolute: bool


@dataclass(frozen=True)
class Right:
    """What is right: line, time_ns, instrument, open, close, volume, id of each tick, and the lines of the rejects."""

    ticks: list[tuple[int, int, str, float, float, float | None, str | None]]
    rejects: list[int]


SHAPES = ("own", "own", "renamed", "collision", "quotes", "joined", "constant", "compound")
OWN: dict[str, tuple[str, ...]] = {name: (name,) for name in ("time", "instrument", "price", "volume", "id")}


def nasty_file(
    rows: int, seed: int, shapes: Sequence[str] = SHAPES, nasty_share: float = 0.3
) -> tuple[bytes, Layout, Plan]:
    """Make a file of about so many rows. shapes: how its columns may be named; nasty_share: of rows, 0 to 1."""
    luck = random.Random(seed)
    plan = _plan(luck, shapes)
    table = [_row(luck, plan, number, nasty_share) for number in range(rows)]
    for number in luck.sample(range(1, rows), rows // 20):
        table[number] = table[number - 1]
    text = {"csv": _csv, "json lines": _json_lines, "json array": _json_array}.get(plan.kind)
    if text:
        data = text(luck, plan, table).encode(plan.encoding)
    elif plan.kind == "parquet":
        data = parquet(plan.columns, table)
    else:
        data = arrow(plan.columns, table, stream=plan.packing == "plain")
    named = {name: columns for name, columns in plan.fields.items() if columns != (name,)}
    layout = Layout(
        sources=named,
        constants={} if plan.constant is None else {"instrument": plan.constant},
        columns=() if plan.header else plan.columns,
        header=plan.header,
        decimal="," if plan.comma else ".",
        absolute=plan.absolute,
    )
    return PACKERS[plan.packing](data), layout, plan


def independent(packed: bytes, plan: Plan) -> Right:
    """Read a file with the standard library, by the rules of docs/how-to/replay.md."""
    data = UNPACKERS[plan.packing](packed)
    if plan.kind in ("parquet", "arrow"):
        lines: list[tuple[int, dict[str, object] | None]] = list(enumerate(read_columnar(data), 1))
    elif plan.kind == "json array":
        elements = json.loads(data.decode(plan.encoding), parse_float=str, parse_int=str, parse_constant=str)
        lines = [(number, element if isinstance(element, dict) else None) for number, element in enumerate(elements, 1)]
    else:
        text = data.decode(plan.encoding).replace("\r\n", "\n").replace("\r", "\n").split("\n")
        numbered = [(number, line) for number, line in enumerate(text, 1) if line.strip()]
        if plan.kind == "csv":
            lines = [(number, _cells(line, plan)) for number, line in numbered[1 if plan.header else 0 :]]
        else:
            lines = [(number, _object(line)) for number, line in numbered]
    ticks, rejects, seen = [], list[int](), set[tuple[object, ...]]()
    for number, record in lines:
        tick = None if record is None else _tick(record, plan)
        # Only the same tick under the same id is a repeat; an id alone may come again.
        if tick is None or (tick[-1] is not None and tick in seen):
            rejects.append(number)
            continue
        seen.add(tick)
        ticks.append((number, *tick))
    return Right(ticks, rejects)


def _tick(record: dict[str, object], plan: Plan) -> tuple[int, str, float, float, float | None, str | None] | None:
    """Return what a row must become; None if it must be a reject."""
    given = {name: [_text(record.get(column)) for column in columns] for name, columns in plan.fields.items()}
    parts = given["time"]
    time_ns = _time_ns(" ".join(part for part in parts if part is not None)) if None not in parts else None
    name = plan.constant if plan.constant is not None else (given["instrument"][0] or "")
    name = name.strip()
    if "price" in given:
        price = _number(given["price"][0], plan)
    else:
        sides = [_number(given[side][0], plan) for side in ("price_bid", "price_ask")]
        both = [side for side in sides if side is not None]
        price = _EXACT.divide(_EXACT.add(*both), 2) if len(both) == 2 else None
    volume = _volume(given.get("volume", [None])[0], plan)
    if time_ns is None or not name or len(name) > 64 or price is None or not 0 < price <= _MAX or volume == "bad":
        return None
    amount = None if volume is None else Decimal(volume)
    if amount is not None and not (0 <= amount <= _MAX and amount * price <= _MAX):
        return None
    if not _is_held(price) or (amount is not None and not (_is_held(amount) and _is_whole(amount, 12))):
        return None
    if amount is not None and not _is_whole(amount * price, 24):
        return None
    ids = [part or "" for part in given.get("id", [])]
    identity = "/".join(ids) if any(part is not None for part in given.get("id", [])) else None
    return time_ns, name, float(price), float(price), None if amount is None else float(amount), identity or None


def _is_held(number: Decimal) -> bool:
    """Tell whether a 64-bit float holds a number: whether its shortest text is that number."""
    return Decimal(repr(float(number))) == number


def _is_whole(number: Decimal, decimals: int) -> bool:
    """Tell whether a number has no more decimals than these among its first 15 digits."""
    rounded = Context(prec=15).plus(number)
    return rounded == 0 or -int(rounded.normalize().as_tuple().exponent) <= decimals


def _time_ns(text: str) -> int | None:
    """Read the times that are made below."""
    text = text.strip()
    if re.fullmatch(r"\d{13}|\d{16}|\d{19}", text):
        return int(text + "0" * (19 - len(text)))
    found = re.fullmatch(r"2025-01-01[T ]12:00:(\d\d)(?:\.(\d{1,9}))?Z", text)
    if not found:
        return None
    return START_MS * 1_000_000 + int(found[1]) * 10**9 + int((found[2] or "").ljust(9, "0"))


def _number(text: str | None, plan: Plan) -> Decimal | None:
    text = (text or "").strip(_SPACE)
    if plan.comma:
        text = "x" if "." in text else text.replace(",", ".")
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def _volume(text: str | None, plan: Plan) -> str | None:
    if text is None or not text.strip(_SPACE):
        return None
    number = _number(text, plan)
    if number is None:
        return "bad"
    return str(abs(number) if plan.absolute else number)


def _text(value: object) -> str | None:
    """Return a cell as text; an empty one of CSV is none."""
    return None if value is None or value == "" else str(value)


def _cells(line: str, plan: Plan) -> dict[str, object] | None:
    try:
        cells = next(csv.reader([line], delimiter=plan.separator, strict=True))
    except csv.Error:
        return None
    return dict(zip(plan.columns, cells, strict=True)) if len(cells) == len(plan.columns) else None


def _object(line: str) -> dict[str, object] | None:
    try:
        value = json.loads(line, parse_float=str, parse_int=str, parse_constant=str)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _plan(luck: random.Random, shapes: Sequence[str]) -> Plan:
    kind = luck.choice(("csv", "csv", "csv", "json lines", "json array", "parquet", "arrow"))
    comma = kind == "csv" and luck.random() < 0.2
    fields = dict(OWN)
    shape = luck.choice(shapes)
    columns = list(fields)
    if shape == "renamed":
        fields = {"time": ("ts",), "instrument": ("symbol",), "price": ("px",), "volume": ("qty",), "id": ("trade",)}
        columns = [name for names in fields.values() for name in names]
    if shape == "collision":
        fields["price"] = ("last",)
        columns.append("last")
    if shape == "quotes":
        del fields["price"]
        fields |= {"price_bid": ("bid",), "price_ask": ("ask",)}
        columns = [name for name in columns if name != "price"] + ["bid", "ask"]
    if shape == "joined":
        fields["time"] = ("date", "clock")
        columns = [name for name in columns if name != "time"] + ["date", "clock"]
    if shape == "constant":
        del fields["instrument"]
        columns.remove("instrument")
    if shape == "compound":
        fields["id"] = ("venue", "id")
        columns.append("venue")
    luck.shuffle(columns)
    return Plan(
        kind,
        luck.choice(list(PACKERS)),
        luck.choice(ENCODINGS) if kind not in ("parquet", "arrow") else "utf-8",
        luck.choice((";", "\t", "|") if comma else (",", ";", "\t", "|")),
        tuple(columns),
        kind != "csv" or luck.random() < 0.8,
        fields,
        "ONE" if shape == "constant" else None,
        comma,
        luck.random() < 0.15,
    )


def _row(luck: random.Random, plan: Plan, number: int, nasty_share: float) -> dict[str, str | None]:
    nasty = luck.random() < nasty_share
    time, clock = _made_time(luck, number, nasty)
    row = dict[str, str | None]()
    for column in plan.columns:
        match column:
            case "time" | "ts":
                value: str | None = time
            case "date" | "clock":
                value = clock[column == "clock"]
            case "instrument" | "symbol":
                value = luck.choice(INSTRUMENTS) if nasty else "A"
            case "id" | "trade":
                value = str(luck.randrange(3 * number + 3)) if luck.random() < 0.9 else ""
            case "venue":
                value = luck.choice(("X", "Y"))
            case _:
                value = _made_number(luck, nasty and luck.random() < 0.5, plan.comma)
        row[column] = value
    return row


def _made_time(luck: random.Random, number: int, nasty: bool) -> tuple[str, tuple[str, str]]:
    ms = START_MS + number % 60_000
    second, below = divmod(number % 60_000, 1_000)
    clock = f"12:00:{second:02d}.{below:03d}"
    iso = f"2025-01-01T{clock}Z"
    usual = (
        str(ms),
        str(ms),
        str(ms * 1_000 + 7),
        str(ms * 1_000_000 + 11),
        iso,
        iso.replace("T", " "),
        f"{iso[:-1]}456789Z",
    )
    bad = ("", "soon", "0", "-1", "2025-13-01T00:00:00Z", "99", "NaN", "2025-01-01")
    broken = luck.random() < 0.3 and nasty
    parts = ("2025-01-01", luck.choice(("", "soon")) if broken else f"{clock}Z")
    return luck.choice(bad) if broken else luck.choice(usual), parts


def _made_number(luck: random.Random, nasty: bool, comma: bool) -> str:
    text = luck.choice(NUMBERS) if nasty else str(Decimal(luck.randrange(1, 10**9)).scaleb(-luck.randrange(7)))
    if "E" in text and not nasty:
        text = f"{Decimal(text):f}"
    return text.replace(".", ",") if comma and luck.random() < 0.9 else text


def _csv(luck: random.Random, plan: Plan, table: Sequence[dict[str, str | None]]) -> str:
    end = luck.choice(("\n", "\r\n")) if luck.random() < 0.9 else "\r"
    quoted = luck.random() < 0.5
    lines = [plan.separator.join(plan.columns)] if plan.header else []
    for row in table:
        buffer = io.StringIO()
        write = partial(csv.writer, buffer, delimiter=plan.separator, lineterminator="")
        (write(quoting=csv.QUOTE_ALL) if quoted and luck.random() < 0.5 else write()).writerow(row.values())
        lines.append(buffer.getvalue())
        match luck.randrange(60):
            case 0:
                lines.append("")
            case 1:
                lines.append("broken")
            case 2:
                lines.append(lines[-1] + plan.separator)
            case 3:
                lines.append(lines[-1] + '"')
    return end.join(lines) + end * luck.randrange(2)


def _value(luck: random.Random, text: str | None) -> str:
    """Write a JSON value: as a number where it is one and luck will have it."""
    if text is None or (text == "" and luck.random() < 0.5):
        return "null"
    plain = re.fullmatch(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", text, re.ASCII)
    return text if plain and luck.random() < 0.7 else json.dumps(text, ensure_ascii=luck.random() < 0.5)


def _objects(luck: random.Random, table: Sequence[dict[str, str | None]]) -> list[str]:
    objects = []
    for row in table:
        members = [f"{json.dumps(name)}: {_value(luck, text)}" for name, text in row.items()]
        if luck.random() < 0.1:
            members.append('"more": {"a": [1, {"b": "}"}]}')
        if luck.random() < 0.05:
            members.pop(0)
        objects.append("{" + ", ".join(members) + "}")
        if luck.random() < 0.02:
            objects.append(luck.choice(("null", "7", '"text"', "{}", "[]")))
    return objects


def _json_lines(luck: random.Random, _plan: Plan, table: Sequence[dict[str, str | None]]) -> str:
    lines = _objects(luck, table)
    for _ in range(len(lines) // 40):
        lines.insert(luck.randrange(1, len(lines)), luck.choice(("", "{", '{"time": }', "}{")))
    # The first line tells what the file is.
    return "\n".join(["{}", *lines]) + "\n" * luck.randrange(2)


def _json_array(luck: random.Random, _plan: Plan, table: Sequence[dict[str, str | None]]) -> str:
    return "[" + luck.choice((",", ", ", ",\n", " ,\n  ")).join(["{}", *_objects(luck, table)]) + "]"
