"""The local Kafka broker, and the Java libraries that Kafka needs."""
