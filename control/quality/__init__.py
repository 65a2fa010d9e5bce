"""Data quality: whether every tick read is accounted for, and whether bars equal a recomputation."""
