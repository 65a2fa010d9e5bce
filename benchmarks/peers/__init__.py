"""Other stream processors on the same ticks, each in a Python environment of its own."""
