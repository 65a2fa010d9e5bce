"""The tick log and the bar store: tables, queries, retention, repair. Imports only `model` and `platform`."""
