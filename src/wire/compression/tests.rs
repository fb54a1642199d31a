use super::*;
use crate::wire::test_random::Random;

const CODECS: [Compression; 4] = [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

fn sample(len: usize, random: &mut Random) -> Vec<u8> {
    (0..len).map(|i| if i % 3 == 0 { random.next() as u8 } else { (i / 50) as u8 }).collect()
}

#[test]
fn bytes_come_back() {
    let mut random = Random(3);
    for codec in CODECS {
        for len in [0, 1, 100, 32 * 1024, 64 * 1024 + 1, 300_000] {
            let input = sample(len, &mut random);
            for level in [None, Some(1), Some(9), Some(-100), Some(100)] {
                let packed = compress(codec, level, &input).unwrap();
                assert_eq!(decompress(codec, &packed, len), Ok(input.clone()), "{codec} {len}");
            }
        }
    }
}

#[test]
fn decompression_bomb() {
    let zeros = vec![0; 10 << 20];
    for codec in CODECS {
        let packed = compress(codec, None, &zeros).unwrap();
        assert!(packed.len() < 1 << 20, "{codec}");
        let limit = zeros.len() - 1;
        assert_eq!(decompress(codec, &packed, limit), Err(CompressionError::TooLarge { limit }), "{codec}");
    }
    assert!(decompress(Compression::None, &zeros, 100).is_err());
}

#[test]
fn announced_sizes_are_not_believed() {
    // Four bytes that announce 2 GiB of plain snappy.
    assert!(decompress(Compression::Snappy, &[0xff, 0xff, 0xff, 0xff, 0x07], 64 << 20).is_err());
    // A zstd frame that announces 32 MiB and has nothing.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 2, 1, 0, 0];
    assert!(decompress(Compression::Zstd, &frame, 64 << 20).is_err());
}

#[test]
fn what_other_clients_write_is_read() {
    let input = b"hello hello hello hello".to_vec();
    let plain = snap::raw::Encoder::new().compress_vec(&input).unwrap();
    assert_eq!(decompress(Compression::Snappy, &plain, 100), Ok(input.clone()), "snappy without framing");
    let twice = [&input[..], &input].concat();
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Zstd] {
        let packed = compress(codec, None, &input).unwrap();
        assert_eq!(decompress(codec, &[&packed[..], &packed].concat(), 100), Ok(twice.clone()), "{codec} twice");
    }
    // Java reads one lz4 frame and no more.
    let packed = compress(Compression::Lz4, None, &input).unwrap();
    assert_eq!(decompress(Compression::Lz4, &[&packed[..], &packed].concat(), 100), Ok(input));
}

#[test]
fn lz4_is_written_as_java_reads_it() {
    let packed = compress(Compression::Lz4, None, &[7; 100_000]).unwrap();
    assert_eq!(packed[..4], [0x04, 0x22, 0x4d, 0x18]);
    assert_eq!(packed[4] & 0b1110_0000, 0b0110_0000, "version 1, independent blocks");
    assert_eq!(packed[5] >> 4, 4, "blocks of 64 KiB");
}

#[test]
fn damaged_bytes_are_errors() {
    let mut random = Random(4);
    let input = sample(5000, &mut random);
    for codec in CODECS {
        let packed = compress(codec, None, &input).unwrap();
        for _ in 0..300 {
            let mut damaged = packed.clone();
            let at = random.below(damaged.len());
            damaged[at] ^= 1 << random.below(8);
            damaged.truncate(packed.len() - random.below(3));
            // It may still decompress, to something else; it must not panic nor exceed its limit.
            if let Ok(output) = decompress(codec, &damaged, 10_000) {
                assert!(output.len() <= 10_000);
            }
        }
        assert!(decompress(codec, &random.bytes(100), 10_000).is_err(), "{codec}");
    }
}
