"""Open bars for tests: those of a small job, and what they tell."""

from barmill.model.frames import parse_frames
from flink_jobs.open_bars import FoldedTicks, OpenBars

BAR_KEY = ["instrument", "frame_ms", "start_ms"]


def open_bars(frames: str = "1s", lateness_ms: int = 10_000, allowance_ms: int = 500) -> OpenBars:
    return OpenBars(parse_frames(frames), lateness_ms, allowance_ms)


def late_sequences(added: FoldedTicks) -> list[int]:
    return [] if added.late is None else added.late["sequence"].to_list()
