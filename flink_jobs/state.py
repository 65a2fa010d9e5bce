"""The encoding of Flink state, and the check that the bar store still has the bars that a state depends on.

Earlier versions wrote the cursor as a pickle, and PyFlink pickled all bytes a second time. This module reads both. A
pickle can call any function, so only bytes, or a cursor made of plain values, are loaded from it.
"""

import io
import pickle
from dataclasses import asdict, fields
from pathlib import Path

import orjson

from barmill.platform.sqlite_file import StoreMissingError
from barmill.storage.coverage import covered_to
from barmill.storage.reader import BarReader
from flink_jobs.shard import Cursor

VERSION = 1
# All errors that pickle raises for truncated or changed bytes.
# A damaged length can be larger than the memory, so MemoryError is one of these.
_DAMAGE_ERRORS = (
    *(pickle.UnpicklingError, EOFError, AttributeError, TypeError),
    *(LookupError, ArithmeticError, ValueError, MemoryError),
)
# The first byte of a pickle of any version in use; no JSON and no Arrow stream starts with it.
_PICKLE_PREFIX = b"\x80"
_FIELDS = {field.name for field in fields(Cursor)}


class StateError(ValueError):
    """The state of the job is damaged, or was not written by this version of Barmill or an earlier one."""


def cursor_to_bytes(cursor: Cursor) -> bytes:
    """Return a cursor as bytes."""
    return orjson.dumps({"v": VERSION, **asdict(cursor)})


def cursor_from_bytes(data: bytes) -> Cursor:
    """Return the cursor that `cursor_to_bytes` wrote; raise StateError for anything else."""
    if not data.startswith(b"{"):
        return _cursor_from_pickle(data)
    try:
        values = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise StateError("The cursor in the state of the job is damaged; start the job from another state.") from error
    if values.pop("v", None) != VERSION or not values.keys() <= _FIELDS:
        raise StateError(
            "The state of the job was written by a later version of Barmill; update Barmill to continue from it."
        )
    return Cursor(**values)


class StateBytes:
    """A converter that replaces PyFlink's built-in one, which would load any pickle."""

    def to_internal(self, value: bytes | None) -> bytes | None:
        """Return the bytes in a state, including those that an earlier version wrote; raise StateError for others."""
        if value is None or not bytes(value).startswith(_PICKLE_PREFIX):
            return value
        try:
            content = _PlainUnpickler(io.BytesIO(value)).load()
        except StateError:
            raise
        except _DAMAGE_ERRORS as error:
            raise StateError("The state of the job is damaged; start the job from another state.") from error
        if not isinstance(content, bytes):
            raise StateError("The state of the job contains something other than bytes; it is not loaded.")
        return content

    def to_external(self, value: bytes | None) -> bytes | None:
        """Return the bytes unchanged."""
        return value


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        """Refuse every class."""
        raise StateError(
            f"The state of the job contains {module}.{name}, which is not part of Barmill; it is not loaded."
        )


class _CursorUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type[Cursor]:
        """Return the only allowed class."""
        if (module, name) != (Cursor.__module__, Cursor.__name__):
            raise StateError(
                f"The state of the job contains {module}.{name}, which Barmill never writes; it is not loaded."
            )
        return Cursor


def _cursor_from_pickle(data: bytes) -> Cursor:
    try:
        cursor = _CursorUnpickler(io.BytesIO(data)).load()
    except StateError:
        raise
    except _DAMAGE_ERRORS as error:
        raise StateError("The cursor in the state of the job is damaged; start the job from another state.") from error
    if not isinstance(cursor, Cursor) or not vars(cursor).keys() <= _FIELDS:
        raise StateError("The state of the job contains something other than a cursor; it is not loaded.")
    return cursor


class DataLossError(Exception):
    """The job cannot continue from its state, and cannot recover automatically."""


def describe_store_loss(bars_db: Path, job: str, shard: int, cursor: Cursor) -> str | None:
    """Return a sentence about bars that the shard published before its checkpoint and the store lacks, or None.

    Coverage decides, not progress: a start from an older savepoint sets progress back, but removes no bar.
    """
    try:
        with BarReader.open(bars_db) as reader:
            covers = [cover for cover in reader.covers() if (cover.job, cover.shard) == (job, shard)]
    except StoreMissingError:
        covers = []
    if covered_to(covers, cursor.frames, cursor.lateness_ms) >= cursor.published:
        return None
    return (
        f"The bar store lacks bars of the ticks up to sequence {cursor.published - 1}; it was deleted, or replaced"
        " by an older one."
    )
