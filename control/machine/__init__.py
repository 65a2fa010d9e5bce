"""The machine: supervised processes, ports, readiness, and how a home is as a whole."""
