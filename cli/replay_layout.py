"""The options of `barmill replay` that say how files are to be read, made a layout."""

import argparse
import json
from pathlib import Path
from zoneinfo import available_timezones

from pydantic import ValidationError

from cli.errors import UserError
from feed.files.layout import ALIASES, FIELDS, Layout
from feed.mapping.errors import MappingError
from feed.mapping.paths import path_of
from feed.mapping.row_mapping import RowMapping
from feed.mapping.times import is_time_format

# How columns are joined on the command line.
_JOIN = "+"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options."""
    options = parser.add_argument_group("how to read the files")
    options.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="FIELD=COLUMN",
        help="the column of a field, such as time=ts or price=last, or several joined: time=date+time; the fields are"
        f" {', '.join(FIELDS)}; may be repeated",
    )
    options.add_argument("--columns", metavar="A,B,C", help="names of the columns of files whose first line is data")
    options.add_argument("--no-header", action="store_true", help="the first line is data; columns are called 1, 2, 3")
    options.add_argument("--instrument", metavar="NAME", help="the instrument of all rows")
    options.add_argument("--id", metavar="A,B", help="columns that identify a tick together, such as exchange,id")
    options.add_argument("--zone", metavar="ZONE", help="time zone of times without one, such as Europe/Paris")
    options.add_argument(
        "--time-format", metavar="FORMAT", help="s, ms, us, ns, iso, or a pattern such as %%d/%%m/%%Y %%H:%%M:%%S.%%f"
    )
    options.add_argument("--decimal", choices=(".", ","), default=".", help="the decimal mark (default %(default)s)")
    options.add_argument(
        "--amounts", choices=("plain", "signed"), default="plain", help="signed: sells have a negative volume"
    )
    options.add_argument("--rows", default="", metavar="PATH", help="where the rows are in a JSON text, such as data")
    options.add_argument("--rising-ids", action="store_true", help="ids are numbers that rise: they order equal times")
    options.add_argument("--newest-first", action="store_true", help="the newest row of each file is its first")
    options.add_argument("--sort", action="store_true", help="sort all rows by time first, on disk")
    options.add_argument("--mapping", type=Path, metavar="FILE", help="a mapping as feeds have it, in JSON")


def layout_of(args: argparse.Namespace) -> Layout:
    """Return the layout that the options describe; raise UserError where one makes no sense."""
    sources = dict[str, tuple[str, ...]]()
    for pair in args.map:
        field, columns = _mapped(pair)
        if field in sources:
            raise UserError(f"--map names {field} twice; join columns as in --map {field}=a{_JOIN}b.")
        sources[field] = columns
    if args.id is not None:
        sources["id"] = _names(args.id, "--id")
    constants = {}
    if args.instrument is not None:
        if not args.instrument.strip() or "instrument" in sources:
            raise UserError("--instrument needs a name, and does without --map instrument=COLUMN.")
        constants["instrument"] = args.instrument
    if args.zone is not None and args.zone not in available_timezones():
        raise UserError(f"--zone: {args.zone} is no time zone such as America/New_York.")
    if args.time_format is not None and not is_time_format(args.time_format):
        raise UserError(
            f"--time-format: {args.time_format} is none of auto, s, ms, us, ns and iso, and no pattern of a date and"
            " time such as %d/%m/%Y %H:%M:%S."
        )
    layout = Layout(
        sources=sources,
        constants=constants,
        columns=_names(args.columns, "--columns") if args.columns is not None else (),
        header=not args.no_header,
        time_format=args.time_format or "auto",
        zone=args.zone or "",
        decimal=args.decimal,
        absolute=args.amounts == "signed",
        rows=_path(args.rows),
        newest_first=args.newest_first,
        rising_ids=args.rising_ids,
    )
    return layout if args.mapping is None else _with_mapping(layout, args.mapping)


def _mapped(pair: str) -> tuple[str, tuple[str, ...]]:
    field, equals, columns = pair.partition("=")
    field = ALIASES.get(field, field)
    if not (field and equals and columns):
        raise UserError(f"--map {pair} is not FIELD=COLUMN; write for example --map time=ts.")
    if field not in FIELDS:
        raise UserError(f"--map {pair}: there is no field {field} but {', '.join(FIELDS)}.")
    joined = tuple(columns.split(_JOIN))
    # A name may hold the sign itself.
    return field, joined if all(joined) else (columns,)


def _path(text: str) -> str:
    try:
        if text:
            path_of(text)
    except MappingError as error:
        raise UserError(f"--rows: {error}") from error
    return text


def _names(text: str, option: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise UserError(f"{option} {text} is no list of different names such as a,b,c.")
    return names


def _with_mapping(layout: Layout, path: Path) -> Layout:
    try:
        settings = json.loads(path.read_text("utf-8"))
        # The settings of a feed hold their mapping under this name.
        mapping = settings.get("mapping", settings) if isinstance(settings, dict) else settings
        return layout.with_mapping(RowMapping.model_validate(mapping))
    except OSError as error:
        raise UserError(f"--mapping: {path} cannot be read: {error.strerror}; check the name.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"--mapping: {path}: {where + ': ' if where else ''}{first['msg']}.") from error
    except MappingError as error:
        raise UserError(f"--mapping: {path}: {error}") from error
    except ValueError as error:
        raise UserError(f"--mapping: {path} is no JSON ({error}).") from error
