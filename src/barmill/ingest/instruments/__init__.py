"""Instruments: what each provider offers, and which of them users have enabled."""
