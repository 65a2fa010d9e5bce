"""The basis of all programs: home, settings, locks, clock, SQLite, TLS, services. Imports only its own modules."""
