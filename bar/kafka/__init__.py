"""Bars on Kafka: what the messages hold, and how the bar store is kept from them."""
