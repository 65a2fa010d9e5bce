"""Rows of ours out of a provider's answer, by a mapping."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple

from bar.clock import now_ms
from feed.connection.ids import escaped
from feed.mapping.errors import MappingError
from feed.mapping.exact_json import text_of
from feed.mapping.middle import middle
from feed.mapping.paths import MISSING, Path, first_at, path_of, shown
from feed.mapping.row_mapping import ASKED, CONSTANT, KEY, NOW, RowMapping
from feed.mapping.times import time_of

__all__ = ["MappingError", "RowMapping", "first_at", "rows_of", "time_of"]

MAX_ROWS = 100_000
_OPTIONAL = frozenset({"volume", "id"})
_ID_BREAK = "/"


class _Row(NamedTuple):
    """A row, the answer it is in, the name it stands under, and the instrument that was asked for."""

    value: object
    answer: object
    key: str | None
    asked: str | None


_Reading = Callable[[_Row], object]


@dataclass(frozen=True)
class _Field:
    """One field: how it is read from a row, and the path as it was written."""

    name: str
    text: str
    read: _Reading


def rows_of(answer: object, mapping: RowMapping, asked: str | None = None) -> list[dict[str, object]]:
    """Return the answer's rows with our names: time, instrument, price (or price_open and price_close), volume, id.

    asked: the instrument that was asked for. A field that some rows lack is None in them. Raise MappingError where the
    rows are not there, where no row has a field, or where none has anything in it that could become a number or a text.
    """
    fields = _fields(mapping)
    rows = list(_located(answer, mapping, asked))
    if len(rows) > MAX_ROWS:
        raise MappingError(f'"{mapping.rows}" leads to {len(rows):,} rows; ask for at most {MAX_ROWS:,} at once.')
    if mapping.by == "column":
        parts = [_columns(fields, row) for row in rows]
        columns = {field.name: [one for part in parts for one in part[field.name]] for field in fields}
    else:
        columns = {field.name: [field.read(row) for row in rows] for field in fields}
    for field in fields:
        if columns[field.name]:
            _check(field, columns[field.name], rows[0])
    _finish(columns, mapping)
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


@lru_cache(maxsize=1_000)
def _fields(mapping: RowMapping) -> tuple[_Field, ...]:
    names = ("time", "instrument", "price", "price_open", "price_close", "price_bid", "price_ask", "volume")
    fields = [_Field(name, text, _reading(text)) for name in names if (text := getattr(mapping, name))]
    if ids := (mapping.id,) if isinstance(mapping.id, str) else mapping.id:
        readings = tuple(_reading(text) for text in ids if text)
        if len(readings) == 1:
            fields.append(_Field("id", ids[0], readings[0]))
        elif readings:
            fields.append(_Field("id", " and ".join(ids), partial(_joined, readings)))
    return tuple(fields)


def _reading(text: str) -> _Reading:
    """Return how a field is read, as the text says."""
    if text.startswith(CONSTANT):
        constant = text.removeprefix(CONSTANT)
        return lambda _: constant
    if text == KEY:
        return lambda row: MISSING if row.key is None else row.key
    if text == ASKED:
        return lambda row: MISSING if row.asked is None else row.asked
    if text == NOW:
        return lambda _: now_ms()
    first = path_of(text).first
    if text.startswith("$"):
        return lambda row: first(row.answer)
    return lambda row: first(row.value)


def _joined(readings: Sequence[_Reading], row: _Row) -> object:
    parts = [reading(row) for reading in readings]
    texts = ["" if part is MISSING else text_of(part) or "" for part in parts]
    known = any(text.strip() for text in texts)  # empty parts alone identify nothing
    return _ID_BREAK.join(escaped(text) for text in texts) if known else MISSING


def _located(answer: object, mapping: RowMapping, asked: str | None) -> Iterator[_Row]:
    path = path_of(mapping.rows)
    places = list(path.all(answer))
    if not places and _is_mistaken(path, answer):
        raise MappingError(f"{path.why_not(answer)}; the rows are needed there.")
    for place in places:
        if place.value is None:
            continue  # how some say that there are none
        if mapping.by == "row" and isinstance(place.value, list) and _is_list_of_rows(place.value):
            yield from (_Row(one, answer, place.key, asked) for one in place.value)
        else:
            yield _Row(place.value, answer, place.key, asked)


def _is_mistaken(path: Path, answer: object) -> bool:
    """Tell whether nothing was found because the path is wrong, and not because there is nothing at present."""
    count, there = path.walked(answer)
    if there is None or there == []:
        return False
    return count < len(path.steps) or not isinstance(there, dict | list)


def _is_list_of_rows(found: list[object]) -> bool:
    return not found or any(isinstance(one, dict | list) for one in found)


def _columns(fields: Sequence[_Field], row: _Row) -> dict[str, list[object]]:
    """Return what each field has for each tick, where the answer has a list for each field."""
    found = {field.name: field.read(row) for field in fields}
    heights = {name: len(values) for name, values in found.items() if isinstance(values, list)}
    if len(set(heights.values())) > 1:
        listed = ", ".join(f"{name} has {height}" for name, height in heights.items())
        raise MappingError(f"The lists of the fields have several lengths ({listed}); lists of one length are needed.")
    height = max(heights.values(), default=1)
    return {name: values if isinstance(values, list) else [values] * height for name, values in found.items()}


def _check(field: _Field, values: Sequence[object], first: _Row) -> None:
    """Raise MappingError where no row has this field, or each has something that no number or text is made of."""
    if all(value is MISSING for value in values):
        if field.name in _OPTIONAL:
            return
        if field.text == ASKED:
            raise MappingError("instrument: the question was about no single instrument; give a path to its name.")
        if field.text == KEY:
            raise MappingError(f"{field.name}: the rows stand under no name; give a path instead of {KEY}.")
        whole = first.answer if field.text.startswith("$") else first.value
        raise MappingError(
            f"{field.name}: {path_of(field.text).why_not(whole)}; {_needed(field.name)} is needed there."
        )
    if all(isinstance(value, dict | list | bool) for value in values):
        raise MappingError(
            f'{field.name}: "{field.text}" leads to {shown(values[0])}; {_needed(field.name)} is needed there.'
        )


def _needed(name: str) -> str:
    if name.startswith("price") or name == "volume":
        return "a number, or the text of one,"
    return {"time": "a number or text that is a time", "instrument": "the instrument's name"}.get(
        name, "a number or text"
    )


def _finish(columns: dict[str, list[object]], mapping: RowMapping) -> None:
    """Read the times, take the middle of bid and ask, and let what is missing be None."""
    for name, values in columns.items():
        columns[name] = [None if value is MISSING else value for value in values]
    if "instrument" in columns:
        names = dict(mapping.names)
        spelled = (value if value is None else (text_of(value) or "").strip() for value in columns["instrument"])
        columns["instrument"] = [value if value is None else names.get(value, value) for value in spelled]
    columns["time"] = [time_of(value, mapping.time_format, mapping.zone) for value in columns["time"]]
    if mapping.price_bid:
        bids, asks = columns.pop("price_bid"), columns.pop("price_ask")
        columns["price"] = [middle(bid, ask) for bid, ask in zip(bids, asks, strict=True)]


def unfilled(rows: Sequence[Mapping[str, object]], mapping: RowMapping) -> list[str]:
    """Return the optional fields that the mapping has a path for and no row has a value of."""
    return [
        name for name in sorted(_OPTIONAL) if getattr(mapping, name) and rows and all(r.get(name) is None for r in rows)
    ]
