"""`barmill bars`: the bars of one instrument and frame, as text for other programs."""

import argparse
import io
import sys
from collections.abc import Sequence

import polars as pl

from bar.csv_file import write_csv
from bar.frames import Frame, FrameError, parse_frame
from bar.reader import BarQuery, BarReader, FrameNotStoredError
from bar.sqlite_file import StoreMissingError
from cli.errors import UserError
from cli.texts import time_ms
from control.home import Home


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("--instrument", required=True, metavar="I", help="such as BTC/USDT")
    parser.add_argument(
        "--frame", required=True, metavar="F", help="such as 1s, 5m or 1d; rolled up where it is not stored"
    )
    parser.add_argument("--from", dest="start", metavar="T", help="bars that start at T or later; ISO 8601 or epoch ms")
    parser.add_argument("--to", dest="end", metavar="T", help="bars that start before T")
    parser.add_argument("--as-of", metavar="T", help="bars as they were known at T")
    parser.add_argument("--newest", type=_count, metavar="N", help="only the newest N of them")
    parser.add_argument("--fill", action="store_true", help="with flat bars, state synthetic, where there is none")
    parser.add_argument("--format", choices=("csv", "json", "parquet"), default="csv", help="default %(default)s")


def run(args: argparse.Namespace) -> int:
    """Print the bars on standard output."""
    try:
        frame = parse_frame(args.frame)
    except FrameError as error:
        raise UserError(f"--frame: {error}") from error
    if args.format == "parquet" and sys.stdout.isatty():
        raise UserError("Parquet is not text; send it into a file with > bars.parquet.")
    sys.stdout.buffer.write(_written(_read(args, frame), args.format))
    sys.stdout.flush()
    return 0


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of bars")
    return count


def _read(args: argparse.Namespace, frame: Frame) -> pl.DataFrame:
    from_ms, to_ms, as_of_ms = (
        None if text is None else time_ms(text, option)
        for text, option in ((args.start, "--from"), (args.end, "--to"), (args.as_of, "--as-of"))
    )
    try:
        with BarReader.open(Home.find().bars_db).at_one_moment() as reader:
            if not reader.frames(args.instrument):
                raise UserError(_unknown(args.instrument, reader.instruments()))
            return reader.read(BarQuery(args.instrument, frame, from_ms, to_ms, as_of_ms, args.fill, args.newest))
    except (StoreMissingError, FrameNotStoredError) as error:
        raise UserError(str(error)) from error


def _unknown(instrument: str, known: Sequence[str]) -> str:
    shown = ", ".join(known[:10]) or "none yet"
    return f"There are no bars of {instrument}; the store has {shown}{', ...' if len(known) > 10 else ''}."


def _written(bars: pl.DataFrame, as_format: str) -> bytes:
    buffer = io.BytesIO()
    if as_format == "csv":
        write_csv(bars, buffer)
    elif as_format == "json":
        bars.write_json(buffer)
        buffer.write(b"\n")
    else:
        bars.write_parquet(buffer)
    return buffer.getvalue()
