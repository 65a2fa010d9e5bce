"""The Flink cluster: its files and settings, the REST client, and the checkpoints and savepoints on disk."""
