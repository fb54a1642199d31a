//! Bytes of Java's 4.3.0 clients, and bytes of nobody.

use super::*;

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// What Java's `ConsumerProtocol.serializeSubscription` makes of it, version by version.
const JAVA_SUBSCRIPTIONS: [&str; 4] = [
    "000000000002000562696c6c7300066f72646572730000000400000007",
    "000100000002000562696c6c7300066f7264657273000000040000000700000002000562696c6c73000000010000000100066f7264657273\
     000000020000000000000002",
    "000200000002000562696c6c7300066f7264657273000000040000000700000002000562696c6c73000000010000000100066f7264657273\
     00000002000000000000000200000007",
    "000300000002000562696c6c7300066f7264657273000000040000000700000002000562696c6c73000000010000000100066f7264657273\
     0000000200000000000000020000000700027231",
];
/// User data of `StickyAssignor` and of `CooperativeStickyAssignor` after an assignment in generation 7.
const JAVA_STICKY: &str = "00000002000562696c6c73000000010000000100066f726465727300000002000000000000000200000007";
const JAVA_COOPERATIVE: &str = "00000007";
const JAVA_ASSIGNMENT: &str =
    "00030000000200066f7264657273000000020000000000000002000562696c6c730000000100000001ffffffff";

fn partitions() -> Vec<TopicPartition> {
    vec![TopicPartition::new("bills", 1), TopicPartition::new("orders", 0), TopicPartition::new("orders", 2)]
}

fn subscription() -> Subscription {
    Subscription {
        topics: vec![Arc::from("bills"), Arc::from("orders")],
        user_data: Some(encode_generation(7)),
        owned: partitions(),
        generation: Some(7),
        rack: Some(Arc::from("r1")),
    }
}

#[test]
fn subscriptions_are_javas_byte_for_byte() {
    assert_eq!(encode_subscription(&subscription()), hex(JAVA_SUBSCRIPTIONS[3]));
}

#[test]
fn subscriptions_of_all_versions_are_read() {
    let whole = subscription();
    let v0 = Subscription { owned: Vec::new(), generation: None, rack: None, ..whole.clone() };
    let v1 = Subscription { generation: None, rack: None, ..whole.clone() };
    let v2 = Subscription { rack: None, ..whole.clone() };
    for (version, expected) in [v0, v1, v2, whole.clone()].into_iter().enumerate() {
        assert_eq!(decode_subscription(&hex(JAVA_SUBSCRIPTIONS[version])).unwrap(), expected, "version {version}");
    }
    // A version to come has fields behind those of version 3.
    let mut later = hex(JAVA_SUBSCRIPTIONS[3]);
    later[1] = 9;
    later.extend_from_slice(b"more");
    assert_eq!(decode_subscription(&later).unwrap(), whole);
}

#[test]
fn a_subscription_without_anything_but_topics_comes_back() {
    let plain = Subscription { topics: vec![Arc::from("orders")], ..Subscription::default() };
    assert_eq!(decode_subscription(&encode_subscription(&plain)).unwrap(), plain);
}

#[test]
fn user_data_is_javas_byte_for_byte() {
    let data = StickyData { partitions: partitions(), generation: Some(7) };
    assert_eq!(encode_sticky_data(&data), hex(JAVA_STICKY));
    assert_eq!(decode_sticky_data(&hex(JAVA_STICKY)).unwrap(), data);
    let version_0 = &hex(JAVA_STICKY)[..hex(JAVA_STICKY).len() - 4];
    assert_eq!(decode_sticky_data(version_0).unwrap(), StickyData { generation: None, ..data });
    assert_eq!(encode_generation(7), hex(JAVA_COOPERATIVE));
    assert_eq!(decode_generation(&hex(JAVA_COOPERATIVE)).unwrap(), Some(7));
    assert_eq!(decode_generation(&hex("ffffffff")).unwrap(), None, "a member that has had no assignment");
}

#[test]
fn assignments_come_back_sorted() {
    assert_eq!(decode_assignment(&hex(JAVA_ASSIGNMENT)).unwrap(), partitions());
    assert_eq!(decode_assignment(&encode_assignment(&partitions())).unwrap(), partitions());
    assert_eq!(decode_assignment(b"").unwrap(), []);
}

#[test]
fn hostile_counts_are_refused_before_anything_is_allocated() {
    let huge = b"\x00\x03\x7f\xff\xff\xff\x00\x01a";
    assert!(decode_subscription(huge).unwrap_err().to_string().contains("more elements than there are bytes"));
    assert!(decode_assignment(huge).is_err());
    assert!(decode_assignment(b"\x00\x03\xff\xff\xff\xff").is_err());
    assert!(decode_assignment(b"\x00\x00\x00\x00\x00\x01\x00\x01t\x7f\xff\xff\xff\x00\x00\x00\x00").is_err());
    assert!(decode_sticky_data(&huge[2..]).is_err());
    let user_data = b"\x00\x03\x00\x00\x00\x00\x7f\xff\xff\xff";
    assert!(decode_subscription(user_data).unwrap_err().to_string().contains("beyond the end"));
    assert!(decode_subscription(b"\x00\x03\x00\x00\x00\x00\xff\xff\xff\xfe").is_err());
}

#[test]
fn every_truncation_is_an_error_or_a_shorter_message_and_never_a_panic() {
    let whole = hex(JAVA_SUBSCRIPTIONS[3]);
    for end in 0..whole.len() {
        assert!(decode_subscription(&whole[..end]).is_err(), "cut at {end}");
    }
    let whole = hex(JAVA_ASSIGNMENT);
    for end in 1..whole.len() {
        // The user data at the end decides nothing.
        assert_eq!(decode_assignment(&whole[..end]).is_err(), end < whole.len() - 4, "cut at {end}");
    }
    for end in 0..4 {
        assert!(decode_generation(&[0; 4][..end]).is_err());
    }
}
