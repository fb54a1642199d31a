//! Batches and their records, with the checksum made right so that what lies behind it is reached too.
#![no_main]

#[path = "../budget.rs"]
mod budget;

use bytes::Bytes;
use indelible::wire::batch::{Batches, DecodeLimits, HEADER_LEN};
use libfuzzer_sys::fuzz_target;

#[global_allocator]
static ALLOCATOR: budget::Counting = budget::Counting;

const LIMIT: usize = 1 << 20;

fn read(bytes: Bytes) {
    let limits = DecodeLimits { batch_bytes: LIMIT };
    let mut failed = false;
    for batch in Batches::new(bytes) {
        assert!(!failed, "a batch after an error");
        let Ok(batch) = batch else {
            failed = true;
            continue;
        };
        let _ = batch.control_type(&limits);
        let Ok(records) = batch.records(&limits) else { continue };
        let bytes = records.bytes().clone();
        assert!(bytes.len() <= LIMIT.max(batch.raw.len()));
        let mut failed = false;
        for record in records {
            assert!(!failed, "a record after an error");
            let Ok(record) = record else {
                failed = true;
                continue;
            };
            assert!((batch.base_offset..=batch.last_offset()).contains(&record.offset));
            let (_, _) = (record.key(&bytes), record.value(&bytes));
            assert_eq!(record.headers(&bytes).count(), record.header_count as usize);
        }
    }
}

fuzz_target!(|data: &[u8]| {
    // Each batch may decompress to its limit, twice, in growing buffers, besides what the codecs need themselves.
    let batches = data.len() / HEADER_LEN + 1;
    let extra = batches * (8 * LIMIT + (16 << 20));
    budget::within_budget(data.len(), extra, || read(Bytes::copy_from_slice(data)));
    if data.len() >= HEADER_LEN {
        let mut right = data.to_vec();
        let length = (right.len() - 12) as u32;
        right[8..12].copy_from_slice(&length.to_be_bytes());
        right[16] = 2;
        let crc = crc_32c(&right[21..]);
        right[17..21].copy_from_slice(&crc.to_be_bytes());
        budget::within_budget(data.len(), extra, || read(right.into()));
    }
});

/// CRC-32C, slowly.
fn crc_32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
    !bytes.iter().fold(!0u32, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}
