//! A fake Kafka cluster in this process.
