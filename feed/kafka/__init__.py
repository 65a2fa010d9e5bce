"""The tick log on Kafka: what its messages hold, and how they get there."""
