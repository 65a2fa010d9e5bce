"""How far the shards of a job are, as they say with everything they publish."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far one shard of a job is: ticks read and refused as late, bars forming and held, and the newest time.

    frames, lateness_ms, shards: what the job makes, as its spec says, so that its bars can be recomputed.
    begun_sequence: from where on it has read the log without a hole. missing_to_ms: ticks before that were gone when it
    came to them; their times reach up to there. None where none was gone.
    """

    job: str
    shard: int
    frames: str
    lateness_ms: int
    shards: int
    next_sequence: int
    read: int
    late: int
    forming: int
    held: int
    newest_tick_ms: int | None
    final: bool
    updated_ms: int
    begun_sequence: int = 1
    missing_to_ms: int | None = None
