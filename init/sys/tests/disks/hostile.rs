//! Partition tables and seeds that somebody changed at random: whatever stands there, they are
//! refused or hold what is promised, and nothing panics or reads beyond the end.

use std::collections::HashMap;

use kos_manifest::disk::{BOOT_PARTITION_TYPE, DATA_PARTITION_TYPE};
use kos_manifest::guid::Guid;
use kos_sys::SysError;
use kos_sys::checksum::crc32;
use kos_sys::data_partition::{Fresh, make, mark};
use kos_sys::gpt::Table;
use kos_sys::medium::Medium;
use kos_sys::seed::Seed;

use crate::disk::Disk;
use crate::random::Random;
use crate::table::{self, SECTOR};

const ROUNDS: usize = 8_000;
/// Sectors of the disk that the tables below are made for.
const SECTORS: u64 = 1 << 16;

/// A disk of any size, of which only what was written takes memory.
#[derive(Clone)]
struct Sparse {
    sectors: HashMap<u64, [u8; SECTOR]>,
    bytes: u64,
}

impl Sparse {
    fn sector(&self, number: u64) -> [u8; SECTOR] {
        self.sectors.get(&number).copied().unwrap_or([0; SECTOR])
    }
}

impl Medium for Sparse {
    fn name(&self) -> String {
        "the sparse disk".to_owned()
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), SysError> {
        let end = offset.checked_add(buffer.len() as u64).unwrap();
        assert!(
            end <= self.bytes && offset.is_multiple_of(SECTOR as u64),
            "beyond the end"
        );
        for (number, piece) in (offset / SECTOR as u64..).zip(buffer.chunks_mut(SECTOR)) {
            let length = piece.len();
            piece.copy_from_slice(&self.sector(number)[..length]);
        }
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SysError> {
        let end = offset.checked_add(bytes.len() as u64).unwrap();
        assert!(
            end <= self.bytes && offset.is_multiple_of(SECTOR as u64),
            "beyond the end"
        );
        for (number, piece) in (offset / SECTOR as u64..).zip(bytes.chunks_exact(SECTOR)) {
            self.sectors.insert(number, piece.try_into().unwrap());
        }
        Ok(())
    }

    fn zero(&mut self, _: u64, _: u64) -> Result<(), SysError> {
        panic!("a table zeroes nothing");
    }

    fn discard(&mut self, _: u64, _: u64) {
        panic!("a table discards nothing");
    }

    fn sync(&mut self) -> Result<(), SysError> {
        Ok(())
    }
}

fn sane() -> Sparse {
    let entries = [
        (BOOT_PARTITION_TYPE, 2048, 4095),
        (DATA_PARTITION_TYPE, 4096, 32_767),
        (Guid::from_random([1; 16]), 40, 90),
    ];
    let sectors = table::sectors(&entries, SECTORS)
        .into_iter()
        .map(|(number, sector)| (number, sector.try_into().unwrap()))
        .collect();
    Sparse {
        sectors,
        bytes: SECTORS * SECTOR as u64,
    }
}

/// A value that is near something: where mistakes are.
fn edge(random: &mut Random) -> u64 {
    let near = [
        0,
        1,
        2,
        33,
        34,
        128,
        2048,
        4096,
        SECTORS,
        1 << 32,
        1 << 55,
        u64::MAX,
    ];
    let near = near[random.index(near.len())];
    near.wrapping_add(random.below(5)).wrapping_sub(2)
}

/// Changes a few bytes or numbers of the table, and mostly makes the sums right again, as somebody
/// who means harm would.
fn damage(disk: &mut Sparse, random: &mut Random) {
    for _ in 0..=random.below(3) {
        let last = SECTORS - 1;
        let places = [1, 1, 2, last, last, last - 32];
        let number = places[random.index(places.len())];
        let mut sector = disk.sector(number);
        if random.coin() {
            let at = random.index(12) * 8;
            let value = edge(random).to_le_bytes();
            let length = if random.coin() { 8 } else { 4 };
            sector[at..at + length].copy_from_slice(&value[..length]);
        } else {
            sector[random.index(SECTOR)] = random.bytes::<1>()[0];
        }
        disk.sectors.insert(number, sector);
    }
    if random.below(8) == 0 {
        return;
    }
    for (header, first) in [(1, 2), (SECTORS - 1, SECTORS - 33)] {
        let entries: Vec<u8> = (first..first + 32).flat_map(|n| disk.sector(n)).collect();
        let mut sector = disk.sector(header);
        let says = u32::from_le_bytes(sector[80..84].try_into().unwrap());
        let length = usize::try_from(says).unwrap().saturating_mul(128);
        if let Some(summed) = entries.get(..length) {
            sector[88..92].copy_from_slice(&crc32(summed).to_le_bytes());
        }
        table::seal(&mut sector);
        disk.sectors.insert(header, sector);
    }
}

/// What is promised of a table, whoever wrote it.
fn check(table: &Table, sectors: u64) {
    let mut by_place: Vec<_> = table.partitions().iter().collect();
    by_place.sort_by_key(|partition| partition.first);
    let mut next = 3;
    for partition in by_place {
        assert!(partition.first >= next && partition.last >= partition.first);
        assert!(partition.last < sectors - 1);
        assert_eq!(
            partition.bytes() / 512,
            partition.last - partition.first + 1
        );
        next = partition.last + 1;
    }
}

#[test]
fn a_table_is_refused_or_holds_what_is_promised() {
    let mut random = Random(11);
    let (mut read, mut written, mut grown) = (0, 0, 0);
    for _ in 0..ROUNDS {
        let mut disk = sane();
        damage(&mut disk, &mut random);
        if random.below(4) == 0 {
            disk.bytes = edge(&mut random);
        }
        let Ok(mut table) = Table::read(&disk) else {
            continue;
        };
        read += 1;
        let sectors = disk.bytes / 512;
        check(&table, sectors);
        table.fit_to(disk.bytes);
        grown += u32::from(table.grow_last());
        table.add(
            DATA_PARTITION_TYPE,
            Guid::from_random([9; 16]),
            "kos-data",
            edge(&mut random),
        );
        check(&table, sectors);
        let before = disk.clone();
        if table.write(&mut disk).is_err() {
            continue;
        }
        written += 1;
        let again = Table::read(&disk).unwrap();
        assert_eq!(again.partitions(), table.partitions());
        assert!(!again.write(&mut disk).unwrap());
        // Nothing within a partition was written.
        for partition in table.partitions() {
            for (number, sector) in &before.sectors {
                if (partition.first..=partition.last).contains(number) {
                    assert_eq!(disk.sector(*number), *sector);
                }
            }
        }
    }
    // The damage was neither always fatal nor never.
    assert!(read > ROUNDS / 4 && read < ROUNDS, "{read}");
    assert!(written > ROUNDS / 8 && grown > 100, "{written} {grown}");
}

#[test]
fn a_seed_is_refused_or_fits_what_it_says() {
    let mut random = Random(13);
    let mut superblock = [0u8; 1024];
    superblock[0x4] = 16;
    superblock[0x38..0x3a].copy_from_slice(&[0x53, 0xef]);
    let mut whole = b"kos-seed 1 1024 16\n".to_vec();
    for number in [1u64, 3, 15] {
        whole.extend_from_slice(&number.to_le_bytes());
        whole.extend_from_slice(&superblock);
    }
    let mut parsed = 0;
    for _ in 0..ROUNDS {
        let mut seed = whole.clone();
        for _ in 0..random.below(3) {
            let places = [11, 16, 18, 19, 1024 + 27, 2048 + 35, seed.len() - 1];
            let at = places[random.index(places.len())] + random.index(8);
            let at = at.min(seed.len() - 1);
            seed[at] = if random.coin() {
                b'0' + random.bytes::<1>()[0] % 10
            } else {
                random.bytes::<1>()[0]
            };
        }
        if random.below(8) == 0 {
            seed.truncate(random.index(seed.len()));
        }
        let Ok(seed) = Seed::parse(&seed) else {
            continue;
        };
        parsed += 1;
        assert!(seed.bytes() <= 1 << 30);
        for (at, block) in seed.pieces() {
            assert!(at + block.len() as u64 <= seed.bytes());
        }
        let mut disk = Disk::new(vec![0; 16 << 10]);
        let whole = kos_sys::provision::PartitionedDisk::whole(&mut disk);
        mark(whole).unwrap();
        let fresh = Fresh {
            uuid: [1; 16],
            hash_seed: [2; 16],
        };
        // Smaller than the disk, as large as it, or larger: made or refused.
        assert_eq!(make(whole, &seed, fresh).is_ok(), seed.bytes() <= 16 << 10);
    }
    assert!(parsed > ROUNDS / 4 && parsed < ROUNDS, "{parsed}");
}
