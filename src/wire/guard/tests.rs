use bytes::{BufMut, Bytes, BytesMut};

use super::*;
use crate::wire::test_random::Random;
use crate::wire::writer::put_uvarint;
use crate::wire::{Request, WireError, requests};

/// Writes a response of `api` with random contents.
pub(crate) fn random_response(api: ApiKey, version: i16, random: &mut Random) -> BytesMut {
    let mut out = BytesMut::new();
    let walk = Walk { version, flexible: api.is_flexible(version) };
    walk.write_fields(schema::fields(api).unwrap(), random, &mut out);
    out
}

impl Walk {
    fn write_fields(self, fields: &'static [Field], random: &mut Random, out: &mut BytesMut) {
        for Field(of, versions, nullable, tag) in fields {
            if tag.is_none() && self.has(*versions) {
                self.write_value(of, self.has(*nullable), random, out);
            }
        }
        if self.flexible {
            let known = fields.iter().filter(|field| field.3.is_some() && self.has(field.1));
            let mut known: Vec<_> = known.filter(|_| random.below(2) == 0).collect();
            known.sort_by_key(|field| field.3);
            let unknown = random.below(4) == 0;
            put_uvarint(out, (known.len() + usize::from(unknown)) as u32);
            for Field(of, _, nullable, tag) in known {
                let mut value = BytesMut::new();
                self.write_value(of, self.has(*nullable), random, &mut value);
                put_uvarint(out, tag.unwrap());
                put_uvarint(out, value.len() as u32);
                out.put_slice(&value);
            }
            if unknown {
                out.put_slice(&[99, 3, 1, 2, 3]);
            }
        }
    }

    fn write_len(self, text: bool, len: Option<usize>, out: &mut BytesMut) {
        match (self.flexible, text, len) {
            (true, _, len) => put_uvarint(out, len.map_or(0, |len| len as u32 + 1)),
            (false, true, len) => out.put_i16(len.map_or(-1, |len| len as i16)),
            (false, false, len) => out.put_i32(len.map_or(-1, |len| len as i32)),
        }
    }

    fn write_value(self, of: &'static Type, nullable: bool, random: &mut Random, out: &mut BytesMut) {
        let len = if nullable && random.below(3) == 0 { None } else { Some(random.below(4)) };
        match of {
            // Kafka's truth values are 0 or 1, the rest is any number.
            Type::Fixed(1) => out.put_u8(random.below(2) as u8),
            // Small numbers, so that 32 bits hold what is 16 bits elsewhere.
            Type::Fixed(size) => out.put_uint(random.below(100) as u64, (*size).min(8)),
            Type::Text | Type::Blob => {
                self.write_len(matches!(of, Type::Text), len, out);
                out.put_slice(&b"4242"[..len.unwrap_or(0)]);
            }
            Type::Array(element) => {
                self.write_len(false, len, out);
                for _ in 0..len.unwrap_or(0) {
                    self.write_value(element, false, random, out);
                }
            }
            Type::Struct(_) if len.is_none() => out.put_i8(-1),
            Type::Struct(fields) => {
                if nullable {
                    out.put_i8(1);
                }
                self.write_fields(fields, random, out);
            }
        }
        if let Type::Fixed(16) = of {
            out.put_slice(&[7; 8]);
        }
    }
}

/// Calls `each` for every API behind the guard and every version spoken.
fn for_every_api(mut each: impl FnMut(ApiKey, i16, &dyn Fn(Bytes) -> Result<(), WireError>)) {
    fn visit<R: Request>(each: &mut impl FnMut(ApiKey, i16, &dyn Fn(Bytes) -> Result<(), WireError>)) {
        for version in R::VERSIONS.0..=R::VERSIONS.1 {
            each(R::KEY, version, &|body| R::decode(version, body).map(drop));
        }
    }
    visit::<requests::api_versions::ApiVersionsRequest>(&mut each);
    visit::<requests::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest>(&mut each);
    visit::<requests::consumer_group_describe::ConsumerGroupDescribeRequest>(&mut each);
    visit::<requests::create_topics::CreateTopicsRequest>(&mut each);
    visit::<requests::delete_groups::DeleteGroupsRequest>(&mut each);
    visit::<requests::delete_topics::DeleteTopicsRequest>(&mut each);
    visit::<requests::describe_groups::DescribeGroupsRequest>(&mut each);
    visit::<requests::describe_producers::DescribeProducersRequest>(&mut each);
    visit::<requests::find_coordinator::FindCoordinatorRequest>(&mut each);
    visit::<requests::heartbeat::HeartbeatRequest>(&mut each);
    visit::<requests::init_producer_id::InitProducerIdRequest>(&mut each);
    visit::<requests::join_group::JoinGroupRequest>(&mut each);
    visit::<requests::leave_group::LeaveGroupRequest>(&mut each);
    visit::<requests::list_groups::ListGroupsRequest>(&mut each);
    visit::<requests::list_offsets::ListOffsetsRequest>(&mut each);
    visit::<requests::metadata::MetadataRequest>(&mut each);
    visit::<requests::offset_commit::OffsetCommitRequest>(&mut each);
    visit::<requests::offset_fetch::OffsetFetchRequest>(&mut each);
    visit::<requests::offset_for_leader_epoch::OffsetForLeaderEpochRequest>(&mut each);
    visit::<requests::sasl_authenticate::SaslAuthenticateRequest>(&mut each);
    visit::<requests::sasl_handshake::SaslHandshakeRequest>(&mut each);
    visit::<requests::sync_group::SyncGroupRequest>(&mut each);
    visit::<requests::describe_configs::DescribeConfigsRequest>(&mut each);
}

#[test]
fn what_the_schema_writes_is_read_by_guard_and_decoder() {
    let mut random = Random(1);
    for_every_api(|api, version, decode| {
        for _ in 0..50 {
            let body = random_response(api, version, &mut random).freeze();
            if api == ApiKey::ApiVersions && body.starts_with(&[0, 35]) {
                continue; // error 35 changes the layout
            }
            check(api, version, &body).unwrap_or_else(|error| panic!("{api} v{version}: {error}: {body:?}"));
            match decode(body.clone()) {
                Ok(()) => {}
                // What the schema allows and the meaning does not: an empty answer, a kind of resource never asked for.
                Err(WireError::Decode { reason, .. })
                    if reason.starts_with("no ") || reason.starts_with("a kind of resource") => {}
                Err(error) => panic!("{api} v{version}: {error}: {body:?}"),
            }
        }
    });
}

#[test]
fn a_response_cut_at_any_byte_is_refused() {
    let mut random = Random(2);
    for_every_api(|api, version, decode| {
        let body = random_response(api, version, &mut random).freeze();
        for cut in 0..body.len() {
            // An ApiVersions answer that begins with error 35 is read in version 0.
            assert!(decode(body.slice(..cut)).is_err(), "{api} v{version} cut at {cut}: {body:?}");
        }
        let longer = [&body[..], &[0]].concat();
        assert!(decode(longer.into()).is_err(), "{api} v{version}: a byte too many");
    });
}

#[test]
fn array_count_larger_than_the_frame() {
    // Two billion topics in 13 bytes.
    let flexible = [0, 0, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x08, 1, 2, 3, 4];
    assert_eq!(check(ApiKey::ListOffsets, 6, &flexible).unwrap_err().at, 9);
    let older = [0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 1, 2, 3, 4, 5];
    assert_eq!(check(ApiKey::ListOffsets, 5, &older).unwrap_err().at, 8);
    // As many elements as bytes are left, but each takes more than one.
    let plausible = [0, 0, 0, 0, 9, 1, 1, 1, 1, 1, 1, 1, 1];
    assert!(check(ApiKey::ListOffsets, 6, &plausible).is_err());
    let error = requests::list_offsets::ListOffsetsRequest::decode(6, Bytes::copy_from_slice(&flexible)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot read the ListOffsets response in version 6: an array of more elements than there are bytes at byte 9"
    );
}

#[test]
fn negative_lengths_and_bad_varints_are_refused() {
    assert!(check(ApiKey::ListOffsets, 5, &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xfe]).is_err());
    assert!(check(ApiKey::ListOffsets, 5, &[0, 0, 0, 0, 0, 0, 0, 1, 0x80, 0, 0, 0, 0, 0]).is_err());
    assert!(check(ApiKey::ListOffsets, 6, &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x7f]).is_err());
    assert!(check(ApiKey::ListOffsets, 6, &[0, 0, 0, 0, 0, 0]).is_err(), "null where none may be");
}

#[test]
fn tags_out_of_order_or_too_many_are_refused() {
    let heartbeat = |tags: &[u8]| check(ApiKey::Heartbeat, 4, &[&[0, 0, 0, 0, 0, 0], tags].concat());
    assert_eq!(heartbeat(&[2, 5, 0, 6, 0]), Ok(()));
    assert!(heartbeat(&[2, 6, 0, 5, 0]).is_err());
    assert!(heartbeat(&[2, 5, 0, 5, 0]).is_err());
    assert!(heartbeat(&[1, 5, 9, 0]).is_err(), "longer than the frame");
    let many: Vec<u8> = (0..17).flat_map(|tag| [tag, 0]).collect();
    assert!(heartbeat(&[&[17], &many[..]].concat()).is_err());
}
