"""Prices over WebSocket, by a mapping that says what the provider's messages mean."""
