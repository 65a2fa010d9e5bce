"""One replay: files through intake, tick log, the bars job on a Flink of its own, and out as bars."""

import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from bar.frames import Frame
from bar.reader import BarReader
from bar.sqlite_file import StoreMissingError
from bar.store import Progress
from control.flink.cluster import private_cluster
from control.flink.rest import FlinkRest
from control.flink.settings import Memory
from control.home import Home
from control.jobs.specs import BARS_PROGRAM
from control.waiting import wait_until
from feed.files.layout import Layout
from feed.intake import Intake
from feed.provider import Provider
from feed.providers.ordered import OrderedReplay
from feed.providers.replay import ReplayProvider
from feed.ticklog import TickLog
from flink_jobs.spec import BarsJobSpec

# A replay holds the bars of many more seconds at once than a live market: 10,000 instruments need over a gigabyte.
_MEMORY = Memory(task_heap=2_048)
_LOOK_EVERY_S = 0.1
# Flink and the feed are asked every so many looks at the progress.
_CHECK_EVERY = 20


class ReplayError(Exception):
    """The replay cannot finish; nothing was written."""


@dataclass(frozen=True)
class Request:
    """What to replay: files in this order, with this layout or our names by theirs, into these frames.

    by_time: rows are sorted by time first. newest_first: each file is turned round first.
    """

    files: Sequence[Path]
    layout: Layout | Mapping[str, str]
    frames: Sequence[Frame]
    lateness_ms: int
    parallelism: int = 1
    by_time: bool = False
    newest_first: bool = False


@dataclass
class Standing:
    """How far the replay is. share: of the files read, 0 to 1; folded: ticks the job has read; both rise to the end."""

    share: float = 0.0
    read: int = 0
    accepted: int = 0
    folded: int = 0
    folding_since: float | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of everything that was read, and how long it took.

    accepted: ticks in bars. folding_s: from the job's first tick to its last; the rest of total_s is start-up.
    latest_ms: how far the latest of the ticks that came too late was behind.
    """

    read: int
    accepted: int
    rejected: dict[str, int]
    bars: dict[str, int]
    total_s: float
    folding_s: float
    latest_ms: int = 0


def run(
    request: Request,
    home: Home,
    watch: Callable[[Standing], None] = lambda _: None,
    cluster: AbstractContextManager[FlinkRest] | None = None,
) -> Outcome:
    """Replay into the (fresh) home; the bars are then in its store.

    watch is called several times a second. cluster: where the job runs, if not on a Flink of its own.
    """
    started = time.monotonic()
    home.create()
    spec = BarsJobSpec(
        name="replay",
        ticks_db=home.ticks_db,
        bars_db=home.bars_db,
        frames=",".join(frame.text for frame in request.frames),
        lateness_ms=request.lateness_ms,
        shards=request.parallelism,
        parallelism=request.parallelism,
        poll_ms=20,
        final_only=True,
    )
    spec_path = home.flink / "replay.json"
    spec_path.write_text(spec.model_dump_json(), "utf-8")
    standing, stop = Standing(), threading.Event()
    with ThreadPoolExecutor(1) as pool, TickLog.open(home.ticks_db, durable=False) as log:
        feeding = pool.submit(_feed, request, home, log, standing, stop)
        try:
            with cluster or private_cluster(home, slots=1, memory=_MEMORY) as flink:
                _raise_if_failed(feeding)
                arguments = ["--spec", str(spec_path)]
                job_id = flink.submit(BARS_PROGRAM, arguments, parallelism=request.parallelism, job_id=uuid.uuid4().hex)
                _until_final(home, spec.shards, standing, watch, lambda: _check(flink, job_id, feeding))
                finished = time.monotonic()
                flink.cancel(job_id)
        finally:
            stop.set()
        feeding.result()
        folding_s = finished - (standing.folding_since or started)
        return _account(log, home, total_s=finished - started, folding_s=folding_s)


def rejects(home: Home) -> pl.DataFrame:
    """Return every row that is in no bar: source, rejected_ms and REJECT_SCHEMA, by source and line."""
    with TickLog.read_only(home.ticks_db) as log:
        refused = pl.concat([log.rejects(), BarReader.open(home.bars_db).rejects().drop("job")])
    return refused.sort("source", "line", maintain_order=True)


def _feed(request: Request, home: Home, log: TickLog, standing: Standing, stop: threading.Event) -> None:
    provider: Provider = (files := ReplayProvider(request.files, request.layout))
    if request.by_time or request.newest_first:
        provider = OrderedReplay(files, home.root / "sorting", request.by_time, request.newest_first)
    for done in Intake(log, provider, duplicate_window_ms=request.lateness_ms).run(stop):
        standing.read += done.read
        standing.accepted += done.accepted
        standing.share = done.share or 0.0


def _until_final(
    home: Home, shards: int, standing: Standing, watch: Callable[[Standing], None], check: Callable[[], None]
) -> None:
    """Return when every shard of the job has published its last bar."""
    checks = 0

    def final() -> bool:
        nonlocal checks
        progress = _progress(home)
        standing.folded = sum(shard.read for shard in progress)
        if standing.folded and standing.folding_since is None:
            standing.folding_since = time.monotonic()
        watch(standing)
        checks += 1
        if checks % _CHECK_EVERY == 0:
            check()
        return len(progress) == shards and all(shard.final for shard in progress)

    while not wait_until(final, timeout_s=3_600, every_s=_LOOK_EVERY_S):
        check()


def _progress(home: Home) -> list[Progress]:
    try:
        return BarReader.open(home.bars_db).progress()
    except (StoreMissingError, sqlite3.OperationalError):  # the job has not made it, or not all of it, yet
        return []


def _check(flink: FlinkRest, job_id: str, feeding: Future[None]) -> None:
    """Raise what keeps the replay from ever finishing."""
    _raise_if_failed(feeding)
    if flink.job_state(job_id).terminal or (cause := flink.failure_cause(job_id)):
        cause = flink.failure_cause(job_id)
        raise ReplayError(f"The bars job failed: {cause.splitlines()[0] if cause else 'no cause is known'}.")


def _raise_if_failed(feeding: Future[None]) -> None:
    if feeding.done():
        feeding.result()


def _account(log: TickLog, home: Home, *, total_s: float, folding_s: float) -> Outcome:
    """Count everything once more from what is stored; raise ReplayError unless every row read is in bars or rejects."""
    reader = BarReader.open(home.bars_db)
    read = sum(source.read for source in log.sources())
    rejected, late = log.rejects_by_reason(), reader.rejected()
    if late:
        rejected["too_late"] = late
    totals = reader.totals()
    accepted = read - sum(rejected.values())
    wrong = {frame: ticks for frame, (_, ticks) in totals.items() if ticks != accepted}
    if wrong or (accepted and not totals):
        raise ReplayError(f"Of {read} rows read, {accepted} should be in the bars, but the frames hold {wrong}.")
    bars = {frame: count for frame, (count, _) in totals.items()}
    latest_ms = reader.rejects()["late_ms"].max() if late else 0
    return Outcome(read, accepted, rejected, bars, total_s, folding_s, latest_ms if isinstance(latest_ms, int) else 0)
