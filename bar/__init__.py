"""What a bar is: frames, the exact fold of ticks into bars, their SQLite store, and a recomputation by other means."""
