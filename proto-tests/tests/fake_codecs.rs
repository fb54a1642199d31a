//! The ledger decodes what producers compress, and the fake cluster carries many records quickly.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may panic and look at the clock")]

use bytes::{Bytes, BytesMut};
use proto_tests::fake::{FakeCluster, decode_batch};
use proto_tests::raw::{BatchSpec, RawClient, produce_request};
use std::io::Write;
use std::time::{Duration, Instant};

/// Length of a batch's header.
const HEADER: usize = 61;

/// Compresses the records of a batch and puts length, codec and CRC right.
fn compressed(codec: u8, compress: impl Fn(&[u8]) -> Vec<u8>) -> Bytes {
    let values = ["first value, first value, first value", "second"];
    let plain = BatchSpec::new(-1, -1, -1, &values).build();
    let mut out = BytesMut::from(&plain[..HEADER]);
    out.extend_from_slice(&compress(&plain[HEADER..]));
    let len = u32::try_from(out.len() - 12).unwrap();
    out[8..12].copy_from_slice(&len.to_be_bytes());
    out[22] = codec;
    let crc = crc32c::crc32c(&out[21..]);
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    out.freeze()
}

fn xerial(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
    for block in bytes.chunks(32) {
        let packed = snap::raw::Encoder::new().compress_vec(block).unwrap();
        out.extend_from_slice(&u32::try_from(packed.len()).unwrap().to_be_bytes());
        out.extend_from_slice(&packed);
    }
    out
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn lz4(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn ledger_decodes_every_codec() {
    let cluster = FakeCluster::start(1);
    cluster.create_topic("t", 1);
    let mut client = RawClient::connect(cluster.address(1)).unwrap();
    let bare = |bytes: &[u8]| snap::raw::Encoder::new().compress_vec(bytes).unwrap();
    let batches = [
        compressed(1, gzip),
        compressed(2, xerial),
        compressed(2, bare),
        compressed(3, lz4),
        compressed(4, |bytes| zrip::compress(bytes, 1).unwrap()),
    ];
    for bytes in &batches {
        assert_eq!(client.produce_batch("t", 0, bytes, -1).unwrap().0, 0);
    }
    let ledger = cluster.ledger();
    assert_eq!(ledger.damage(), Vec::<String>::new());
    let values = ledger.values("t");
    assert_eq!((values.len(), values[8].len(), values[9].as_str()), (10, 37, "second"));
    assert_eq!(ledger.records("t", 0).iter().map(|record| record.offset).collect::<Vec<_>>(), Vec::from_iter(0..10));
}

/// A batch whose CRC is right and whose records are not: the ledger says so and does not fall over.
#[test]
fn damage_is_named() {
    let cluster = FakeCluster::start(1);
    cluster.create_topic("t", 1);
    let mut client = RawClient::connect(cluster.address(1)).unwrap();
    let wrong = compressed(0, |_| vec![0xff; 40]);
    assert_eq!(client.produce_batch("t", 0, &wrong, -1).unwrap().0, 0);
    assert_eq!(cluster.ledger().damage().len(), 1);
    assert!(cluster.ledger().values("t").is_empty());
    for cut in 0..wrong.len() {
        assert!(decode_batch(&wrong.slice(..cut)).is_err());
    }
}

/// 300,000 records in batches of 100, pipelined over one connection. The bound is loose: it catches what is quadratic.
#[test]
fn carries_many_records() {
    const BATCHES: usize = 3000;
    let cluster = FakeCluster::start(1);
    cluster.create_topic("t", 1);
    let values = vec!["0123456789012345678901234567890123456789"; 100];
    let bytes = BatchSpec::new(-1, -1, -1, &values).build();
    let mut client = RawClient::connect(cluster.address(1)).unwrap();
    let request = produce_request("t", 0, &bytes, -1, Duration::from_secs(5));
    let started = Instant::now();
    for _ in 0..BATCHES {
        let response = client.call(9, &request).unwrap();
        assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    }
    let took = started.elapsed();
    assert_eq!(cluster.look(|view| view.record_count("t")), 300_000);
    println!("300,000 records in {took:?}");
    assert!(took < Duration::from_secs(20), "{took:?}");
    let mut offset = 0;
    while offset < 300_000 {
        let (error, records) = client.fetch("t", 0, offset).unwrap();
        assert_eq!(error, 0);
        offset = records.last().unwrap().offset + 1;
    }
    println!("read after {:?}", started.elapsed());
}
