"""Packs what a file of ticks holds into containers, and unpacks them again with other libraries than Barmill's."""

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

Rows = Sequence[Mapping[str, str | None]]
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "gzip members": lambda data: gzip.compress(data[:50]) + gzip.compress(data[50:]) + bytes(64),
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "zstd frames": lambda data: b"".join(map(zstandard.ZstdCompressor().compress, (data[:50], b"", data[50:]))),
    "zip": lambda data: _zip(data),
}
UNPACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.decompress,
    "gzip members": gzip.decompress,
    "bz2": bz2.decompress,
    "xz": lzma.decompress,
    "zstd": zstandard.ZstdDecompressor().decompress,
    "zstd frames": lambda data: zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read(),
    "zip": lambda data: zipfile.ZipFile(io.BytesIO(data)).read("t"),
}
# With a mark that the standard library writes and skips.
ENCODINGS = ("utf-8", "utf-8", "utf-8-sig", "utf-16")


def parquet(columns: Sequence[str], rows: Rows) -> bytes:
    """Write rows of texts as Parquet."""
    buffer = io.BytesIO()
    pq.write_table(_table(columns, rows), buffer)
    return buffer.getvalue()


def arrow(columns: Sequence[str], rows: Rows, *, stream: bool) -> bytes:
    """Write rows of texts as an Arrow file or stream of small batches."""
    buffer, made = io.BytesIO(), _table(columns, rows)
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(buffer, made.schema) as writer:
        writer.write_table(made, max_chunksize=37)
    return buffer.getvalue()


def read_columnar(data: bytes) -> list[dict[str, object] | None]:
    """Read rows of Parquet or Arrow."""
    buffer = io.BytesIO(data)
    if data.startswith(b"PAR1"):
        return list(pq.read_table(buffer).to_pylist())
    is_file = data.startswith(b"ARROW1")
    return list((pa.ipc.open_file if is_file else pa.ipc.open_stream)(buffer).read_all().to_pylist())


def _table(columns: Sequence[str], rows: Rows) -> pa.Table:
    return pa.table({name: pa.array([row[name] for row in rows], pa.string()) for name in columns})


def _zip(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("t", data)
    return buffer.getvalue()
