"""Ticks, bars, frames, job specs, and the exact fold from ticks to bars. Only `BarsJobSpec.read` opens a file."""
