use bytes::{Bytes, BytesMut};
use kafka_protocol::messages;
use kafka_protocol::messages::{fetch_request, fetch_response, produce_request, produce_response};
use kafka_protocol::protocol::{Decodable, Encodable};
use uuid::Uuid;

use super::fetch::{FetchPartition, FetchRequest, FetchTopic, ForgottenTopic};
use super::produce::{ProducePartition, ProduceRequest, ProduceTopic};
use super::*;
use crate::types::{Acks, IsolationLevel, ProducerIdentity, TopicPartition};
use crate::wire::{ApiKey, ApiVersions, ErrorCode, encode_request, split_response_header};

const ID: TopicId = TopicId([9; 16]);

fn uuid() -> Uuid {
    Uuid::from_bytes(ID.0)
}

fn bytes_of<R: Request>(request: &R, version: i16) -> Vec<u8> {
    let mut out = Chunks::default();
    request.encode(version, &mut out).unwrap();
    out.into_parts().concat()
}

fn theirs(message: &impl Encodable, version: i16) -> Bytes {
    let mut out = BytesMut::new();
    message.encode(&mut out, version).unwrap();
    out.freeze()
}

fn produce_request() -> ProduceRequest {
    let partition = |partition, records: &'static [u8]| ProducePartition {
        partition,
        batch: [Bytes::from_static(&[1; 61]), Bytes::from_static(records)],
    };
    let topic = |name: &str, partitions| ProduceTopic { name: name.into(), id: ID, partitions };
    ProduceRequest {
        acks: Acks::All,
        timeout_ms: 30_000,
        topics: vec![
            topic("orders", vec![partition(0, &[2; 300]), partition(7, b"")]),
            topic("payments", vec![partition(3, b"some records")]),
        ],
    }
}

#[test]
fn produce_requests_are_byte_for_byte_those_of_kafka_protocol() {
    let ours = produce_request();
    for version in 3..=13 {
        let topics = ours.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                produce_request::PartitionProduceData::default()
                    .with_index(partition.partition)
                    .with_records(Some(partition.batch.concat().into()))
            });
            let topic_data = produce_request::TopicProduceData::default().with_partition_data(partitions.collect());
            if version >= 13 { topic_data.with_topic_id(uuid()) } else { topic_data.with_name(topic_name(&topic.name)) }
        });
        let message =
            messages::ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(topics.collect());
        assert_eq!(bytes_of(&ours, version), theirs(&message, version), "version {version}");
    }
}

#[test]
fn records_go_out_uncopied() {
    let request = produce_request();
    let records = &request.topics[0].partitions[0].batch[1];
    let parts = encode_request(&request, 12, 5, "me").unwrap();
    assert!(parts.iter().any(|part| part.as_ptr() == records.as_ptr()));
    let frame = parts.concat();
    assert_eq!(frame[..4], (frame.len() as i32 - 4).to_be_bytes());
    let mut header = Bytes::copy_from_slice(&frame[4..]);
    let header = messages::RequestHeader::decode(&mut header, 2).unwrap();
    assert_eq!((header.request_api_key, header.request_api_version, header.correlation_id), (0, 12, 5));
    assert_eq!(header.client_id.unwrap().as_str(), "me");
}

fn fetch_request() -> FetchRequest {
    let partition =
        FetchPartition { partition: 4, leader_epoch: 6, offset: 1 << 40, last_fetched_epoch: 5, max_bytes: 99 };
    FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: 50 << 20,
        isolation: IsolationLevel::ReadCommitted,
        session_id: 0,
        session_epoch: -1,
        topics: vec![FetchTopic { name: "orders".into(), id: ID, partitions: vec![partition] }],
        forgotten: Vec::new(),
        rack: "r1".into(),
    }
}

#[test]
fn fetch_requests_are_byte_for_byte_those_of_kafka_protocol() {
    for version in 4..=18 {
        let mut ours = fetch_request();
        let mut message = messages::FetchRequest::default()
            .with_max_wait_ms(500)
            .with_min_bytes(1)
            .with_max_bytes(50 << 20)
            .with_isolation_level(1)
            .with_session_epoch(-1);
        let mut partition = fetch_request::FetchPartition::default()
            .with_partition(4)
            .with_fetch_offset(1 << 40)
            .with_log_start_offset(-1)
            .with_partition_max_bytes(99);
        if version >= 9 {
            partition = partition.with_current_leader_epoch(6);
        }
        if version >= 12 {
            partition = partition.with_last_fetched_epoch(5);
        }
        let topic = fetch_request::FetchTopic::default().with_partitions(vec![partition]);
        let name = topic_name("orders");
        let topic = if version >= 13 { topic.with_topic_id(uuid()) } else { topic.with_topic(name.clone()) };
        message = message.with_topics(vec![topic]);
        if version >= 7 {
            ours.session_id = 77;
            ours.session_epoch = 3;
            ours.forgotten = vec![ForgottenTopic { name: "orders".into(), id: ID, partitions: vec![1, 2] }];
            let forgotten = fetch_request::ForgottenTopic::default().with_partitions(vec![1, 2]);
            let forgotten = if version >= 13 { forgotten.with_topic_id(uuid()) } else { forgotten.with_topic(name) };
            message = message.with_session_id(77).with_session_epoch(3).with_forgotten_topics_data(vec![forgotten]);
        }
        if version >= 11 {
            message = message.with_rack_id(text("r1"));
        }
        assert_eq!(bytes_of(&ours, version), theirs(&message, version), "version {version}");
    }
}

#[test]
fn produce_responses_of_every_version_are_read() {
    for version in 3..=13 {
        let mut partition = produce_response::PartitionProduceResponse::default()
            .with_index(3)
            .with_error_code(6)
            .with_base_offset(1234)
            .with_log_append_time_ms(99);
        let mut message = messages::ProduceResponse::default().with_throttle_time_ms(17);
        if version >= 5 {
            partition = partition.with_log_start_offset(1000);
        }
        if version >= 8 {
            let error = produce_response::BatchIndexAndErrorMessage::default()
                .with_batch_index(2)
                .with_batch_index_error_message(Some(text("bad")));
            partition = partition.with_record_errors(vec![error]).with_error_message(Some(text("worse")));
        }
        if version >= 10 {
            let leader = produce_response::LeaderIdAndEpoch::default().with_leader_id(messages::BrokerId(5));
            partition = partition.with_current_leader(leader.with_leader_epoch(8));
            let node = produce_response::NodeEndpoint::default().with_node_id(messages::BrokerId(5));
            let node = node.with_host(text("b5")).with_port(9092).with_rack(Some(text("r")));
            message = message.with_node_endpoints(vec![node]);
        }
        let topic = produce_response::TopicProduceResponse::default().with_partition_responses(vec![partition]);
        let topic = if version >= 13 { topic.with_topic_id(uuid()) } else { topic.with_name(topic_name("orders")) };
        let body = theirs(&message.with_responses(vec![topic]), version);
        let response = ProduceRequest::decode(version, body.clone()).unwrap();
        assert_eq!(response.throttle_ms, 17);
        assert_eq!(response.node_endpoints, if version >= 10 { vec![(5, "b5".to_owned(), 9092)] } else { vec![] });
        let topic = &response.topics[0];
        let name = (&*topic.name, topic.id);
        assert_eq!(name, if version >= 13 { ("", ID) } else { ("orders", TopicId::NONE) });
        let partition = &topic.partitions[0];
        assert_eq!((partition.partition, partition.error), (3, ErrorCode::NOT_LEADER_OR_FOLLOWER));
        assert_eq!((partition.base_offset, partition.log_append_time), (1234, 99));
        assert_eq!(partition.log_start_offset, if version >= 5 { 1000 } else { -1 });
        let told = version >= 8;
        assert_eq!(partition.record_errors, if told { vec![(2, Some("bad".to_owned()))] } else { vec![] });
        assert_eq!(partition.error_message.as_deref(), told.then_some("worse"));
        assert_eq!(partition.current_leader, (version >= 10).then_some((5, 8)));
        for cut in 0..body.len() {
            assert!(ProduceRequest::decode(version, body.slice(..cut)).is_err());
        }
    }
}

#[test]
fn fetch_responses_of_every_version_are_read_without_copying_records() {
    for version in 4..=18 {
        let mut partition = fetch_response::PartitionData::default()
            .with_partition_index(3)
            .with_high_watermark(50)
            .with_last_stable_offset(40)
            .with_records(Some(Bytes::from_static(b"batches")));
        let aborted = fetch_response::AbortedTransaction::default().with_producer_id(7.into()).with_first_offset(30);
        partition = partition.with_aborted_transactions(Some(vec![aborted]));
        let mut message = messages::FetchResponse::default().with_throttle_time_ms(17);
        if version >= 5 {
            partition = partition.with_log_start_offset(10);
        }
        if version >= 7 {
            message = message.with_error_code(70).with_session_id(5);
        }
        if version >= 11 {
            partition = partition.with_preferred_read_replica(messages::BrokerId(2));
        }
        if version >= 12 {
            let leader = fetch_response::LeaderIdAndEpoch::default().with_leader_id(messages::BrokerId(5));
            let diverging = fetch_response::EpochEndOffset::default().with_epoch(3).with_end_offset(20);
            let snapshot = fetch_response::SnapshotId::default().with_end_offset(1).with_epoch(1);
            partition = partition
                .with_current_leader(leader.with_leader_epoch(8))
                .with_diverging_epoch(diverging)
                .with_snapshot_id(snapshot);
        }
        if version >= 16 {
            let node = fetch_response::NodeEndpoint::default().with_node_id(messages::BrokerId(5));
            message = message.with_node_endpoints(vec![node.with_host(text("b5")).with_port(9092)]);
        }
        let topic = fetch_response::FetchableTopicResponse::default().with_partitions(vec![partition]);
        let topic = if version >= 13 { topic.with_topic_id(uuid()) } else { topic.with_topic(topic_name("orders")) };
        let body = theirs(&message.with_responses(vec![topic]), version);
        let response = FetchRequest::decode(version, body.clone()).unwrap();
        let head = (response.throttle_ms, response.error, response.session_id);
        let expected =
            if version >= 7 { (17, ErrorCode::FETCH_SESSION_ID_NOT_FOUND, 5) } else { (17, ErrorCode::NONE, 0) };
        assert_eq!(head, expected);
        assert_eq!(response.node_endpoints.len(), usize::from(version >= 16));
        let partition = &response.topics[0].partitions[0];
        assert_eq!((partition.partition, partition.error), (3, ErrorCode::NONE));
        assert_eq!((partition.high_watermark, partition.last_stable_offset), (50, 40));
        assert_eq!(partition.aborted, [(7, 30)]);
        assert_eq!(partition.preferred_replica, if version >= 11 { 2 } else { -1 });
        assert_eq!(partition.diverging, (version >= 12).then_some((3, 20)));
        assert_eq!(partition.current_leader, (version >= 12).then_some((5, 8)));
        assert_eq!(partition.records, &b"batches"[..]);
        assert!(body.as_ptr_range().contains(&partition.records.as_ptr()));
        for cut in 0..body.len() {
            assert!(FetchRequest::decode(version, body.slice(..cut)).is_err());
        }
    }
}

/// Encodes in every version, and reads the bytes as kafka-protocol's request.
fn goes_out<R: Request, M: Decodable>(request: &R) {
    for version in R::VERSIONS.0..=R::VERSIONS.1 {
        let mut bytes = Bytes::from(bytes_of(request, version));
        M::decode(&mut bytes, version).unwrap_or_else(|error| panic!("{} v{version}: {error}", R::KEY));
        assert!(bytes.is_empty(), "{} v{version}: bytes left", R::KEY);
    }
}

#[test]
fn every_request_can_be_written_in_every_version() {
    let topic: Arc<str> = "orders".into();
    let group: Arc<str> = "billing".into();
    let (member_id, instance_id) = ("m-1".to_owned(), None);
    goes_out::<_, messages::ProduceRequest>(&produce_request());
    goes_out::<_, messages::FetchRequest>(&fetch_request());
    goes_out::<_, messages::ApiVersionsRequest>(&api_versions::ApiVersionsRequest {
        client_software_name: "indelible",
        client_software_version: "0.1.0",
    });
    for full in [true, false] {
        goes_out::<_, messages::ConsumerGroupHeartbeatRequest>(
            &consumer_group_heartbeat::ConsumerGroupHeartbeatRequest {
                group: group.clone(),
                member_id: member_id.clone(),
                member_epoch: 4,
                instance_id: full.then(|| "i-1".into()),
                rack: full.then(|| "r-1".into()),
                rebalance_timeout_ms: if full { 300_000 } else { -1 },
                topics: full.then(|| vec![topic.clone()]),
                pattern: None,
                assignor: full.then(|| "uniform".into()),
                owned: full.then(|| vec![(ID, vec![0, 1])]),
            },
        );
    }
    goes_out::<_, messages::CreateTopicsRequest>(&create_topics::CreateTopicsRequest {
        topics: vec![create_topics::CreatableTopic {
            name: topic.clone(),
            partitions: 3,
            replication_factor: 3,
            configs: vec![("min.insync.replicas".into(), Some("2".into()))],
        }],
        timeout_ms: 1000,
        validate_only: false,
    });
    goes_out::<_, messages::ConsumerGroupDescribeRequest>(&consumer_group_describe::ConsumerGroupDescribeRequest {
        group: group.clone(),
    });
    goes_out::<_, messages::DescribeGroupsRequest>(&describe_groups::DescribeGroupsRequest { group: group.clone() });
    goes_out::<_, messages::DeleteGroupsRequest>(&delete_groups::DeleteGroupsRequest { groups: vec![group.clone()] });
    goes_out::<_, messages::ListGroupsRequest>(&list_groups::ListGroupsRequest);
    goes_out::<_, messages::DeleteTopicsRequest>(&delete_topics::DeleteTopicsRequest {
        names: vec![topic.clone()],
        timeout_ms: 1000,
    });
    goes_out::<_, messages::DescribeConfigsRequest>(&describe_configs::DescribeConfigsRequest {
        resources: vec![
            (describe_configs::ConfigResource::Broker(1), Some(vec!["producer.id.expiration.ms".into()])),
            (describe_configs::ConfigResource::Topic(topic.clone()), None),
        ],
    });
    goes_out::<_, messages::DescribeProducersRequest>(&describe_producers::DescribeProducersRequest {
        topics: vec![(topic.clone(), vec![0, 1])],
    });
    goes_out::<_, messages::FindCoordinatorRequest>(&find_coordinator::FindCoordinatorRequest {
        key: group.clone(),
        kind: find_coordinator::CoordinatorType::Group,
    });
    goes_out::<_, messages::HeartbeatRequest>(&heartbeat::HeartbeatRequest {
        group: group.clone(),
        generation: 4,
        member_id: member_id.clone(),
        instance_id: instance_id.clone(),
    });
    goes_out::<_, messages::InitProducerIdRequest>(&init_producer_id::InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: 60_000,
        current: ProducerIdentity::NONE,
    });
    goes_out::<_, messages::JoinGroupRequest>(&join_group::JoinGroupRequest {
        group: group.clone(),
        session_timeout_ms: 45_000,
        rebalance_timeout_ms: 300_000,
        member_id: member_id.clone(),
        instance_id: instance_id.clone(),
        protocol_type: "consumer",
        protocols: vec![("range".into(), Bytes::from_static(b"metadata"))],
        reason: Some("subscription changed".into()),
    });
    goes_out::<_, messages::LeaveGroupRequest>(&leave_group::LeaveGroupRequest {
        group: group.clone(),
        member_id: member_id.clone(),
        instance_id: instance_id.clone(),
        reason: Some("closed".into()),
    });
    goes_out::<_, messages::ListOffsetsRequest>(&list_offsets::ListOffsetsRequest {
        isolation: IsolationLevel::ReadCommitted,
        topics: vec![(
            topic.clone(),
            vec![list_offsets::ListOffsetsPartition { partition: 0, leader_epoch: 5, timestamp: -1 }],
        )],
    });
    for topics in [
        metadata::MetadataTopics::All,
        metadata::MetadataTopics::None,
        metadata::MetadataTopics::Names(vec![topic.clone()]),
    ] {
        goes_out::<_, messages::MetadataRequest>(&metadata::MetadataRequest { topics, allow_auto_create: false });
    }
    goes_out::<_, messages::OffsetCommitRequest>(&offset_commit::OffsetCommitRequest {
        group: group.clone(),
        generation: 4,
        member_id: member_id.clone(),
        instance_id: instance_id.clone(),
        topics: vec![(
            topic.clone(),
            vec![offset_commit::OffsetCommitPartition {
                partition: 0,
                offset: 10,
                leader_epoch: 5,
                metadata: String::new(),
            }],
        )],
    });
    goes_out::<_, messages::OffsetFetchRequest>(&offset_fetch::OffsetFetchRequest {
        group: group.clone(),
        topics: Some(vec![(topic.clone(), vec![0, 1])]),
        require_stable: true,
        member: None,
    });
    goes_out::<_, messages::OffsetForLeaderEpochRequest>(&offset_for_leader_epoch::OffsetForLeaderEpochRequest {
        topics: vec![(
            topic.clone(),
            vec![offset_for_leader_epoch::EpochPartition { partition: 0, current_leader_epoch: 5, leader_epoch: 4 }],
        )],
    });
    goes_out::<_, messages::SaslHandshakeRequest>(&sasl_handshake::SaslHandshakeRequest { mechanism: "PLAIN".into() });
    goes_out::<_, messages::SaslAuthenticateRequest>(&sasl_authenticate::SaslAuthenticateRequest {
        auth_bytes: Bytes::from_static(b"secret"),
    });
    goes_out::<_, messages::SyncGroupRequest>(&sync_group::SyncGroupRequest {
        group,
        generation: 4,
        member_id,
        instance_id,
        protocol: "range".into(),
        assignments: vec![("m-1".into(), Bytes::from_static(b"assignment"))],
    });
}

#[test]
fn groups_are_read_in_every_version() {
    for version in 0..=5 {
        let mut group = messages::list_groups_response::ListedGroup::default()
            .with_group_id(group_id("billing"))
            .with_protocol_type(text("consumer"));
        if version >= 4 {
            group = group.with_group_state(text("Stable"));
        }
        if version >= 5 {
            group = group.with_group_type(text("classic"));
        }
        let mut message = messages::ListGroupsResponse::default().with_error_code(15).with_groups(vec![group]);
        if version >= 1 {
            message = message.with_throttle_time_ms(17);
        }
        let response = list_groups::ListGroupsRequest::decode(version, theirs(&message, version)).unwrap();
        let from = |since: i16, text: &str| if version >= since { text.to_owned() } else { String::new() };
        assert_eq!(response.throttle_ms, if version >= 1 { 17 } else { 0 });
        assert_eq!(response.error, ErrorCode::COORDINATOR_NOT_AVAILABLE);
        let group = list_groups::ListedGroup {
            name: "billing".into(),
            protocol_type: "consumer".to_owned(),
            state: from(4, "Stable"),
            kind: from(5, "classic"),
        };
        assert_eq!(response.groups, [group], "version {version}");
    }
    for version in 0..=6 {
        let mut member = messages::describe_groups_response::DescribedGroupMember::default()
            .with_member_id(text("m-1"))
            .with_client_id(text("c"))
            .with_client_host(text("/10.0.0.7"))
            .with_member_metadata(Bytes::from_static(b"metadata"))
            .with_member_assignment(Bytes::from_static(b"assignment"));
        if version >= 4 {
            member = member.with_group_instance_id(Some(text("i")));
        }
        let mut group = messages::describe_groups_response::DescribedGroup::default()
            .with_error_code(if version >= 6 { 69 } else { 0 })
            .with_group_state(text("Stable"))
            .with_protocol_type(text("consumer"))
            .with_protocol_data(text("range"))
            .with_members(vec![member]);
        if version >= 6 {
            group = group.with_error_message(Some(text("gone")));
        }
        let message = messages::DescribeGroupsResponse::default().with_groups(vec![group]);
        let response = describe_groups::DescribeGroupsRequest::decode(version, theirs(&message, version)).unwrap();
        let expected = describe_groups::DescribeGroupsResponse {
            throttle_ms: 0,
            error: if version >= 6 { ErrorCode::GROUP_ID_NOT_FOUND } else { ErrorCode::NONE },
            error_message: (version >= 6).then(|| "gone".to_owned()),
            state: "Stable".to_owned(),
            protocol_type: "consumer".to_owned(),
            protocol: "range".to_owned(),
            members: vec![describe_groups::DescribedMember {
                id: "m-1".to_owned(),
                instance_id: (version >= 4).then(|| "i".to_owned()),
                client_id: "c".to_owned(),
                client_host: "/10.0.0.7".to_owned(),
                assignment: Bytes::from_static(b"assignment"),
            }],
        };
        assert_eq!(response, expected, "version {version}");
    }
    for version in 0..=2 {
        let group = messages::delete_groups_response::DeletableGroupResult::default()
            .with_group_id(group_id("billing"))
            .with_error_code(68);
        let message = messages::DeleteGroupsResponse::default().with_results(vec![group]);
        let response = delete_groups::DeleteGroupsRequest::decode(version, theirs(&message, version)).unwrap();
        assert_eq!(response.groups, [("billing".into(), ErrorCode::NON_EMPTY_GROUP)]);
    }
}

#[test]
fn groups_of_the_consumer_protocol_are_read_in_every_version() {
    use messages::consumer_group_describe_response::{Assignment, DescribedGroup, Member, TopicPartitions};
    let assignment = |partitions: Vec<i32>| {
        let topic = TopicPartitions::default().with_topic_id(uuid()).with_topic_name(topic_name("orders"));
        Assignment::default().with_topic_partitions(vec![topic.with_partitions(partitions)])
    };
    for version in 0..=1 {
        let mut member = Member::default()
            .with_member_id(text("m-1"))
            .with_instance_id(Some(text("i")))
            .with_rack_id(Some(text("r")))
            .with_member_epoch(3)
            .with_client_id(text("c"))
            .with_client_host(text("/10.0.0.7"))
            .with_subscribed_topic_names(vec![topic_name("orders")])
            .with_subscribed_topic_regex(Some(text("o.*")))
            .with_assignment(assignment(vec![4]))
            .with_target_assignment(assignment(vec![4, 2]));
        if version >= 1 {
            member = member.with_member_type(1);
        }
        let group = DescribedGroup::default()
            .with_group_id(group_id("billing"))
            .with_group_state(text("Reconciling"))
            .with_group_epoch(7)
            .with_assignment_epoch(6)
            .with_assignor_name(text("uniform"))
            .with_members(vec![member]);
        let message = messages::ConsumerGroupDescribeResponse::default().with_groups(vec![group]);
        let body = theirs(&message, version);
        let response = consumer_group_describe::ConsumerGroupDescribeRequest::decode(version, body).unwrap();
        let expected = consumer_group_describe::ConsumerGroupDescribeResponse {
            state: "Reconciling".to_owned(),
            epoch: 7,
            assignor: "uniform".to_owned(),
            members: vec![consumer_group_describe::ConsumerGroupMember {
                id: "m-1".to_owned(),
                instance_id: Some("i".to_owned()),
                client_id: "c".to_owned(),
                client_host: "/10.0.0.7".to_owned(),
                assignment: vec![TopicPartition::new("orders", 4)],
                target: vec![TopicPartition::new("orders", 4), TopicPartition::new("orders", 2)],
            }],
            ..Default::default()
        };
        assert_eq!(response, expected, "version {version}");
    }
}

#[test]
fn consumer_group_heartbeats_are_byte_for_byte_those_of_kafka_protocol() {
    use kafka_protocol::messages::{
        consumer_group_heartbeat_request as request, consumer_group_heartbeat_response as answer,
    };
    let ours = consumer_group_heartbeat::ConsumerGroupHeartbeatRequest {
        group: "billing".into(),
        member_id: "m-1".into(),
        member_epoch: 4,
        instance_id: None,
        rack: Some("r-1".into()),
        rebalance_timeout_ms: 300_000,
        topics: None,
        pattern: Some("orders.*".into()),
        assignor: None,
        owned: Some(vec![(ID, vec![0, 1])]),
    };
    assert!(ours.encode(0, &mut Chunks::default()).is_err(), "version 0 has no patterns");
    let owned = request::TopicPartitions::default().with_topic_id(uuid()).with_partitions(vec![0, 1]);
    let message = messages::ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group_id("billing"))
        .with_member_id(text("m-1"))
        .with_member_epoch(4)
        .with_rack_id(Some(text("r-1")))
        .with_rebalance_timeout_ms(300_000)
        .with_subscribed_topic_regex(Some(text("orders.*")))
        .with_topic_partitions(Some(vec![owned]));
    assert_eq!(bytes_of(&ours, 1), theirs(&message, 1));
    for version in 0..=1 {
        let message = messages::ConsumerGroupHeartbeatResponse::default()
            .with_throttle_time_ms(17)
            .with_member_id(Some(text("m-1")))
            .with_member_epoch(5)
            .with_heartbeat_interval_ms(3000);
        let decoded = |message: &messages::ConsumerGroupHeartbeatResponse| {
            consumer_group_heartbeat::ConsumerGroupHeartbeatRequest::decode(version, theirs(message, version)).unwrap()
        };
        let unchanged = decoded(&message);
        assert_eq!((unchanged.throttle_ms, unchanged.member_epoch, unchanged.heartbeat_interval_ms), (17, 5, 3000));
        assert_eq!(unchanged.assignment, None, "no word about the assignment");
        let assigned = answer::TopicPartitions::default().with_topic_id(uuid()).with_partitions(vec![2, 7]);
        let assigned = answer::Assignment::default().with_topic_partitions(vec![assigned]);
        let told = decoded(&message.clone().with_assignment(Some(assigned)));
        assert_eq!(told.assignment, Some(vec![(ID, vec![2, 7])]));
        let nothing = decoded(&message.clone().with_assignment(Some(answer::Assignment::default())));
        assert_eq!(nothing.assignment, Some(Vec::new()), "an assignment of nothing is told from none");
        let refused = decoded(&message.with_error_code(110).with_error_message(Some(text("too old"))));
        assert_eq!((refused.error, refused.message.as_str()), (ErrorCode::FENCED_MEMBER_EPOCH, "too old"));
    }
}

#[test]
fn topics_are_asked_for_by_id_where_there_are_ids() {
    let request =
        metadata::MetadataRequest { topics: metadata::MetadataTopics::Ids(vec![ID]), allow_auto_create: false };
    assert!(request.encode(11, &mut Chunks::default()).is_err());
    let mut bytes = Bytes::from(bytes_of(&request, 12));
    let topics = messages::MetadataRequest::decode(&mut bytes, 12).unwrap().topics.unwrap();
    assert_eq!((topics[0].topic_id, topics[0].name.as_ref()), (uuid(), None));
}

#[test]
fn commits_and_look_ups_carry_the_member_epoch() {
    let look_up = offset_fetch::OffsetFetchRequest {
        group: "billing".into(),
        topics: None,
        require_stable: true,
        member: Some(("m-1".to_owned(), 4)),
    };
    let read = |version| {
        let mut bytes = Bytes::from(bytes_of(&look_up, version));
        messages::OffsetFetchRequest::decode(&mut bytes, version).unwrap().groups.remove(0)
    };
    assert_eq!((read(9).member_id, read(9).member_epoch), (Some(text("m-1")), 4));
    assert_eq!((read(8).member_id, read(8).member_epoch), (None, -1), "version 8 has no room for it");
}

#[test]
fn header_versions_agree_with_kafka_protocol() {
    for api in ApiKey::ALL {
        let theirs = messages::ApiKey::try_from(*api as i16).unwrap();
        for version in 0..=9 {
            let expected = (theirs.request_header_version(version), theirs.response_header_version(version));
            assert_eq!(api.header_versions(version), expected, "{api} v{version}");
        }
    }
}

#[test]
fn response_headers_are_split_off() {
    let frame = Bytes::from_static(&[0, 0, 0, 9, 1, 5, 2, 7, 7, 42]);
    assert_eq!(split_response_header(ApiKey::Heartbeat, 4, frame.clone()).unwrap(), (9, frame.slice(9..)));
    assert_eq!(split_response_header(ApiKey::Heartbeat, 3, frame.clone()).unwrap(), (9, frame.slice(4..)));
    assert_eq!(split_response_header(ApiKey::ApiVersions, 4, frame.clone()).unwrap(), (9, frame.slice(4..)));
    assert!(split_response_header(ApiKey::Heartbeat, 4, frame.slice(..7)).is_err());
}

#[test]
fn an_old_broker_answers_api_versions_in_version_0() {
    let answer = Bytes::from_static(&[0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 2]);
    let response = api_versions::ApiVersionsRequest::decode(4, answer).unwrap();
    assert_eq!(response.retry_version(), Some(2));
    let empty = api_versions::ApiVersionsRequest::decode(4, Bytes::from_static(&[0, 35, 0, 0, 0, 0])).unwrap();
    assert_eq!(empty.retry_version(), Some(0));
}

#[test]
fn the_highest_common_version_is_picked() {
    let response =
        api_versions::ApiVersionsResponse { apis: vec![(1, 4, 20), (0, 0, 11), (3, 14, 15)], ..Default::default() };
    let versions = ApiVersions::new(&response);
    assert_eq!(versions.pick::<ProduceRequest>(), Ok(11));
    assert_eq!(versions.pick::<FetchRequest>(), Ok(18));
    assert_eq!(versions.pick_at_most::<FetchRequest>(12), Ok(12));
    assert!(versions.pick::<metadata::MetadataRequest>().is_err());
    let error = versions.pick::<heartbeat::HeartbeatRequest>().unwrap_err();
    assert!(error.to_string().contains("Heartbeat in versions None"), "{error}");
}

#[test]
fn topics_without_an_id_are_not_sent_by_id() {
    let mut request = produce_request();
    request.topics[1].id = TopicId::NONE;
    assert!(request.encode(12, &mut Chunks::default()).is_ok());
    let error = request.encode(13, &mut Chunks::default()).unwrap_err();
    assert!(error.to_string().contains("topics go by id"), "{error}");
}

#[test]
fn static_membership_is_not_dropped_in_silence() {
    let request = heartbeat::HeartbeatRequest {
        group: "g".into(),
        generation: 1,
        member_id: String::new(),
        instance_id: Some("i".into()),
    };
    assert!(request.encode(2, &mut Chunks::default()).is_err());
    assert!(request.encode(3, &mut Chunks::default()).is_ok());
}
