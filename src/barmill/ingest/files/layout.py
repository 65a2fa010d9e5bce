"""The layout of a file: which columns hold which fields of a tick, and how they are written. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Self

import polars as pl

from barmill.ingest.files.findings import lacks_zone, suggested_columns
from barmill.ingest.files.streams import ReplayFileError
from barmill.ingest.mapping.paths import MappingError, path_of
from barmill.ingest.mapping.row_mapping import CONSTANT, RowMapping, midpoint
from barmill.model.tick_time import readable_times

_PRICE_FORMS = (("price",), ("price_open", "price_close"), ("price_bid", "price_ask"))
_PRICES = tuple(name for form in _PRICE_FORMS for name in form)
FIELDS = ("time", "instrument", *_PRICES, "volume", "id")
# Common short names of the two sides of a quote.
ALIASES = {"bid": "price_bid", "ask": "price_ask"}
_JOIN_SEPARATORS = {"time": " ", "instrument": "/", "id": "/"}
_INDEX = re.compile(r"\[(\d+)\]")


@dataclass(frozen=True)
class Layout:
    """The description of how a file's rows are read.

    sources: the columns of each field; several columns are joined. A column named here takes precedence over a column
    with the field's own name. constants: fields with the same value in every row. columns: the column names of a file
    whose first line is data. header: whether the first line contains names. Without either, columns are named 1, 2, 3
    and so on. time_format, zone: as in a feed's mapping. decimal: the decimal mark. absolute: ignore the sign of the
    volume, for sources that mark sells with it. rows: path to the rows in a JSON text, as in a feed's mapping. names:
    the instrument's name by the name in the file. newest_first: the first row of each file is its newest. rising_ids:
    as in a feed's mapping.
    """

    sources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    header: bool = True
    time_format: str = "auto"
    zone: str = ""
    decimal: Literal[".", ","] = "."
    absolute: bool = False
    rows: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    newest_first: bool = False
    rising_ids: bool = False

    @classmethod
    def of_names(cls, columns: Mapping[str, str]) -> Self:
        """Return the layout of files with other column names; columns: Barmill's name by the file's name."""
        return cls({field: (column,) for column, field in columns.items()})

    def with_mapping(self, mapping: RowMapping) -> Self:
        """Return this layout completed by a feed's mapping; values already set here take precedence, except `names`.

        Raise MappingError for settings that only apply to a provider's response.
        """
        if mapping.by != "row":
            raise MappingError('by: "column" is only for responses with one list per field; a file has rows.')
        sources, constants = dict[str, tuple[str, ...]](), dict[str, str]()
        for name in FIELDS:
            value = getattr(mapping, name)
            texts = tuple(text for text in ((value,) if isinstance(value, str) else value) if text)
            if name == "instrument" and texts == ("{instrument}",):
                continue  # a column with this name, or a name given in addition to the mapping
            if special := next((text for text in texts if text.startswith("{")), None):
                raise MappingError(f"{name}: {special} is only valid in a feed; name a column of the file.")
            if len(texts) == 1 and texts[0].startswith(CONSTANT):
                constants[name] = texts[0].removeprefix(CONSTANT)
            elif texts:
                sources[name] = tuple(_column_of(text) for text in texts)
        mapped = {*self.sources, *self.constants}
        if mapped & {*_PRICES}:
            mapped |= {*_PRICES}
        return replace(
            self,
            sources={**{name: columns for name, columns in sources.items() if name not in mapped}, **self.sources},
            constants={**{name: text for name, text in constants.items() if name not in mapped}, **self.constants},
            time_format=mapping.time_format if self.time_format == "auto" else self.time_format,
            zone=self.zone or mapping.zone,
            rows=self.rows or mapping.rows,
            names=dict(mapping.names),
            newest_first=self.newest_first or mapping.order == "newest_first",
            rising_ids=self.rising_ids or mapping.rising_ids,
        )

    def fields(
        self,
        names: Sequence[str],
        label: str,
        *,
        paths: bool = False,
        sample: Sequence[Mapping[str, str | None]] = (),
    ) -> "Fields":
        """Return the columns of each field in a file with these columns.

        Raise ReplayFileError if a column is missing, ambiguous or an invalid path, or if prices are mapped in several
        ways. label: the file's name for messages. paths: a column may be a path into nested values, as in JSON. sample:
        some rows, for better suggestions.
        """
        used_columns = {name for columns in self.sources.values() for name in columns}
        forms = [form for form in _PRICE_FORMS if any(name in self.sources or name in self.constants for name in form)]
        if len(forms) > 1:
            raise ReplayFileError(
                "The price is mapped in several ways; map either price, or open and close, or bid and ask."
            )
        open_fields = {*FIELDS} - {*_PRICES} | {name for form in forms or [*_PRICE_FORMS[:2]] for name in form}
        if not forms and not {"price", "price_open", "price_close"} & {*names}:
            open_fields |= {*_PRICE_FORMS[2]}
        columns_by_field = dict[str, tuple[str, ...]]()
        for name in FIELDS:
            if name in self.constants:
                continue
            if name in self.sources:
                columns_by_field[name] = tuple(
                    self._resolve_column(source, name, names, label, paths) for source in self.sources[name]
                )
            elif name in open_fields and name in names and name not in used_columns:
                columns_by_field[name] = (self._resolve_column(name, name, names, label, paths),)
        self._require({*columns_by_field, *self.constants}, names, label, sample)
        return Fields(self, columns_by_field)

    def _resolve_column(self, column: str, name: str, names: Sequence[str], label: str, paths: bool) -> str:
        count = names.count(column)
        if count > 1:
            raise ReplayFileError(f"{label} has {count} columns {column}; name the columns with --columns a,b,c.")
        index = _INDEX.fullmatch(column)
        if count == 0 and index and int(index[1]) < len(names):
            return names[int(index[1])]
        if count == 0 and paths and is_path(column):
            try:
                path_of(column)
            except MappingError as error:
                raise ReplayFileError(f"{name}: {error}") from error
        elif count == 0:
            raise ReplayFileError(
                f"{label} has no column {column}, to which {name} is mapped; its columns: {_names_text(names)};"
                " correct --map."
            )
        return column

    def _require(
        self, known_fields: set[str], names: Sequence[str], label: str, sample: Sequence[Mapping[str, str | None]]
    ) -> None:
        """Raise ReplayFileError unless time, instrument and one form of the price are known."""
        has_price = any(known_fields.issuperset(form) for form in _PRICE_FORMS)
        missing = [name for name in ("time", "instrument") if name not in known_fields] + (
            [] if has_price else ["price"]
        )
        if missing:
            options = [f"--map {name}=COLUMN" for name in missing]
            if "instrument" in missing:
                options.append("--instrument NAME if the file has only one")
            nested = [
                name for row in sample[:1] for name, text in row.items() if text and text.startswith(("[{", "[["))
            ]
            options += [f"--rows {name} if the rows are nested in it" for name in nested[:1]]
            suggestions = suggested_columns(names, sample, missing)
            suggested_options = " ".join(f"--map {name}={column}" for name, column in suggestions.items())
            if "time" in suggestions and not self.zone and lacks_zone(row.get(suggestions["time"]) for row in sample):
                suggested_options += " --zone UTC"
            raise ReplayFileError(
                f"{label} has no column {' or '.join(missing)}; its columns: {_names_text(names)};"
                f" assign it with {', '.join(options)}"
                + (f"; perhaps {suggested_options}." if suggested_options else ".")
            )


@dataclass(frozen=True)
class Fields:
    """The columns of each field in one file."""

    layout: Layout
    columns_by_field: Mapping[str, tuple[str, ...]]

    @property
    def columns(self) -> list[str]:
        """Return the columns to read, without repetition."""
        return list(dict.fromkeys(name for names in self.columns_by_field.values() for name in names))

    def types(self, whole_times: bool) -> dict[str, pl.DataType]:
        """Return the columns that may be parsed directly to a type.

        All others are read as text, so that no digit is lost.

        whole_times: the first row's time is a whole number, so all times are expected to be.
        """
        times = self.columns_by_field.get("time", ())
        if whole_times and len(times) == 1 and self.layout.time_format == "auto":
            shared = [name for name, columns in self.columns_by_field.items() if times[0] in columns]
            return {times[0]: pl.Int64()} if shared == ["time"] else {}
        return {}

    def select(self, table: pl.DataFrame) -> pl.DataFrame:
        """Return the rows with Barmill's columns, as `barmill.model.tick.check` expects them."""
        columns = {name: self._read(name, names, table) for name, names in self.columns_by_field.items()}
        columns |= {name: pl.lit(text).alias(name) for name, text in self.layout.constants.items()}
        if "price" in columns and "price_open" in columns:
            no_sides = pl.col("price_open").is_null() & pl.col("price_close").is_null()
            sides = [
                pl.when(no_sides).then("price").otherwise(side).alias(side) for side in ("price_open", "price_close")
            ]
            return table.select(columns.values()).with_columns(sides).drop("price")
        rows = table.select(columns.values())
        if "price_bid" in columns:
            middles = [midpoint(bid, ask) for bid, ask in zip(rows["price_bid"], rows["price_ask"], strict=True)]
            rows = rows.drop("price_bid", "price_ask").with_columns(price=pl.Series(middles, dtype=pl.String))
        return rows

    def _read(self, name: str, columns: tuple[str, ...], table: pl.DataFrame) -> pl.Expr:
        layout = self.layout
        parts = [pl.col(column) if column in table.columns else pl.lit(None, pl.String) for column in columns]
        if len(parts) > 1:
            texts = [part.cast(pl.String) for part in parts]
            texts = [pl.when(text.str.strip_chars() != "").then(text) for text in texts]
            if name != "time":  # a time with a missing part is missing, but an id may have empty parts
                texts = [pl.when(~pl.all_horizontal(t.is_null() for t in texts)).then(t.fill_null("")) for t in texts]
            if name == "id":  # same escaping as barmill/ingest/identity.py
                texts = [
                    t.str.replace_all("\\", "\\\\", literal=True).str.replace_all("/", "\\/", literal=True)
                    for t in texts
                ]
            value = pl.concat_str(texts, separator=_JOIN_SEPARATORS.get(name, " "))
        else:
            value = parts[0]
        dtype = table.select(value.alias(name)).schema[name] if table.width else pl.String()
        if name == "time" and (layout.time_format != "auto" or layout.zone):
            value = value.map_batches(self._times, return_dtype=pl.String)
        if name in _PRICES or name == "volume":
            if layout.decimal == "," and dtype == pl.String:
                value = _decimal_comma(value)
            if name == "volume" and layout.absolute:
                value = value.str.strip_chars().str.strip_prefix("-") if dtype == pl.String else value.abs()
        if name == "instrument" and layout.names:
            value = value.cast(pl.String).str.strip_chars().replace(layout.names)
        return value.alias(name)

    def _times(self, values: pl.Series) -> pl.Series:
        """Parse times that have a special format or no zone."""
        return readable_times(values, self.layout.time_format, self.layout.zone)


def is_path(column: str) -> bool:
    """Return whether a name can be a path into nested values."""
    return "." in column or "[" in column


def _column_of(path: str) -> str:
    """Return the column that a path such as `p` or ['a b'] refers to; return other paths unchanged."""
    parsed = path_of(path)
    if parsed.is_singular and len(parsed.steps) == 1 and isinstance(parsed.steps[0], str):
        return parsed.steps[0]
    return path


def _decimal_comma(value: pl.Expr) -> pl.Expr:
    """Replace the decimal comma with a point; a value that already contains a point is ambiguous, so unreadable."""
    has_point = value.str.contains(".", literal=True)
    return pl.when(has_point).then(value + " has a point").otherwise(value.str.replace(",", ".", literal=True))


def _names_text(names: Sequence[str]) -> str:
    text = ", ".join(names)
    return text if len(text) <= 200 else text[:200] + "…"
