"""Extraction of Barmill's rows from a provider's response by a mapping."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple

from barmill.ingest.identity import escape_id_part
from barmill.ingest.mapping.paths import MISSING, MappingError, Path, path_of, short_text
from barmill.ingest.mapping.row_mapping import CONSTANT, KEY, NOW, REQUESTED, RowMapping, midpoint, time_of
from barmill.platform.clock import now_ms
from barmill.platform.exact_json import text_of

_NUMBERED_ID = re.compile(r"(.*?)(\d{1,30})")


def newest_first(
    times_ns: Sequence[int | None], instruments: Sequence[object], ids: Sequence[str | None]
) -> bool | None:
    """Return whether the rows of a response are newest first, or None if the rows do not show it.

    Times decide first: whether they fall or rise more often from row to row within each instrument. If neither, for
    example because all are equal, ids that end in a number and have the same prefix decide.
    """
    by_time = _is_descending(zip(instruments, times_ns, strict=True))
    if by_time is not None:
        return by_time
    matches = [_NUMBERED_ID.fullmatch(row_id) if row_id is not None else None for row_id in ids]
    numbers = (
        ((name, match[1]), int(match[2]) if match else None) if match else ((name, ""), None)
        for name, match in zip(instruments, matches, strict=True)
    )
    return _is_descending(numbers)


def _is_descending(values: Iterable[tuple[object, int | None]]) -> bool | None:
    """Return whether values fall more often than they rise within their group; None if equally often."""
    last: dict[object, int] = {}
    balance = 0
    for group, value in values:
        if value is None:
            continue
        before = last.get(group, value)
        balance += (value < before) - (value > before)
        last[group] = value
    return None if balance == 0 else balance > 0


MAX_ROWS = 100_000
_OPTIONAL = frozenset({"volume", "id"})
_ID_SEPARATOR = "/"


class _Row(NamedTuple):
    """A row, its response, its name in the response, and the requested instrument."""

    value: object
    document: object
    key: str | None
    requested: str | None


_Reader = Callable[[_Row], object]


@dataclass(frozen=True)
class _Field:
    """One field: its name, the path as written, and the function that reads it from a row."""

    name: str
    text: str
    read: _Reader


def rows_of(document: object, mapping: RowMapping, requested: str | None = None) -> list[dict[str, object]]:
    """Return the response's rows by Barmill's names: time, instrument, price (or price_open, price_close), volume, id.

    requested: the requested instrument. Times are as `time_of` returns them. A field that is absent from some rows is
    None there. Raise MappingError if the rows are not found or too many, if no row has a required field, if no value of
    a field can become a number or a text, or if the lists of a response with a list per field differ in length.
    """
    fields = _fields(mapping)
    rows = list(_locate_rows(document, mapping, requested))
    if len(rows) > MAX_ROWS:
        raise MappingError(f'"{mapping.rows}" matches {len(rows):,} rows; request at most {MAX_ROWS:,} at once.')
    if mapping.by == "column":
        parts = [_columns(fields, row) for row in rows]
        columns = {field.name: [value for part in parts for value in part[field.name]] for field in fields}
    else:
        columns = {field.name: [field.read(row) for row in rows] for field in fields}
    for field in fields:
        if columns[field.name]:
            _check_values(field, columns[field.name], rows[0])
    _normalize_columns(columns, mapping)
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


@lru_cache(maxsize=1_000)
def _fields(mapping: RowMapping) -> tuple[_Field, ...]:
    names = ("time", "instrument", "price", "price_open", "price_close", "price_bid", "price_ask", "volume")
    fields = [_Field(name, text, _reader(text)) for name in names if (text := getattr(mapping, name))]
    if ids := (mapping.id,) if isinstance(mapping.id, str) else mapping.id:
        readers = tuple(_reader(text) for text in ids if text)
        if len(readers) == 1:
            fields.append(_Field("id", ids[0], readers[0]))
        elif readers:
            fields.append(_Field("id", " and ".join(ids), partial(_join_ids, readers)))
    return tuple(fields)


def _reader(text: str) -> _Reader:
    """Return the function that reads a field written as this text."""
    if text.startswith(CONSTANT):
        constant = text.removeprefix(CONSTANT)
        return lambda _: constant
    if text == KEY:
        return lambda row: MISSING if row.key is None else row.key
    if text == REQUESTED:
        return lambda row: MISSING if row.requested is None else row.requested
    if text == NOW:
        return lambda _: now_ms()
    first = path_of(text).first
    if text.startswith("$"):
        return lambda row: first(row.document)
    return lambda row: first(row.value)


def _join_ids(readers: Sequence[_Reader], row: _Row) -> object:
    parts = [reader(row) for reader in readers]
    texts = ["" if part is MISSING else text_of(part) or "" for part in parts]
    has_text = any(text.strip() for text in texts)  # empty parts alone identify nothing
    return _ID_SEPARATOR.join(escape_id_part(text) for text in texts) if has_text else MISSING


def _locate_rows(document: object, mapping: RowMapping, requested: str | None) -> Iterator[_Row]:
    path = path_of(mapping.rows)
    matches = list(path.all(document))
    if not matches and _is_wrong_path(path, document):
        raise MappingError(f"{path.mismatch_text(document)}; the path must lead to the rows.")
    for match in matches:
        if match.value is None:
            continue  # some providers send null if there are no rows
        if mapping.by == "row" and isinstance(match.value, list) and _is_list_of_rows(match.value):
            yield from (_Row(item, document, match.key, requested) for item in match.value)
        else:
            yield _Row(match.value, document, match.key, requested)


def _is_wrong_path(path: Path, document: object) -> bool:
    """Return whether nothing was found because the path is wrong, not because there is currently no data."""
    count, value_at = path.matched_steps(document)
    if value_at is None or value_at == []:
        return False
    return count < len(path.steps) or not isinstance(value_at, dict | list)


def _is_list_of_rows(items: list[object]) -> bool:
    return not items or any(isinstance(item, dict | list) for item in items)


def _columns(fields: Sequence[_Field], row: _Row) -> dict[str, list[object]]:
    """Return the values of each field, one per tick, if the response has a list per field."""
    columns = {field.name: field.read(row) for field in fields}
    heights = {name: len(values) for name, values in columns.items() if isinstance(values, list)}
    if len(set(heights.values())) > 1:
        lengths = ", ".join(f"{name} has {height}" for name, height in heights.items())
        raise MappingError(
            f"The lists of the fields have different lengths ({lengths}); they must have the same length."
        )
    height = max(heights.values(), default=1)
    return {name: values if isinstance(values, list) else [values] * height for name, values in columns.items()}


def _check_values(field: _Field, values: Sequence[object], first: _Row) -> None:
    """Raise MappingError if no row has this field, or if no value can become a number or a text."""
    if all(value is MISSING for value in values):
        if field.name in _OPTIONAL:
            return
        if field.text == REQUESTED:
            raise MappingError("instrument: the request is not about a single instrument; give a path to its name.")
        if field.text == KEY:
            raise MappingError(f"{field.name}: the rows are not found under a name; give a path instead of {KEY}.")
        source = first.document if field.text.startswith("$") else first.value
        raise MappingError(
            f"{field.name}: {path_of(field.text).mismatch_text(source)};"
            f" {_expected_text(field.name)} is required there."
        )
    if all(isinstance(value, dict | list | bool) for value in values):
        raise MappingError(
            f'{field.name}: "{field.text}" is {short_text(values[0])}; {_expected_text(field.name)} is required there.'
        )


def _expected_text(name: str) -> str:
    if name.startswith("price") or name == "volume":
        return "a number, or the text of one,"
    return {"time": "a number or text that is a time", "instrument": "the instrument's name"}.get(
        name, "a number or text"
    )


def _normalize_columns(columns: dict[str, list[object]], mapping: RowMapping) -> None:
    """Parse the times, compute midpoints of bid and ask, apply names, and set missing values to None."""
    for name, values in columns.items():
        columns[name] = [None if value is MISSING else value for value in values]
    if "instrument" in columns:
        names = dict(mapping.names)
        spellings = (value if value is None else (text_of(value) or "").strip() for value in columns["instrument"])
        columns["instrument"] = [value if value is None else names.get(value, value) for value in spellings]
    columns["time"] = [time_of(value, mapping.time_format, mapping.zone) for value in columns["time"]]
    if mapping.price_bid:
        bids, asks = columns.pop("price_bid"), columns.pop("price_ask")
        columns["price"] = [midpoint(bid, ask) for bid, ask in zip(bids, asks, strict=True)]


def unmatched_fields(rows: Sequence[Mapping[str, object]], mapping: RowMapping) -> list[str]:
    """Return the optional fields that the mapping has a path for but that have no value in any row."""
    return [
        name for name in sorted(_OPTIONAL) if getattr(mapping, name) and rows and all(r.get(name) is None for r in rows)
    ]
