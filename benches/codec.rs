//! What encoding, decoding and compressing records costs. Targets: 20 ns to encode a record of 100 bytes, 10 ns to
//! decode it.
#![allow(missing_docs, reason = "criterion's macros make a public function")]

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use indelible::types::{Compression, ProducerIdentity};
use indelible::wire::batch::{Batches, DecodeLimits, RecordsBuilder, SealedBatch};
use indelible::wire::compression;

const RECORDS: usize = 1000;

fn build(buf: BytesMut, value: &[u8]) -> RecordsBuilder {
    let mut builder = RecordsBuilder::new(buf);
    for i in 0..RECORDS {
        let _ = builder.push(1_700_000_000_000 + i as i64, None, black_box(Some(value)), &[]);
    }
    builder
}

fn codec(c: &mut Criterion) {
    let value = [b'v'; 100];
    let mut group = c.benchmark_group("1000 records of 100 B");
    group.throughput(Throughput::Elements(RECORDS as u64));

    let mut buf = BytesMut::with_capacity(256 * 1024);
    group.bench_function("encode", |b| {
        b.iter(|| {
            let builder = build(std::mem::take(&mut buf), &value);
            // The memory goes round, as it does in the accumulator.
            buf = builder.finish().bytes.try_into_mut().unwrap_or_default();
        })
    });

    let sealed = SealedBatch::new(build(BytesMut::new(), &value).finish());
    let identity = ProducerIdentity { id: 7, epoch: 0 };
    let batch = Bytes::from([&sealed.stamp(identity, 0, false)[..], &sealed.section().bytes].concat());
    let limits = DecodeLimits::default();
    group.bench_function("decode", |b| {
        b.iter(|| {
            for batch in Batches::new(batch.clone()).flatten() {
                let mut sum = 0;
                if let Ok(records) = batch.records(&limits) {
                    let bytes = records.bytes().clone();
                    for record in records.flatten() {
                        sum += record.value(&bytes).map_or(0, <[u8]>::len) + record.offset as usize;
                    }
                }
                black_box(sum);
            }
        })
    });
    group.finish();

    c.bench_function("stamp a header", |b| b.iter(|| black_box(&sealed).stamp(identity, 5, false)));

    let lines: String = (0..2000)
        .map(|i| {
            format!(
                "{{\"order\":{i},\"customer\":\"c-{}\",\"amount\":{}.50,\"state\":\"paid\"}}\n",
                i % 97,
                i * 7 % 1000
            )
        })
        .collect();
    let mut group = c.benchmark_group("64 KiB");
    let block = &lines.as_bytes()[..64 * 1024];
    group.throughput(Throughput::Bytes(block.len() as u64));
    group.bench_function("crc", |b| b.iter(|| crc32c::crc32c(black_box(block))));
    for codec in [Compression::Lz4, Compression::Snappy, Compression::Zstd, Compression::Gzip] {
        group.bench_function(format!("{codec} compress"), |b| b.iter(|| compression::compress(codec, None, block)));
        if let Ok(packed) = compression::compress(codec, None, block) {
            group.bench_function(format!("{codec} decompress"), |b| {
                b.iter(|| compression::decompress(codec, &packed, 1 << 20))
            });
        }
    }
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);
