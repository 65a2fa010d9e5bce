"""`barmill bars`: print the bars of one instrument and frame as CSV, JSON or Parquet."""

import argparse
import io
import re
import sys
from collections.abc import Sequence

import polars as pl

from barmill.model.frames import Frame, FrameError, parse_frame
from barmill.platform.csv_file import write_csv
from barmill.platform.home import Home
from barmill.platform.sqlite_file import StoreMissingError
from barmill.storage.reader import BarQuery, BarReader, FrameNotStoredError
from cli.common import UserError, time_ms


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("--instrument", required=True, metavar="I", help="such as BTC/USDT")
    parser.add_argument(
        "--frame", required=True, metavar="F", help="such as 1s, 5m or 1d; rolled up if it is not stored"
    )
    parser.add_argument("--from", dest="start", metavar="T", help="bars that start at T or later; ISO 8601 or epoch ms")
    parser.add_argument("--to", dest="end", metavar="T", help="bars that start before T")
    parser.add_argument("--as-of", metavar="T", help="bars as they were known at T")
    parser.add_argument("--newest", type=_bar_count, metavar="N", help="only the newest N bars")
    parser.add_argument("--fill", action="store_true", help="fill gaps with flat bars of state synthetic")
    parser.add_argument("--format", choices=("csv", "json", "parquet"), default="csv", help="default %(default)s")


def run(args: argparse.Namespace) -> int:
    """Write the bars to standard output and return 0; raise UserError if that is impossible."""
    try:
        frame = parse_frame(args.frame)
    except FrameError as error:
        raise UserError(f"--frame: {error}") from error
    if args.format == "parquet" and sys.stdout.isatty():
        raise UserError("Parquet is a binary format; redirect it to a file with > bars.parquet.")
    sys.stdout.buffer.write(_format(_read(args, frame), args.format))
    sys.stdout.flush()
    return 0


def _bar_count(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text) or not int(text):
        raise argparse.ArgumentTypeError(f"{text} is not a number of bars; write a whole number from 1")
    return int(text)


def _read(args: argparse.Namespace, frame: Frame) -> pl.DataFrame:
    from_ms, to_ms, as_of_ms = (
        None if text is None else time_ms(text, option)
        for text, option in ((args.start, "--from"), (args.end, "--to"), (args.as_of, "--as-of"))
    )
    try:
        with BarReader.open(Home.find().bars_db).snapshot() as reader:
            if not reader.frames(args.instrument):
                raise UserError(_unknown_message(args.instrument, reader.instruments()))
            return reader.read(BarQuery(args.instrument, frame, from_ms, to_ms, as_of_ms, args.fill, args.newest))
    except (StoreMissingError, FrameNotStoredError) as error:
        raise UserError(str(error)) from error


def _unknown_message(instrument: str, instruments: Sequence[str]) -> str:
    names = ", ".join(instruments[:10]) or "none yet"
    return f"There are no bars of {instrument}; the store has {names}{', ...' if len(instruments) > 10 else ''}."


def _format(bars: pl.DataFrame, format_name: str) -> bytes:
    buffer = io.BytesIO()
    if format_name == "csv":
        write_csv(bars, buffer)
    elif format_name == "json":
        bars.write_json(buffer)
        buffer.write(b"\n")
    else:
        bars.write_parquet(buffer)
    return buffer.getvalue()
