"""Readings of the stores for tests of the pages; healthy by default."""

from barmill.storage.bar_store import Progress
from barmill.storage.tick_log import Source
from control.freshness.flow import Flow

NOW_MS = 1_764_072_000_000


def source(name: str = "market", *, silent_ms: int = 100, ended: bool = False, problem: str | None = None) -> Source:
    return Source(
        name=name,
        cursor=None,
        live=True,
        complete_to_ms=None,
        ended=ended,
        read=1_000,
        accepted=1_000,
        rejected=0,
        problem=problem,
        updated_ms=NOW_MS - silent_ms,
    )


def progress(*, silent_ms: int = 100, next_sequence: int = 1_001, tick_age_ms: int = 400) -> Progress:
    return Progress(
        job="bars",
        shard=0,
        frames="1s,1m,1h",
        lateness_ms=300_000,
        shards=1,
        next_sequence=next_sequence,
        read=next_sequence - 1,
        late=0,
        forming=0,
        held=0,
        newest_tick_ms=NOW_MS - tick_age_ms,
        final=False,
        updated_ms=NOW_MS - silent_ms,
    )


def flow(*sources: Source, job: Progress | None = None, end_sequence: int = 1_001, read_ms: int = NOW_MS) -> Flow:
    return Flow(read_ms, sources or (source(),), (job or progress(),), end_sequence)
