//! Seeds that are wrong in one thing each.

use super::*;

/// The smallest that is right: a superblock and one more block.
fn good() -> Vec<u8> {
    let mut superblock = [0; 4096];
    superblock[1024 + 0x4..][..4].copy_from_slice(&16u32.to_le_bytes());
    superblock[1024 + 0x18] = 2;
    superblock[1024 + 0x38..][..2].copy_from_slice(&[0x53, 0xef]);
    let mut seed = b"kos-seed 1 4096 16\n".to_vec();
    seed.extend_from_slice(&record(0, &superblock));
    seed.extend_from_slice(&record(15, &[7; 4096]));
    seed
}

fn record(number: u64, block: &[u8]) -> Vec<u8> {
    [&number.to_le_bytes(), block].concat()
}

fn refused(seed: &[u8]) -> SeedError {
    Seed::parse(seed).unwrap_err()
}

#[test]
fn a_seed_is_its_blocks_and_where_they_go() {
    let bytes = good();
    let seed = Seed::parse(&bytes).unwrap();
    assert_eq!(seed.bytes(), 16 * 4096);
    let places: Vec<u64> = seed.pieces().map(|(at, _)| at).collect();
    assert_eq!(places, [0, 15 * 4096]);
    assert_eq!(seed.superblock().unwrap()[0x38], 0x53);
}

#[test]
fn what_is_wrong_is_told() {
    let with_line = |line: &[u8]| {
        let rest = good().split_off(19);
        [line, &rest].concat()
    };
    for line in [
        &b""[..],
        b"kos-seed 2 4096 16\n",
        b"kos-seed 1 4096\n",
        b"kos-seed 1 4096 16 \n",
        b"kos-seed 1 +4096 16\n",
        b"kos-seed 1 4096 99999999999999999999\n",
        b"kos-seed 1 4096 \xff\n",
        &[b'k'; 100],
    ] {
        assert_eq!(refused(&with_line(line)), SeedError::FirstLine);
    }
    let line = with_line(b"kos-seed 1 512 16\n");
    assert_eq!(refused(&line), SeedError::BlockBytes(512));
    let line = with_line(b"kos-seed 1 4096 262145\n");
    assert_eq!(refused(&line), SeedError::Blocks(262_145));
    let line = with_line(b"kos-seed 1 4096 15\n");
    assert_eq!(refused(&line), SeedError::Order(15));
    let line = with_line(b"kos-seed 1 4096 17\n");
    assert_eq!(refused(&line), SeedError::Superblock);
    assert_eq!(refused(&good()[..5000]), SeedError::Length);
    let twice = [good(), record(15, &[1; 4096])].concat();
    assert_eq!(refused(&twice), SeedError::Order(15));
    let mut damaged = good();
    damaged[19 + 8 + 1024 + 0x38] = 0;
    assert_eq!(refused(&damaged), SeedError::Superblock);
    assert_eq!(refused(b"kos-seed 1 4096 16\n"), SeedError::Superblock);
}
