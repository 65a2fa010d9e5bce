"""The demo market: a real HTTP price service with simulated prices of fictional instruments."""
