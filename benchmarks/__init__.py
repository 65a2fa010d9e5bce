"""Measurements of speed, delay and memory, run by `barmill bench`."""
