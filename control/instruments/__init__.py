"""Instruments: what each provider offers, which of it is wanted, and when each last moved."""
