//! A real Kafka cluster of Java processes.
