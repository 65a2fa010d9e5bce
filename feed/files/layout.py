"""Which columns of a file are which fields of a tick, and how they are written. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Self

import polars as pl

from feed.files.errors import ReplayFileError
from feed.files.suggestions import suggested_columns
from feed.mapping.errors import MappingError
from feed.mapping.middle import middle
from feed.mapping.paths import path_of
from feed.mapping.row_mapping import CONSTANT, RowMapping
from feed.tick_time import readable_times

_PRICE_WAYS = (("price",), ("price_open", "price_close"), ("price_bid", "price_ask"))
_PRICES = tuple(name for way in _PRICE_WAYS for name in way)
FIELDS = ("time", "instrument", *_PRICES, "volume", "id")
# What people call the two sides of a quote.
ALIASES = {"bid": "price_bid", "ask": "price_ask"}
_BREAKS = {"time": " ", "instrument": "/", "id": "/"}
_INDEX = re.compile(r"\[(\d+)\]")


@dataclass(frozen=True)
class Layout:
    """How to read a file's rows.

    sources: the columns that make a field, several being joined; a column named here wins over one of the field's own
    name. constants: fields that are the same in every row. columns: the names of the columns of a file whose first line
    is data; header: whether the first line holds names. Without either, columns are called 1, 2, 3 and so on.
    time_format, zone: as in a feed's mapping. decimal: the decimal mark. absolute: the volume's sign is left out, for
    sources that mark sells by it. rows: path to the rows in a JSON text, as in a feed's mapping. names: the name of an
    instrument by the file's. newest_first: the first row of each file is its newest.
    rising_ids: as in a feed's mapping.
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
        """Return the layout of files that call some columns differently: our name by theirs."""
        return cls({ours: (theirs,) for theirs, ours in columns.items()})

    def with_mapping(self, mapping: RowMapping) -> Self:
        """Return this layout completed by a feed's mapping; what this one says already wins.

        Raise MappingError for what only an answer of a provider can have.
        """
        if mapping.by != "row":
            raise MappingError('by: "column" is for answers that hold a list for each field; a file has rows.')
        sources, constants = dict[str, tuple[str, ...]](), dict[str, str]()
        for name in FIELDS:
            value = getattr(mapping, name)
            texts = tuple(text for text in ((value,) if isinstance(value, str) else value) if text)
            if name == "instrument" and texts == ("{instrument}",):
                continue  # a column of this name, or the one that is given beside the mapping
            if special := next((text for text in texts if text.startswith("{")), None):
                raise MappingError(f"{name}: {special} means something in a feed only; name a column of the file.")
            if len(texts) == 1 and texts[0].startswith(CONSTANT):
                constants[name] = texts[0].removeprefix(CONSTANT)
            elif texts:
                sources[name] = tuple(_column_of(text) for text in texts)
        said = {*self.sources, *self.constants}
        if said & {*_PRICES}:
            said |= {*_PRICES}
        return replace(
            self,
            sources={**{name: columns for name, columns in sources.items() if name not in said}, **self.sources},
            constants={**{name: text for name, text in constants.items() if name not in said}, **self.constants},
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
        where: str,
        *,
        paths: bool = False,
        sample: Sequence[Mapping[str, str | None]] = (),
    ) -> "Fields":
        """Return where each field is in a file with these columns; raise ReplayFileError where one is missing.

        paths: a column may be a path into nested values, as in JSON. sample: some rows, for better advice.
        """
        taken = {name for columns in self.sources.values() for name in columns}
        ways = [way for way in _PRICE_WAYS if any(name in self.sources or name in self.constants for name in way)]
        if len(ways) > 1:
            raise ReplayFileError("The price is mapped in several ways; give price, or open and close, or bid and ask.")
        open_fields = {*FIELDS} - {*_PRICES} | {name for way in ways or [*_PRICE_WAYS[:2]] for name in way}
        if not ways and not {"price", "price_open", "price_close"} & {*names}:
            open_fields |= {*_PRICE_WAYS[2]}
        chosen = dict[str, tuple[str, ...]]()
        for name in FIELDS:
            if name in self.constants:
                continue
            if name in self.sources:
                chosen[name] = tuple(self._found(one, name, names, where, paths) for one in self.sources[name])
            elif name in open_fields and name in names and name not in taken:
                chosen[name] = (self._found(name, name, names, where, paths),)
        self._require({*chosen, *self.constants}, names, where, sample)
        return Fields(self, chosen)

    def _found(self, column: str, name: str, names: Sequence[str], where: str, paths: bool) -> str:
        count = names.count(column)
        if count > 1:
            raise ReplayFileError(f"{where} has {count} columns {column}; name the columns with --columns a,b,c.")
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
                f"{where} has no column {column}, which {name} is mapped to, but {_listed(names)}; correct the --map."
            )
        return column

    def _require(
        self, known: set[str], names: Sequence[str], where: str, sample: Sequence[Mapping[str, str | None]]
    ) -> None:
        """Raise ReplayFileError unless time, instrument and one way of saying the price are known."""
        priced = any(known.issuperset(way) for way in _PRICE_WAYS)
        missing = [name for name in ("time", "instrument") if name not in known] + ([] if priced else ["price"])
        if missing:
            options = [f"--map {name}=COLUMN" for name in missing]
            if "instrument" in missing:
                options.append("--instrument NAME where the file holds only one")
            nested = [
                name for row in sample[:1] for name, text in row.items() if text and text.startswith(("[{", "[["))
            ]
            options += [f"--rows {name} if they are there" for name in nested[:1]]
            likely = suggested_columns(names, sample, missing)
            perhaps = " ".join(f"--map {name}={column}" for name, column in likely.items())
            raise ReplayFileError(
                f"{where} has no column {' or '.join(missing)} but {_listed(names)};"
                f" say which it is with {', '.join(options)}" + (f"; perhaps {perhaps}." if perhaps else ".")
            )


@dataclass(frozen=True)
class Fields:
    """Where each field is in one file. chosen: the columns of each."""

    layout: Layout
    chosen: Mapping[str, tuple[str, ...]]

    @property
    def columns(self) -> list[str]:
        """Return the columns that are read, each once."""
        return list(dict.fromkeys(name for names in self.chosen.values() for name in names))

    def types(self, whole_times: bool) -> dict[str, pl.DataType]:
        """Return the types that columns may be read as at once; all others are text, so that no digit is lost.

        whole_times: the first row's time is a whole number, so all of them will be.
        """
        times = self.chosen.get("time", ())
        if whole_times and len(times) == 1 and self.layout.time_format == "auto":
            shared = [name for name, columns in self.chosen.items() if times[0] in columns]
            return {times[0]: pl.Int64()} if shared == ["time"] else {}
        return {}

    def select(self, table: pl.DataFrame) -> pl.DataFrame:
        """Return the rows with our columns, as `feed.tick.check` takes them."""
        columns = {name: self._read(name, names, table) for name, names in self.chosen.items()}
        columns |= {name: pl.lit(text).alias(name) for name, text in self.layout.constants.items()}
        if "price" in columns and "price_open" in columns:
            both = pl.col("price_open").is_null() & pl.col("price_close").is_null()
            sides = [pl.when(both).then("price").otherwise(side).alias(side) for side in ("price_open", "price_close")]
            return table.select(columns.values()).with_columns(sides).drop("price")
        rows = table.select(columns.values())
        if "price_bid" in columns:
            middles = [middle(bid, ask) for bid, ask in zip(rows["price_bid"], rows["price_ask"], strict=True)]
            rows = rows.drop("price_bid", "price_ask").with_columns(price=pl.Series(middles, dtype=pl.String))
        return rows

    def _read(self, name: str, columns: tuple[str, ...], table: pl.DataFrame) -> pl.Expr:
        layout = self.layout
        parts = [pl.col(one) if one in table.columns else pl.lit(None, pl.String) for one in columns]
        if len(parts) > 1:
            texts = [part.cast(pl.String) for part in parts]
            texts = [pl.when(text.str.strip_chars() != "").then(text) for text in texts]
            if name != "time":  # a moment with a part missing is none, but an id with an empty part is one
                texts = [pl.when(~pl.all_horizontal(t.is_null() for t in texts)).then(t.fill_null("")) for t in texts]
            if name == "id":  # as feed/connection/ids.py does it
                texts = [
                    t.str.replace_all("\\", "\\\\", literal=True).str.replace_all("/", "\\/", literal=True)
                    for t in texts
                ]
            value = pl.concat_str(texts, separator=_BREAKS.get(name, " "))
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
        """Read times of a format, or without a zone."""
        return readable_times(values, self.layout.time_format, self.layout.zone)


def is_path(column: str) -> bool:
    """Tell whether a name can be a path into nested values."""
    return "." in column or "[" in column


def _column_of(path: str) -> str:
    """Return the name of the column that a path such as `p` or ['a b'] leads to; other paths stay as they are."""
    read = path_of(path)
    if read.one_place and len(read.steps) == 1 and isinstance(read.steps[0], str):
        return read.steps[0]
    return path


def _decimal_comma(value: pl.Expr) -> pl.Expr:
    """Return numbers with a point; one that has a point already could mean thousands and stays unreadable."""
    pointed = value.str.contains(".", literal=True)
    return pl.when(pointed).then(value + " has a point").otherwise(value.str.replace(",", ".", literal=True))


def _listed(names: Sequence[str]) -> str:
    text = ", ".join(names)
    return text if len(text) <= 200 else text[:200] + "…"
