"""What is in Flink state as bytes: a shard's cursor as versioned JSON, and tables as Arrow streams.

Earlier versions wrote the cursor as a pickle, and PyFlink pickled all bytes once more. These are read, too; but a
pickle can name any function to be called, so nothing is loaded from one but bytes, or a cursor made of plain values.
"""

import io
import pickle
from dataclasses import asdict, fields

import orjson

from flink_jobs.shard import Cursor

VERSION = 1
# Whatever pickle makes of bytes that are cut off or changed.
_DAMAGED = (pickle.UnpicklingError, EOFError, AttributeError, TypeError, LookupError, ArithmeticError, ValueError)
# How a pickle of any version in use begins; no JSON and no Arrow stream does.
_PICKLE = b"\x80"
_FIELDS = {field.name for field in fields(Cursor)}


class StateError(ValueError):
    """The state of the job was not written by this version of Barmill or an earlier one."""


def cursor_to_bytes(cursor: Cursor) -> bytes:
    """Return a cursor as bytes."""
    return orjson.dumps({"v": VERSION, **asdict(cursor)})


def cursor_from_bytes(data: bytes) -> Cursor:
    """Undo `cursor_to_bytes`; raise StateError where this is something else."""
    if not data.startswith(b"{"):
        return _unpickled(data)
    try:
        values = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise StateError("The cursor in the state of the job is damaged; start the job from another state.") from error
    if values.pop("v", None) != VERSION or not values.keys() <= _FIELDS:
        raise StateError("The state of the job was written by a later Barmill; update Barmill to go on from it.")
    return Cursor(**values)


class StateBytes:
    """What PyFlink is to use instead of its built-in converter, which would load any pickle."""

    def to_internal(self, value: bytes | None) -> bytes | None:
        """Return the bytes that a state holds, also as an earlier version wrote them."""
        if value is None or not bytes(value).startswith(_PICKLE):
            return value
        try:
            found = _OnlyPlain(io.BytesIO(value)).load()
        except StateError:
            raise
        except _DAMAGED as error:
            raise StateError("The state of the job is damaged; start the job from another state.") from error
        if not isinstance(found, bytes):
            raise StateError("The state of the job holds something else than bytes; it is not loaded.")
        return found

    def to_external(self, value: bytes | None) -> bytes | None:
        """Return the bytes as they are."""
        return value


class _OnlyPlain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        """Refuse every class."""
        raise StateError(f"The state of the job holds {module}.{name}, which is not Barmill's; it is not loaded.")


class _OnlyCursors(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type[Cursor]:
        """Return the one class that is allowed."""
        if (module, name) != (Cursor.__module__, Cursor.__name__):
            raise StateError(
                f"The state of the job holds {module}.{name}, which Barmill never wrote; it is not loaded."
            )
        return Cursor


def _unpickled(data: bytes) -> Cursor:
    try:
        found = _OnlyCursors(io.BytesIO(data)).load()
    except StateError:
        raise
    except _DAMAGED as error:
        raise StateError("The cursor in the state of the job is damaged; start the job from another state.") from error
    if not isinstance(found, Cursor) or not vars(found).keys() <= _FIELDS:
        raise StateError("The state of the job holds something else than a cursor; it is not loaded.")
    return found
