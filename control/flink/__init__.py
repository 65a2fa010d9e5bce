"""The Flink cluster: its files and settings, the REST client, and what it leaves on disk."""
