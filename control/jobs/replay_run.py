"""A replay: intake writes files to a tick log, and a bars job on a private Flink cluster makes bars from it."""

import math
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from barmill.ingest.connection.provider import Provider
from barmill.ingest.files.layout import Layout
from barmill.ingest.intake import Intake
from barmill.ingest.providers.ordered import OrderedReplay
from barmill.ingest.providers.replay import ReplayProvider
from barmill.model.frames import Frame
from barmill.model.job_spec import BarsJobSpec
from barmill.platform.clock import wait_until
from barmill.platform.home import Home
from barmill.platform.locks import exclusive
from barmill.platform.sqlite_file import if_ready
from barmill.storage.bar_store import BarStore, Progress
from barmill.storage.reader import BarReader
from barmill.storage.tick_log import TickLog
from control.flink.cluster import private_cluster
from control.flink.rest import FlinkRest
from control.flink.settings import Memory
from control.jobs.specs import BARS_PROGRAM

# A replay holds the bars of many more seconds at once than a live job: 10,000 instruments need over a gigabyte.
_MEMORY = Memory(task_heap_mb=2_048)
_POLL_EVERY_S = 0.1
# Flink and the intake are checked once per this many polls of the progress.
_POLLS_PER_CHECK = 20


class ReplayError(Exception):
    """The replay cannot finish, or its result is not complete."""


@dataclass(frozen=True)
class ReplayRequest:
    """The input of a replay: the files, in this order, and the frames of the bars.

    layout: how to read the files, or a mapping from Barmill's field names to column names. by_time: sort the rows by
    time first. newest_first: reverse each file first.
    """

    files: Sequence[Path]
    layout: Layout | Mapping[str, str]
    frames: Sequence[Frame]
    lateness_ms: int
    parallelism: int = 1
    by_time: bool = False
    newest_first: bool = False


# Over a shorter time, the start of the job would distort the rate of folding.
MIN_MEASURABLE_S = 2.0


@dataclass
class ReplayProgress:
    """The progress of a replay.

    share: share of the files read, 0 to 1. read, accepted: the rows read by the intake, and the ticks among them.
    folded: the ticks that the job has read. folding_started_s: when it began, on the monotonic clock.
    """

    share: float = 0.0
    read: int = 0
    accepted: int = 0
    folded: int = 0
    folding_started_s: float | None = None


@dataclass(frozen=True)
class ReplayResult:
    """The result of a replay: the counts of rows and bars, and the time it took.

    accepted: ticks in bars. rejected: rows by reason. bars: bars by frame. folding_s: from the job's first tick to its
    last bar; the rest of total_s is start-up. latest_ms: how far behind the latest of the late ticks was.
    """

    read: int
    accepted: int
    rejected: dict[str, int]
    bars: dict[str, int]
    total_s: float
    folding_s: float
    latest_ms: int = 0


def run(
    request: ReplayRequest,
    home: Home,
    on_progress: Callable[[ReplayProgress], None] = lambda _: None,
    cluster: AbstractContextManager[FlinkRest] | None = None,
) -> ReplayResult:
    """Replay into an empty home.

    The bar store of the home then contains the bars, for `BarReader.all_bars` (see src/barmill/storage/bar_runs.py).
    on_progress is called several times a second while the job runs. cluster: where the job runs; the default is a
    private cluster. Raise ReplayFileError if a file cannot be read, ClusterError if the cluster does not start,
    FlinkError if a request to it fails, and ReplayError if the job fails or rows are missing from the result.
    """
    started_s = time.monotonic()
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
    progress, stop = ReplayProgress(), threading.Event()
    with ThreadPoolExecutor(1) as pool, TickLog.open(home.ticks_db, durable=False) as log:
        ingest = pool.submit(_ingest, request, home, log, progress, stop)
        try:
            wait_until(lambda: progress.accepted > 0 or ingest.done(), math.inf, every_s=0.02)
            _raise_if_failed(ingest)
            if not progress.accepted:  # there is nothing to start a cluster for
                BarStore.open(home.bars_db).close()
                return _result(log, home, total_s=time.monotonic() - started_s, folding_s=0.0)
            with cluster or private_cluster(
                home, slots=request.parallelism, memory=_MEMORY, single_process=True
            ) as flink:
                _raise_if_failed(ingest)
                arguments = ["--spec", str(spec_path)]
                job_id = flink.submit(BARS_PROGRAM, arguments, parallelism=request.parallelism, job_id=uuid.uuid4().hex)
                _wait_until_final(
                    home, spec.shards, progress, on_progress, lambda: _check_running(flink, job_id, ingest)
                )
                finished_s = time.monotonic()
                flink.cancel(job_id)
        finally:
            stop.set()
        ingest.result()
        folding_s = finished_s - (progress.folding_started_s or started_s)
        return _result(log, home, total_s=finished_s - started_s, folding_s=folding_s)


def rejects(home: Home) -> pl.DataFrame:
    """Return the kept rows that are in no bar: source, rejected_ms and REJECT_SCHEMA, by source and line."""
    with TickLog.read_only(home.ticks_db) as log:
        rows = pl.concat([log.rejects(), BarReader.open(home.bars_db).rejects().drop("job")])
    return rows.sort("source", "line", maintain_order=True)


def _ingest(request: ReplayRequest, home: Home, log: TickLog, progress: ReplayProgress, stop: threading.Event) -> None:
    provider: Provider = (files := ReplayProvider(request.files, request.layout))
    if request.by_time or request.newest_first:
        provider = OrderedReplay(files, home.root / "sorting", request.by_time, request.newest_first)
    for batch in Intake(log, provider, duplicate_window_ms=request.lateness_ms).run(stop):
        progress.read += batch.read
        progress.accepted += batch.accepted
        progress.share = batch.share or 0.0


def _wait_until_final(
    home: Home,
    shards: int,
    progress: ReplayProgress,
    on_progress: Callable[[ReplayProgress], None],
    check: Callable[[], None],
) -> None:
    """Wait until every shard of the job has published its last bar."""
    checks = 0

    def is_final() -> bool:
        nonlocal checks
        shards_progress = _progress(home)
        progress.folded = sum(shard.read for shard in shards_progress)
        if progress.folded and progress.folding_started_s is None:
            progress.folding_started_s = time.monotonic()
        on_progress(progress)
        checks += 1
        if checks % _POLLS_PER_CHECK == 0:
            check()
        return len(shards_progress) == shards and all(shard.final for shard in shards_progress)

    while not wait_until(is_final, timeout_s=3_600, every_s=_POLL_EVERY_S):
        check()


def _progress(home: Home) -> list[Progress]:
    with if_ready(), BarReader.open(home.bars_db) as reader:
        return reader.progress()
    return []


def _check_running(flink: FlinkRest, job_id: str, ingest: Future[None]) -> None:
    """Raise if the intake or the job has failed, because then the replay can never finish."""
    _raise_if_failed(ingest)
    if flink.job_state(job_id).is_terminal or (cause := flink.failure_cause(job_id)):
        cause = flink.failure_cause(job_id)
        raise ReplayError(f"The bars job failed: {cause.splitlines()[0] if cause else 'the cause is unknown'}.")


def _raise_if_failed(ingest: Future[None]) -> None:
    if ingest.done():
        ingest.result()


def _result(log: TickLog, home: Home, *, total_s: float, folding_s: float) -> ReplayResult:
    """Return the result, counted from the stores; raise ReplayError unless every row read is in bars or in rejects."""
    reader = BarReader.open(home.bars_db)
    read = sum(source.read for source in log.sources())
    rejected, late = log.rejects_by_reason(), reader.reject_count()
    if late:
        rejected["too_late"] = late
    totals = reader.totals()
    accepted = read - sum(rejected.values())
    wrong_counts = {frame: ticks for frame, (_, ticks) in totals.items() if ticks != accepted}
    if wrong_counts or (accepted and not totals):
        raise ReplayError(f"Of {read} rows read, {accepted} should be in the bars, but the frames hold {wrong_counts}.")
    bars = {frame: count for frame, (count, _) in totals.items()}
    latest_ms = reader.rejects()["late_ms"].max() if late else 0
    return ReplayResult(
        read, accepted, rejected, bars, total_s, folding_s, latest_ms if isinstance(latest_ms, int) else 0
    )


_PREFIX, _LOCK = "replay-", ".lock"


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Create a folder in `parent` and remove it at the end; also remove the folders of replays that were killed.

    Next to each folder is a lock file, which its replay holds while it runs.
    """
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as stack:
        # A folder whose lock is free counts as abandoned, so creating a folder and its lock must be exclusive, too.
        with exclusive(parent / _LOCK):
            _remove_abandoned(parent)
            folder = Path(tempfile.mkdtemp(dir=parent, prefix=_PREFIX))
            stack.enter_context(exclusive(_lock_of(folder)))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            _lock_of(folder).unlink(missing_ok=True)


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*/"):
        with suppress(BlockingIOError), exclusive(_lock_of(folder), wait=False):
            shutil.rmtree(folder, ignore_errors=True)
            _lock_of(folder).unlink(missing_ok=True)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(folder.name + _LOCK)
