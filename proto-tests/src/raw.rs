//! A small blocking client that says exactly what a test wants to say, to the fake cluster or a real one.

mod batches;

pub use batches::{BatchSpec, batch};

use crate::fake::{Record, decode_batch};
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    BrokerId, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest, DescribeProducersRequest, FetchRequest,
    InitProducerIdRequest, ListOffsetsRequest, MetadataRequest, MetadataResponse, ProduceRequest, RequestHeader,
    ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Largest answer that is read, in bytes.
const MAX_RESPONSE: usize = 100 << 20;

/// One connection.
#[derive(Debug)]
pub struct RawClient {
    stream: TcpStream,
    client_id: String,
    correlation: i32,
}

/// What DescribeProducers tells about one producer in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActiveProducer {
    /// Producer id.
    pub id: i64,
    /// Producer epoch.
    pub epoch: i32,
    /// Sequence of its last record.
    pub last_sequence: i32,
    /// Largest timestamp of its last batch, milliseconds.
    pub last_timestamp: i64,
}

impl RawClient {
    /// Connects with the client id `raw` and a read time-out of 30 seconds.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn connect(address: impl ToSocketAddrs) -> Result<Self> {
        Self::connect_as(address, "raw")
    }

    /// Connects with another client id.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn connect_as(address: impl ToSocketAddrs, client_id: &str) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self { stream, client_id: client_id.to_owned(), correlation: 0 })
    }

    /// How long a read may take; `None` is for ever.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> Result<()> {
        self.stream.set_read_timeout(timeout)
    }

    /// The socket, for bytes that are no request.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    /// Those of the socket; `UnexpectedEof` when the broker closed; `InvalidData` when the answer is not one.
    pub fn call<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response> {
        let correlation = self.send(version, request)?;
        self.receive::<R>(version, correlation)
    }

    /// Sends a request and answers its correlation id.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn send<R: Request>(&mut self, version: i16, request: &R) -> Result<i32> {
        self.correlation += 1;
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(StrBytes::from_string(self.client_id.clone())));
        header.encode(&mut frame, R::header_version(version)).map_err(invalid)?;
        request.encode(&mut frame, version).map_err(invalid)?;
        let len = i32::try_from(frame.len() - 4).map_err(invalid)?;
        frame[..4].copy_from_slice(&len.to_be_bytes());
        self.stream.write_all(&frame)?;
        Ok(self.correlation)
    }

    /// Reads the answer to a request that was sent.
    ///
    /// # Errors
    /// As [`RawClient::call`].
    pub fn receive<R: Request>(&mut self, version: i16, correlation: i32) -> Result<R::Response> {
        let mut frame = self.read_frame()?;
        let header = ResponseHeader::decode(&mut frame, R::Response::header_version(version)).map_err(invalid)?;
        if header.correlation_id != correlation {
            return Err(invalid(format!("correlation id {}, expected {correlation}", header.correlation_id)));
        }
        R::Response::decode(&mut frame, version).map_err(invalid)
    }

    /// The next frame, without its length.
    ///
    /// # Errors
    /// Those of the socket; `InvalidData` for an absurd length.
    pub fn read_frame(&mut self) -> Result<Bytes> {
        let mut len = [0; 4];
        self.stream.read_exact(&mut len)?;
        let len = usize::try_from(i32::from_be_bytes(len)).map_err(invalid)?;
        if len > MAX_RESPONSE {
            return Err(invalid(format!("frame of {len} bytes")));
        }
        let mut frame = vec![0; len];
        self.stream.read_exact(&mut frame)?;
        Ok(frame.into())
    }

    /// A new producer id and its epoch.
    ///
    /// # Errors
    /// Those of [`RawClient::call`], and an error code of the broker other than the one for "still starting".
    pub fn init_producer_id(&mut self) -> Result<(i64, i16)> {
        for _ in 0..100 {
            let request =
                InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(60_000);
            let response = self.call(2, &request)?;
            match response.error_code {
                0 => return Ok((response.producer_id.0, response.producer_epoch)),
                14..=16 => std::thread::sleep(Duration::from_millis(100)),
                code => return Err(invalid(format!("InitProducerId: error {code}"))),
            }
        }
        Err(Error::new(ErrorKind::TimedOut, "InitProducerId: still loading"))
    }

    /// Produces one batch by topic name (version 9) with a time-out of 10 seconds; answers error code and base offset.
    ///
    /// # Errors
    /// Those of [`RawClient::call`].
    pub fn produce_batch(&mut self, topic: &str, partition: i32, batch: &Bytes, acks: i16) -> Result<(i16, i64)> {
        self.produce_with(topic, partition, batch, acks, Duration::from_secs(10))
    }

    /// The same with another time-out.
    ///
    /// # Errors
    /// Those of [`RawClient::call`].
    pub fn produce_with(
        &mut self,
        topic: &str,
        partition: i32,
        batch: &Bytes,
        acks: i16,
        timeout: Duration,
    ) -> Result<(i16, i64)> {
        let response = self.call(9, &produce_request(topic, partition, batch, acks, timeout))?;
        let row = response.responses.first().and_then(|topic| topic.partition_responses.first());
        row.map(|row| (row.error_code, row.base_offset)).ok_or_else(|| invalid("no partition in the answer"))
    }

    /// What this broker remembers of the producers of a partition; `Err` inside is the broker's code.
    ///
    /// # Errors
    /// Those of [`RawClient::call`].
    pub fn describe_producers(
        &mut self,
        topic: &str,
        partition: i32,
    ) -> Result<std::result::Result<Vec<ActiveProducer>, i16>> {
        let asked = TopicRequest::default().with_name(name(topic)).with_partition_indexes(vec![partition]);
        let response = self.call(0, &DescribeProducersRequest::default().with_topics(vec![asked]))?;
        let row = response.topics.first().and_then(|topic| topic.partitions.first());
        let row = row.ok_or_else(|| invalid("no partition in the answer"))?;
        if row.error_code != 0 {
            return Ok(Err(row.error_code));
        }
        let producers = row.active_producers.iter().map(|one| ActiveProducer {
            id: one.producer_id.0,
            epoch: one.producer_epoch,
            last_sequence: one.last_sequence,
            last_timestamp: one.last_timestamp,
        });
        Ok(Ok(producers.collect()))
    }

    /// Metadata of one topic (version 12), or of all.
    ///
    /// # Errors
    /// Those of [`RawClient::call`].
    pub fn metadata(&mut self, topic: Option<&str>) -> Result<MetadataResponse> {
        let topics = topic.map(|topic| vec![MetadataRequestTopic::default().with_name(Some(name(topic)))]);
        self.call(12, &MetadataRequest::default().with_topics(topics).with_allow_auto_topic_creation(false))
    }

    /// Creates a topic; answers the error code. Replication -1 is the broker's default.
    ///
    /// # Errors
    /// Those of [`RawClient::call`].
    pub fn create_topic(
        &mut self,
        topic: &str,
        partitions: i32,
        replication: i16,
        configs: &[(&str, &str)],
    ) -> Result<i16> {
        let config = |(key, value): &(&str, &str)| {
            let value = Some(StrBytes::from_string((*value).to_owned()));
            CreatableTopicConfig::default().with_name(StrBytes::from_string((*key).to_owned())).with_value(value)
        };
        let wanted = CreatableTopic::default()
            .with_name(name(topic))
            .with_num_partitions(partitions)
            .with_replication_factor(replication)
            .with_configs(configs.iter().map(config).collect());
        let response =
            self.call(5, &CreateTopicsRequest::default().with_topics(vec![wanted]).with_timeout_ms(30_000))?;
        response.topics.first().map(|topic| topic.error_code).ok_or_else(|| invalid("no topic in the answer"))
    }

    /// Deletes a topic; answers the error code.
    ///
    /// # Errors
    /// Those of [`RawClient::call`].
    pub fn delete_topic(&mut self, topic: &str) -> Result<i16> {
        let request = DeleteTopicsRequest::default().with_topic_names(vec![name(topic)]).with_timeout_ms(30_000);
        let response = self.call(4, &request)?;
        response.responses.first().map(|row| row.error_code).ok_or_else(|| invalid("no topic in the answer"))
    }

    /// DeleteRecords before `offset` (-1: all); answers error code and low watermark.
    ///
    /// # Errors
    /// Those of [`RawClient::call`].
    pub fn delete_records(&mut self, topic: &str, partition: i32, offset: i64) -> Result<(i16, i64)> {
        let one = DeleteRecordsPartition::default().with_partition_index(partition).with_offset(offset);
        let asked = DeleteRecordsTopic::default().with_name(name(topic)).with_partitions(vec![one]);
        let request = DeleteRecordsRequest::default().with_topics(vec![asked]).with_timeout_ms(30_000);
        let response = self.call(1, &request)?;
        let row = response.topics.first().and_then(|topic| topic.partitions.first());
        row.map(|row| (row.error_code, row.low_watermark)).ok_or_else(|| invalid("no partition in the answer"))
    }

    /// Asks for the offset of `timestamp` (-2: the first, -1: behind the last); answers error code, offset and timestamp.
    /// Only a leader that knows that it leads answers without an error, unlike with fetches.
    ///
    /// # Errors
    /// Those of [`RawClient::call`].
    pub fn list_offset(&mut self, topic: &str, partition: i32, timestamp: i64) -> Result<(i16, i64, i64)> {
        let one = ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(timestamp);
        let asked = ListOffsetsTopic::default().with_name(name(topic)).with_partitions(vec![one]);
        let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![asked]);
        let response = self.call(7, &request)?;
        let row = response.topics.first().and_then(|topic| topic.partitions.first());
        row.map(|row| (row.error_code, row.offset, row.timestamp)).ok_or_else(|| invalid("no partition in the answer"))
    }

    /// Fetches once from `offset` (version 11, no session, at most 50 ms of waiting); answers error code and records.
    ///
    /// # Errors
    /// Those of [`RawClient::call`], and `InvalidData` for batches that cannot be decoded.
    pub fn fetch(&mut self, topic: &str, partition: i32, offset: i64) -> Result<(i16, Vec<Record>)> {
        let response = self.call(11, &fetch_request(topic, partition, offset))?;
        let row = response.responses.first().and_then(|topic| topic.partitions.first());
        let row = row.ok_or_else(|| invalid("no partition in the answer"))?;
        let mut rest = row.records.clone().unwrap_or_default();
        let mut out = Vec::new();
        while let Some(head) = rest.get(8..12) {
            let len = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize + 12;
            if len > rest.len() {
                break;
            }
            out.extend(decode_batch(&rest.split_to(len)).map_err(invalid)?);
        }
        out.retain(|record| record.offset >= offset);
        Ok((row.error_code, out))
    }
}

/// A Produce request with one batch, by topic name.
pub fn produce_request(topic: &str, partition: i32, batch: &Bytes, acks: i16, timeout: Duration) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch.clone()));
    ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX))
        .with_topic_data(vec![TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![data])])
}

/// A Fetch request for one partition, by topic name and without a session.
pub fn fetch_request(topic: &str, partition: i32, offset: i64) -> FetchRequest {
    let one = FetchPartition::default()
        .with_partition(partition)
        .with_current_leader_epoch(-1)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20);
    FetchRequest::default()
        .with_max_wait_ms(50)
        .with_min_bytes(1)
        .with_max_bytes(50 << 20)
        .with_session_id(0)
        .with_session_epoch(-1)
        .with_topics(vec![FetchTopic::default().with_topic(name(topic)).with_partitions(vec![one])])
}

/// A topic name for requests.
pub fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

fn invalid(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidData, error.to_string())
}
