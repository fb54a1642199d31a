use bytes::{Bytes, BytesMut};
use indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records as theirs;

use super::*;
use crate::types::{Compression, ProducerIdentity};
use crate::wire::compression;
use crate::wire::test_random::Random;

const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
const ME: ProducerIdentity = ProducerIdentity { id: 4711, epoch: 3 };

type Header = (String, Option<Vec<u8>>);

#[derive(Clone, Debug, PartialEq)]
struct Owned {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<Header>,
}

fn random_records(random: &mut Random, count: usize) -> Vec<Owned> {
    let record = |i: usize| Owned {
        timestamp: 1_700_000_000_000 + (random.next() % 100_000) as i64 * i.min(1) as i64,
        key: random.maybe_bytes(20),
        value: random.maybe_bytes(300),
        headers: (0..random.below(4)).map(|i| (format!("h{i}"), random.maybe_bytes(70))).collect(),
    };
    (0..count).map(record).collect()
}

fn section(records: &[Owned]) -> RecordsSection {
    let mut builder = RecordsBuilder::new(BytesMut::new());
    for record in records {
        let headers: Vec<_> = record.headers.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
        let before = builder.len();
        builder.push(record.timestamp, record.key.as_deref(), record.value.as_deref(), &headers).unwrap();
        let bound = encoded_size(record.key.as_deref(), record.value.as_deref(), &headers);
        assert!(builder.len() - before <= bound);
    }
    builder.finish()
}

fn batch_bytes(section: &RecordsSection) -> Bytes {
    let header = stamp(section, section.crc(), ME, 17, false);
    assert_eq!(header.len(), HEADER_LEN);
    [&header[..], &section.bytes].concat().into()
}

fn read_records(records: Records) -> Result<Vec<(i64, Owned)>, BatchError> {
    let bytes = records.bytes().clone();
    let owned = |record: RawRecord| {
        let headers: Vec<Header> = record
            .headers(&bytes)
            .map(|(key, value)| (String::from_utf8(key.to_vec()).unwrap(), value.map(<[u8]>::to_vec)))
            .collect();
        assert_eq!(headers.len(), record.header_count as usize);
        let (key, value) = (record.key(&bytes).map(<[u8]>::to_vec), record.value(&bytes).map(<[u8]>::to_vec));
        (record.offset, Owned { timestamp: record.timestamp, key, value, headers })
    };
    records.map(|record| record.map(owned)).collect()
}

fn read(bytes: Bytes) -> Result<Vec<(i64, Owned)>, BatchError> {
    let mut all = Vec::new();
    for batch in Batches::new(bytes) {
        all.extend(read_records(batch?.records(&DecodeLimits::default())?)?);
    }
    Ok(all)
}

fn one(bytes: Bytes) -> Batch {
    Batches::new(bytes).next().unwrap().unwrap()
}

/// Writes the checksum anew after the bytes were changed.
fn with_crc(mut bytes: Vec<u8>) -> Bytes {
    let crc = crc32c::crc32c(&bytes[header::ATTRIBUTES..]);
    bytes[header::CRC..header::ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

#[test]
fn bytes_are_those_of_kafka_protocol() {
    let mut random = Random(5);
    for _ in 0..100 {
        let count = 1 + random.below(80);
        let records = random_records(&mut random, count);
        let to_theirs = |(i, record): (usize, &Owned)| theirs::Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: ME.id,
            producer_epoch: ME.epoch,
            timestamp_type: theirs::TimestampType::Creation,
            offset: i as i64,
            sequence: 17 + i as i32,
            timestamp: record.timestamp,
            key: record.key.clone().map(Bytes::from),
            value: record.value.clone().map(Bytes::from),
            headers: record
                .headers
                .iter()
                .map(|(key, value)| (StrBytes::from_string(key.clone()), value.clone().map(Bytes::from)))
                .collect::<IndexMap<_, _>>(),
        };
        let expected: Vec<_> = records.iter().enumerate().map(to_theirs).collect();
        let options = theirs::RecordEncodeOptions { version: 2, compression: theirs::Compression::None };
        let mut bytes = BytesMut::new();
        theirs::RecordBatchEncoder::encode(&mut bytes, &expected, &options).unwrap();
        let ours = batch_bytes(&section(&records));
        assert_eq!(ours, bytes);
        let back: Vec<_> = read(ours.clone()).unwrap();
        assert_eq!(back, (0i64..).zip(records).collect::<Vec<_>>());
        let decoded = theirs::RecordBatchDecoder::decode(&mut ours.clone()).unwrap();
        assert_eq!(decoded.records, expected);
    }
}

#[test]
fn records_come_back_from_every_codec() {
    let mut random = Random(6);
    for codec in CODECS {
        let records = random_records(&mut random, 500);
        let section = section(&records).compress(codec, None).unwrap();
        let batch = one(batch_bytes(&section));
        assert_eq!(batch.compression, section.compression);
        assert_eq!((batch.identity, batch.base_sequence, batch.count), (ME, 17, 500));
        assert_eq!((batch.base_offset, batch.last_offset(), batch.leader_epoch), (0, 499, -1));
        let back = read_records(batch.records(&DecodeLimits::default()).unwrap()).unwrap();
        assert_eq!(back, (0i64..).zip(records).collect::<Vec<_>>(), "{codec}");
    }
}

#[test]
fn a_section_stays_as_it_is_when_compression_does_not_help() {
    let mut random = Random(7);
    let incompressible = Owned { timestamp: 1, key: None, value: Some(random.bytes(100)), headers: vec![] };
    let plain = section(&[incompressible]);
    for codec in CODECS {
        assert_eq!(plain.clone().compress(codec, None).unwrap(), plain);
    }
}

#[test]
fn duplicate_header_keys_nulls_and_empties_are_kept() {
    let headers = vec![
        ("a".to_owned(), Some(b"1".to_vec())),
        ("a".to_owned(), None),
        (String::new(), Some(vec![])),
        ("a".to_owned(), Some(b"1".to_vec())),
    ];
    let records = vec![
        Owned { timestamp: 5, key: None, value: None, headers },
        Owned { timestamp: -1, key: Some(vec![]), value: Some(vec![]), headers: vec![] },
        Owned { timestamp: i64::MAX, key: Some(vec![1]), value: None, headers: vec![] },
    ];
    let back = read(batch_bytes(&section(&records))).unwrap();
    assert_eq!(back, (0i64..).zip(records).collect::<Vec<_>>());
}

#[test]
fn log_append_time_replaces_timestamps() {
    let records = random_records(&mut Random(8), 3);
    let mut bytes = batch_bytes(&section(&records)).to_vec();
    bytes[header::ATTRIBUTES + 1] |= header::APPEND_TIME as u8;
    bytes[header::MAX_TIMESTAMP..header::PRODUCER_ID].copy_from_slice(&99i64.to_be_bytes());
    let back = read(with_crc(bytes)).unwrap();
    assert!(back.iter().all(|(_, record)| record.timestamp == 99));
}

#[test]
fn a_compacted_batch_keeps_its_offsets_and_an_emptied_one_its_end() {
    // Records 0, 3 and 9 of ten are left.
    let kept: Vec<u8> = [0u8, 3, 9].iter().flat_map(|delta| [14, 0, 0, delta * 2, 1, 2, b'v', 0]).collect();
    let mut compacted = batch_bytes(&section(&random_records(&mut Random(9), 10)))[..HEADER_LEN].to_vec();
    compacted[header::BASE_OFFSET..header::LENGTH].copy_from_slice(&1000i64.to_be_bytes());
    compacted[header::LENGTH..header::LEADER_EPOCH].copy_from_slice(&(49 + 24i32).to_be_bytes());
    compacted[header::COUNT..].copy_from_slice(&3i32.to_be_bytes());
    let mut emptied = compacted.clone();
    compacted.extend(kept);
    let offsets: Vec<i64> = read(with_crc(compacted)).unwrap().iter().map(|(offset, _)| *offset).collect();
    assert_eq!(offsets, [1000, 1003, 1009]);
    for codec in 0..=4 {
        emptied[header::LENGTH..header::LEADER_EPOCH].copy_from_slice(&49i32.to_be_bytes());
        emptied[header::COUNT..].copy_from_slice(&0i32.to_be_bytes());
        emptied[header::ATTRIBUTES + 1] = codec;
        let batch = one(with_crc(emptied.clone()));
        assert_eq!((batch.count, batch.last_offset()), (0, 1009));
        assert_eq!(read_records(batch.records(&DecodeLimits::default()).unwrap()), Ok(vec![]));
    }
}

#[test]
fn control_batches_tell_their_type() {
    for (kind, expected) in [(0, ControlType::Abort), (1, ControlType::Commit), (5, ControlType::Other(5))] {
        let record = Owned { timestamp: 1, key: Some(vec![0, 0, 0, kind]), value: Some(vec![0; 6]), headers: vec![] };
        let section = section(&[record]);
        let mut bytes = batch_bytes(&section).to_vec();
        assert_eq!(one(bytes.clone().into()).control_type(&DecodeLimits::default()), Ok(None), "data");
        bytes[header::ATTRIBUTES + 1] |= (header::CONTROL | header::TRANSACTIONAL) as u8;
        let batch = one(with_crc(bytes));
        assert!(batch.is_control() && batch.is_transactional());
        assert_eq!(batch.control_type(&DecodeLimits::default()), Ok(Some(expected)));
    }
}

#[test]
fn a_trailing_partial_batch_ends_quietly_wherever_it_is_cut() {
    let batch = batch_bytes(&section(&random_records(&mut Random(10), 3)));
    for cut in 0..batch.len() {
        let mut batches = Batches::new([&batch[..], &batch[..cut]].concat().into());
        assert!(batches.next().unwrap().is_ok());
        assert!(batches.next().is_none(), "cut at {cut}");
        assert_eq!(batches.trailing_partial(), cut > 0);
        assert!(batches.next().is_none());
    }
}

#[test]
fn crc_wrong() {
    let batch = batch_bytes(&section(&random_records(&mut Random(11), 3))).to_vec();
    for at in header::CRC..batch.len() {
        let mut damaged = batch.clone();
        damaged[at] ^= 0x10;
        // A good batch behind it must not be given out either: the position does not advance.
        let mut batches = Batches::new([&damaged[..], &batch].concat().into());
        let error = batches.next().unwrap().unwrap_err();
        assert!(matches!(error.kind, BatchErrorKind::Crc { .. }), "byte {at}: {error}");
        assert!(batches.next().is_none());
    }
}

#[test]
fn crc_right_records_wrong() {
    let records = random_records(&mut Random(12), 5);
    let batch = batch_bytes(&section(&records)).to_vec();
    let mut random = Random(13);
    let mut errors = 0;
    for _ in 0..20_000 {
        let mut damaged = batch.clone();
        for _ in 0..1 + random.below(3) {
            let at = header::ATTRIBUTES + random.below(batch.len() - header::ATTRIBUTES);
            damaged[at] = random.next() as u8;
        }
        let mut failed = false;
        for batch in Batches::new(with_crc(damaged)).flatten() {
            let Ok(records) = batch.records(&DecodeLimits::default()) else { continue };
            let bytes = records.bytes().clone();
            for record in records {
                assert!(!failed, "something after an error");
                match record {
                    Ok(record) => {
                        record.headers(&bytes).for_each(drop);
                        assert!((batch.base_offset..=batch.last_offset()).contains(&record.offset));
                    }
                    Err(_) => failed = true,
                }
            }
        }
        errors += usize::from(failed);
    }
    assert!(errors > 1000, "{errors}");
}

#[test]
fn errors_name_batch_and_record() {
    let mut bytes = batch_bytes(&section(&random_records(&mut Random(14), 1))).to_vec();
    bytes[header::BASE_OFFSET..header::LENGTH].copy_from_slice(&500i64.to_be_bytes());
    bytes[HEADER_LEN] = 1; // a length of -1
    let error = read(with_crc(bytes)).unwrap_err();
    assert_eq!((error.base_offset, error.record), (500, Some(0)));
    assert_eq!(error.to_string(), "batch at offset 500, record 0: a negative length");
}

#[test]
fn counts_larger_than_the_bytes_are_refused() {
    let mut bytes = batch_bytes(&section(&random_records(&mut Random(15), 2))).to_vec();
    bytes[header::LAST_OFFSET_DELTA..header::BASE_TIMESTAMP].copy_from_slice(&(i32::MAX - 1).to_be_bytes());
    bytes[header::COUNT..HEADER_LEN].copy_from_slice(&i32::MAX.to_be_bytes());
    let batch = one(with_crc(bytes.clone()));
    assert!(batch.records(&DecodeLimits::default()).is_err());
    bytes[header::COUNT..HEADER_LEN].copy_from_slice(&1i32.to_be_bytes());
    let error = read(with_crc(bytes)).unwrap_err();
    assert!(error.to_string().contains("bytes left after the last record"), "{error}");
}

#[test]
fn offsets_at_the_end_of_the_range_are_refused() {
    let mut bytes = batch_bytes(&section(&random_records(&mut Random(16), 2))).to_vec();
    for offset in [i64::MAX, i64::MAX - 1, -1] {
        bytes[..8].copy_from_slice(&offset.to_be_bytes());
        assert!(Batches::new(bytes.clone().into()).next().unwrap().is_err());
    }
}

#[test]
fn old_formats_name_the_way_out() {
    for magic in [0, 1] {
        let mut bytes = batch_bytes(&section(&random_records(&mut Random(17), 1))).to_vec();
        bytes[header::MAGIC] = magic;
        let error = Batches::new(bytes.into()).next().unwrap().unwrap_err();
        assert_eq!(error.kind, BatchErrorKind::OldFormat { magic: magic as i8 });
        assert!(error.to_string().contains("log.message.format"));
    }
}

#[test]
fn decompression_bomb_in_a_batch() {
    let records = [Owned { timestamp: 0, key: None, value: Some(vec![0; 1 << 20]), headers: vec![] }];
    for codec in &CODECS[1..] {
        let batch = one(batch_bytes(&section(&records).compress(*codec, None).unwrap()));
        let error = batch.records(&DecodeLimits { batch_bytes: 1 << 20 }).unwrap_err();
        let too_large = compression::CompressionError::TooLarge { limit: 1 << 20 };
        assert_eq!(error.kind, BatchErrorKind::Compression(too_large));
    }
}

#[test]
fn a_split_keeps_every_record_as_it_is() {
    let records = random_records(&mut Random(18), 101);
    for codec in CODECS {
        let whole = section(&records).compress(codec, None).unwrap();
        let limits = DecodeLimits::default();
        let (first, second) = whole.halves(&limits).unwrap();
        assert_eq!((first.count, second.count), (50, 51));
        let mut back = read(batch_bytes(&first)).unwrap();
        back.extend(read(batch_bytes(&second)).unwrap());
        assert_eq!(back.into_iter().map(|(_, record)| record).collect::<Vec<_>>(), records);
        assert!(section(&records[..1]).halves(&limits).is_err());
    }
}

#[test]
fn a_stamp_changes_nothing_but_the_identity() {
    let sealed = SealedBatch::new(section(&random_records(&mut Random(19), 4)));
    let first = sealed.stamp(ME, 0, false);
    let again = sealed.stamp(ProducerIdentity { id: 8, epoch: 9 }, 77, true);
    for header in [first, again] {
        let batch = one([&header[..], &sealed.section().bytes].concat().into());
        assert_eq!(batch.raw, sealed.section().bytes);
    }
    let batch = one([&sealed.stamp(ProducerIdentity::NONE, -1, true)[..], &sealed.section().bytes].concat().into());
    assert!(batch.is_transactional());
    assert_eq!((batch.identity, batch.base_sequence), (ProducerIdentity::NONE, -1));
}
