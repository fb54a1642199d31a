//! Every version of every API that the fake cluster offers can be asked and answered, with and without an error.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Request, StrBytes};
use proto_tests::fake::{FakeCluster, Fault, FaultAction};
use proto_tests::raw::{RawClient, batch, fetch_request, name, produce_request};
use std::collections::BTreeMap;
use std::time::Duration;

fn each<R: Request>(cluster: &FakeCluster, make: impl Fn(i16) -> R) -> i16 {
    let mut client = RawClient::connect(cluster.address(1)).unwrap();
    let keys = client.call(0, &ApiVersionsRequest::default()).unwrap().api_keys;
    let range = keys.iter().find(|one| one.api_key == R::KEY).unwrap();
    for version in range.min_version..=range.max_version {
        for error in [None, Some(29)] {
            let fault = error.map(|error| cluster.inject(Fault::always(FaultAction::Error(error)).api(R::KEY)));
            let answer = client.call(version, &make(version));
            assert!(answer.is_ok(), "key {} version {version} error {error:?}: {:?}", R::KEY, answer.err());
            fault.into_iter().for_each(|fault| cluster.remove_fault(fault));
        }
    }
    R::KEY
}

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

#[test]
fn every_version_round_trips() {
    let cluster = FakeCluster::start(1);
    cluster.create_topic("t", 1);
    let id = cluster.look(|view| view.topic_id("t")).unwrap();
    let g = || GroupId(text("g"));
    let mut asked = vec![
        each(&cluster, |version| {
            let by_id = version >= 13;
            let topic = if by_id { "" } else { "t" };
            let mut request = produce_request(topic, 0, &batch(-1, -1, -1, &["a"]), -1, Duration::from_secs(1));
            if by_id {
                request.topic_data[0].topic_id = id;
            }
            request
        }),
        each(&cluster, |version| {
            let by_id = version >= 13;
            let mut request = fetch_request(if by_id { "" } else { "t" }, 0, 0);
            if by_id {
                request.topics[0].topic_id = id;
            }
            if version < 7 {
                request = request.with_session_id(0).with_session_epoch(-1);
            }
            request
        }),
        each(&cluster, |_| {
            let one = list_offsets_request::ListOffsetsPartition::default().with_timestamp(-1);
            let topic =
                list_offsets_request::ListOffsetsTopic::default().with_name(name("t")).with_partitions(vec![one]);
            ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic])
        }),
        each(&cluster, |_| {
            let topics = ["t", "none"]
                .map(|topic| metadata_request::MetadataRequestTopic::default().with_name(Some(name(topic))));
            MetadataRequest::default().with_topics(Some(topics.to_vec())).with_allow_auto_topic_creation(true)
        }),
        each(&cluster, |_| {
            let one = offset_commit_request::OffsetCommitRequestPartition::default().with_committed_offset(1);
            let topic = offset_commit_request::OffsetCommitRequestTopic::default();
            let topics = vec![topic.with_name(name("t")).with_partitions(vec![one])];
            OffsetCommitRequest::default().with_group_id(g()).with_generation_id_or_member_epoch(-1).with_topics(topics)
        }),
        each(&cluster, |version| {
            if version >= 8 {
                let topic = offset_fetch_request::OffsetFetchRequestTopics::default();
                let topics = vec![topic.with_name(name("t")).with_partition_indexes(vec![0, 9])];
                let group = offset_fetch_request::OffsetFetchRequestGroup::default().with_group_id(g());
                return OffsetFetchRequest::default().with_groups(vec![group.with_topics(Some(topics))]);
            }
            let topic = offset_fetch_request::OffsetFetchRequestTopic::default();
            let topics = vec![topic.with_name(name("t")).with_partition_indexes(vec![0, 9])];
            OffsetFetchRequest::default().with_group_id(g()).with_topics(Some(topics))
        }),
        each(&cluster, |version| match version {
            0..=3 => FindCoordinatorRequest::default().with_key(text("g")),
            _ => FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]),
        }),
        each(&cluster, |_| {
            let protocol = join_group_request::JoinGroupRequestProtocol::default().with_name(text("range"));
            let request = JoinGroupRequest::default().with_group_id(g()).with_protocol_type(text("consumer"));
            request.with_session_timeout_ms(100).with_rebalance_timeout_ms(100).with_protocols(vec![protocol])
        }),
        each(&cluster, |_| HeartbeatRequest::default().with_group_id(g())),
        each(&cluster, |version| match version {
            0..=2 => LeaveGroupRequest::default().with_group_id(g()).with_member_id(text("who")),
            _ => {
                let member = leave_group_request::MemberIdentity::default().with_member_id(text("who"));
                LeaveGroupRequest::default().with_group_id(g()).with_members(vec![member])
            }
        }),
        each(&cluster, |_| SyncGroupRequest::default().with_group_id(g())),
        each(&cluster, |_| ApiVersionsRequest::default().with_client_software_name(text("x"))),
        each(&cluster, |version| {
            let topic = CreatableTopic::default().with_name(name(&format!("new-{version}")));
            CreateTopicsRequest::default().with_topics(vec![topic.with_num_partitions(1).with_replication_factor(1)])
        }),
        each(&cluster, |version| {
            let topic = format!("new-{}", version + 1);
            if version >= 6 {
                let topic = delete_topics_request::DeleteTopicState::default().with_name(Some(name(&topic)));
                return DeleteTopicsRequest::default().with_topics(vec![topic]);
            }
            DeleteTopicsRequest::default().with_topic_names(vec![name(&topic)])
        }),
        each(&cluster, |_| {
            let one = delete_records_request::DeleteRecordsPartition::default().with_offset(-1);
            let topic = delete_records_request::DeleteRecordsTopic::default().with_name(name("t"));
            DeleteRecordsRequest::default().with_topics(vec![topic.with_partitions(vec![one])])
        }),
        each(&cluster, |_| InitProducerIdRequest::default().with_transactional_id(None)),
        each(&cluster, |_| {
            let one = offset_for_leader_epoch_request::OffsetForLeaderPartition::default();
            let topic = offset_for_leader_epoch_request::OffsetForLeaderTopic::default().with_topic(name("t"));
            OffsetForLeaderEpochRequest::default().with_topics(vec![topic.with_partitions(vec![one])])
        }),
        each(&cluster, |_| {
            let resource = |kind, name| {
                describe_configs_request::DescribeConfigsResource::default()
                    .with_resource_type(kind)
                    .with_resource_name(text(name))
                    .with_configuration_keys(None)
            };
            DescribeConfigsRequest::default().with_resources(vec![resource(2, "t"), resource(4, "1"), resource(4, "9")])
        }),
        each(&cluster, |_| {
            let topic = describe_producers_request::TopicRequest::default().with_name(name("t"));
            DescribeProducersRequest::default().with_topics(vec![topic.with_partition_indexes(vec![0])])
        }),
        each(&cluster, |_| DescribeGroupsRequest::default().with_groups(vec![g()])),
        each(&cluster, |_| ListGroupsRequest::default()),
        each(&cluster, |_| DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text("none"))])),
        each(&cluster, |_| {
            let request = ConsumerGroupHeartbeatRequest::default().with_group_id(GroupId(text("next")));
            let request = request.with_member_id(text("m")).with_rebalance_timeout_ms(1000);
            request.with_subscribed_topic_names(Some(vec![name("t")])).with_topic_partitions(Some(Vec::new()))
        }),
        each(&cluster, |_| ConsumerGroupDescribeRequest::default().with_group_ids(vec![GroupId(text("next"))])),
        each(&cluster, |_| SaslHandshakeRequest::default().with_mechanism(text("PLAIN"))),
        each(&cluster, |_| SaslAuthenticateRequest::default()),
    ];
    asked.sort_unstable();
    let offered: Vec<i16> = {
        let mut client = RawClient::connect(cluster.address(1)).unwrap();
        client.call(0, &ApiVersionsRequest::default()).unwrap().api_keys.iter().map(|one| one.api_key).collect()
    };
    assert_eq!(asked, offered, "a key without a test");
}

/// The brokers' expiry of producer ids, the least of which a producer has to respect.
#[test]
fn configurations() {
    let cluster = FakeCluster::builder().producer_id_expiration(Duration::from_secs(60)).start();
    cluster.create_topic("t", 1);
    let resource = |kind, name| {
        describe_configs_request::DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_configuration_keys(None)
    };
    let request = DescribeConfigsRequest::default().with_resources(vec![resource(4, "1"), resource(2, "t")]);
    let response = RawClient::connect(cluster.address(1)).unwrap().call(4, &request).unwrap();
    let values: BTreeMap<String, String> = response
        .results
        .iter()
        .flat_map(|result| &result.configs)
        .map(|row| (row.name.to_string(), row.value.as_ref().unwrap().to_string()))
        .collect();
    assert_eq!(values["producer.id.expiration.ms"], "60000");
    assert_eq!(values["max.message.bytes"], "1048588");
    assert_eq!(values["cleanup.policy"], "delete");
}
