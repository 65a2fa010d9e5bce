"""The options of `barmill replay` that describe the layout of its files."""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import available_timezones

from pydantic import ValidationError

from barmill.ingest.files.layout import ALIASES, FIELDS, Layout
from barmill.ingest.files.streams import ReplayFileError
from barmill.ingest.mapping.paths import MappingError, path_of
from barmill.ingest.mapping.row_mapping import RowMapping
from barmill.ingest.providers.inspection import InspectedDocument, as_json, as_text, in_natural_order, inspect
from barmill.model.time_text import is_time_format
from cli.common import UserError
from control.jobs.replay_run import ReplayRequest

# The separator of joined columns on the command line.
_COLUMN_SEPARATOR = "+"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to the parser."""
    options = parser.add_argument_group("how to read the files")
    options.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="FIELD=COLUMN",
        help="the column of a field, such as time=ts or price=last, or several joined: time=date+time; fields:"
        f" {', '.join(FIELDS)}; may be repeated",
    )
    options.add_argument("--columns", metavar="A,B,C", help="column names for files without a header line")
    options.add_argument(
        "--no-header", action="store_true", help="the files have no header line; columns are named 1, 2, 3"
    )
    options.add_argument("--instrument", metavar="NAME", help="the instrument of all rows")
    options.add_argument("--id", metavar="A,B", help="columns that together identify a tick, such as exchange,id")
    options.add_argument("--zone", metavar="ZONE", help="time zone of times without a zone, such as Europe/Paris")
    options.add_argument(
        "--time-format",
        metavar="FORMAT",
        help="auto (default), s, ms, us, ns, iso, or a pattern such as %%d/%%m/%%Y %%H:%%M:%%S.%%f",
    )
    options.add_argument("--decimal", choices=(".", ","), default=".", help="the decimal mark (default %(default)s)")
    options.add_argument(
        "--amounts", choices=("plain", "signed"), default="plain", help="signed if sells have a negative volume"
    )
    options.add_argument("--rows", default="", metavar="PATH", help="path to the rows in a JSON document, such as data")
    options.add_argument(
        "--rising-ids", action="store_true", help="ids are increasing numbers, which order ticks of equal time"
    )
    options.add_argument("--newest-first", action="store_true", help="each file starts with its newest row")
    options.add_argument("--sort", action="store_true", help="sort all rows by time first, on disk")
    options.add_argument("--mapping", type=Path, metavar="FILE", help="a file with a feed mapping in JSON")


def layout_of(args: argparse.Namespace) -> Layout:
    """Return the layout that the options describe; raise UserError for invalid options."""
    sources = dict[str, tuple[str, ...]]()
    for pair in args.map:
        field, columns = _parse_map(pair)
        if field in sources:
            raise UserError(f"--map names {field} twice; join columns with --map {field}=a{_COLUMN_SEPARATOR}b.")
        sources[field] = columns
    if args.id is not None:
        sources["id"] = _name_list(args.id, "--id")
    constants = {}
    if args.instrument is not None:
        if not args.instrument.strip() or "instrument" in sources:
            raise UserError("--instrument needs a name and cannot be combined with --map instrument=COLUMN.")
        constants["instrument"] = args.instrument
    if args.zone is not None and args.zone not in available_timezones():
        raise UserError(f"--zone: {args.zone} is not a time zone; write one such as America/New_York.")
    if args.time_format is not None and not is_time_format(args.time_format):
        raise UserError(
            f"--time-format: {args.time_format} is not auto, s, ms, us, ns, iso or a pattern of a date and"
            " time such as %d/%m/%Y %H:%M:%S."
        )
    layout = Layout(
        sources=sources,
        constants=constants,
        columns=_name_list(args.columns, "--columns") if args.columns is not None else (),
        header=not args.no_header,
        time_format=args.time_format or "auto",
        zone=args.zone or "",
        decimal=args.decimal,
        absolute=args.amounts == "signed",
        rows=_checked_path(args.rows),
        newest_first=args.newest_first,
        rising_ids=args.rising_ids,
    )
    return layout if args.mapping is None else _with_mapping(layout, args.mapping)


def _parse_map(pair: str) -> tuple[str, tuple[str, ...]]:
    field, equals, columns = pair.partition("=")
    field = ALIASES.get(field, field)
    if not (field and equals and columns):
        raise UserError(f"--map {pair} is not FIELD=COLUMN; write for example --map time=ts.")
    if field not in FIELDS:
        raise UserError(f"--map {pair}: there is no field {field}; the fields are {', '.join(FIELDS)}.")
    joined = tuple(columns.split(_COLUMN_SEPARATOR))
    # A column name may contain the separator.
    return field, joined if all(joined) else (columns,)


def _checked_path(text: str) -> str:
    try:
        if text:
            path_of(text)
    except MappingError as error:
        raise UserError(f"--rows: {error}") from error
    return text


def _name_list(text: str, option: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise UserError(f"{option} {text} is not a list of different names; write one such as a,b,c.")
    return names


def _with_mapping(layout: Layout, path: Path) -> Layout:
    try:
        settings = json.loads(path.read_text("utf-8"))
        # The mapping is the whole file, or its member of this name.
        mapping = settings.get("mapping", settings) if isinstance(settings, dict) else settings
        return layout.with_mapping(RowMapping.model_validate(mapping))
    except OSError as error:
        raise UserError(f"--mapping: {path} cannot be read: {error.strerror}; check the name.") from error
    except ValidationError as error:
        first_error = error.errors()[0]
        location = ".".join(map(str, first_error["loc"]))
        raise UserError(
            f"--mapping: {path}: {location + ': ' if location else ''}{first_error['msg']}; correct the file."
        ) from error
    except MappingError as error:
        raise UserError(f"--mapping: {path}: {error}") from error
    except ValueError as error:
        raise UserError(f"--mapping: {path} is not JSON ({error}); correct the file.") from error


_DOCUMENTS_SHOWN = 5


@dataclass(frozen=True)
class Inspection:
    """The result of an inspection.

    files: in reading order. reordered: whether that order differs from the order given. options: the options already
    set, which advice depends on.
    """

    files: Sequence[Path]
    documents: Sequence[InspectedDocument]
    reordered: bool
    options: Mapping[str, object]

    @property
    def ticks(self) -> int:
        """Return the number of ticks found."""
        return sum(inspected.findings.ticks for inspected in self.documents)

    def as_text(self, *, short: bool = False) -> str:
        """Return a description of all documents; short: only of the first few."""
        documents = self.documents[:_DOCUMENTS_SHOWN] if short else self.documents
        lines = [as_text(inspected) for inspected in documents]
        if remaining := len(self.documents) - len(documents):
            lines.append(f"and {remaining:,} more; list all with --dry-run")
        if self.reordered:
            lines.append(f"Files are read in order of time: {', '.join(map(str, self.files))[:300]}.")
        return "\n".join([*lines, *(f"suggestion: {text}" for text in self.advice())])

    def as_json(self) -> str:
        """Return a description of all documents as JSON."""
        documents = [as_json(inspected, inspected.findings.advice(self.options)) for inspected in self.documents]
        return json.dumps({"files": list(map(str, self.files)), "documents": documents})

    def advice(self) -> list[str]:
        """Return each piece of advice once, after the label of its first document if there are several documents."""
        advice_by_text = dict[str, str]()
        for inspected in self.documents:
            for text in inspected.findings.advice(self.options):
                advice_by_text.setdefault(text, inspected.document_format.document.label)
        several = len(self.documents) > 1
        return [f"{name}: {text}" if several else text for text, name in advice_by_text.items()]


def inspect_files(request: ReplayRequest, args: argparse.Namespace) -> Inspection:
    """Inspect the files, completely for a dry run; raise UserError if one is unreadable or does not fit the layout."""
    layout = request.layout if isinstance(request.layout, Layout) else Layout.of_names(request.layout)
    options = {
        "zone": layout.zone,
        "decimal": layout.decimal,
        "signed": layout.absolute,
        "id": "id" in layout.sources,
        "sort": request.by_time,
        "newest_first": request.newest_first,
    }
    try:
        documents = inspect(request.files, layout, request.lateness_ms, inspect_all=args.dry_run)
        reordered_files = in_natural_order(request.files, documents)
        if reordered_files is not None:
            documents = inspect(reordered_files, layout, request.lateness_ms, inspect_all=args.dry_run)
    except ReplayFileError as error:
        raise UserError(str(error)) from error
    return Inspection(reordered_files or request.files, documents, reordered_files is not None, options)
