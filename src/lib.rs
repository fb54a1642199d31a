//! indelible: a Kafka client that does not lose and does not double records.
