"""The tick log and bars on Kafka: access, topics, messages, and the processes that transfer both."""
