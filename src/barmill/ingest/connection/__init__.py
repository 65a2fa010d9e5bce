"""Connections to providers: guarded HTTP, reconnection, catch-up after a gap, and the state of each connection."""
