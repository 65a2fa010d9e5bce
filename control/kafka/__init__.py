"""Kafka: whether this home uses it, where its brokers are, and the broker that runs on one machine."""
