"""Comparisons with other programs on the same ticks; Bytewax and DuckDB run in a separate Python environment."""
