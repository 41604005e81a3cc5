//! A disk as it is found: partition table, superblock and seed of a file system. A disk that was
//! damaged or made to hurt is refused, and never written beyond its end.

#![no_main]

use kos_sys::SysError;
use kos_sys::ext4::{SUPERBLOCK_BYTES, Superblock};
use kos_sys::gpt::Table;
use kos_sys::medium::Medium;
use kos_sys::seed::Seed;
use libfuzzer_sys::fuzz_target;

/// A disk in memory, the fuzzer's bytes at its start and at its end.
struct Disk(Vec<u8>);

const BYTES: usize = 96 * 512;

fuzz_target!(|data: &[u8]| {
    let mut bytes = vec![0; BYTES];
    let length = data.len().min(BYTES);
    bytes[..length].copy_from_slice(&data[..length]);
    // The second copy of a table stands at the end of the disk.
    let tail = length.min(34 * 512);
    bytes[BYTES - tail..].copy_from_slice(&data[length - tail..length]);
    mend_checksums(&mut bytes, 512);
    mend_checksums(&mut bytes, BYTES - 512);
    let mut disk = Disk(bytes);
    if let Ok(mut table) = Table::read(&disk) {
        table.fit_to(BYTES as u64);
        table.grow_last();
        let _ = table.write(&mut disk);
        let _ = Table::read(&disk);
    }
    if let Some(start) = data.first_chunk::<SUPERBLOCK_BYTES>()
        && let Some(superblock) = Superblock::parse(start)
    {
        let _ = superblock.bytes();
    }
    if let Ok(seed) = Seed::parse(data) {
        for (at, piece) in seed.pieces() {
            assert!(at + piece.len() as u64 <= seed.bytes());
        }
        let _ = seed.superblock();
    }
});

/// No fuzzer guesses a CRC-32: headers that look like one get the checksums that fit.
fn mend_checksums(bytes: &mut [u8], header: usize) {
    if bytes[header..].first_chunk() != Some(b"EFI PART") {
        return;
    }
    let number = |bytes: &[u8], at: usize, size: usize| {
        let mut value = [0; 8];
        value[..size].copy_from_slice(&bytes[header + at..header + at + size]);
        usize::try_from(u64::from_le_bytes(value)).unwrap_or(usize::MAX)
    };
    let from = number(bytes, 72, 8).saturating_mul(512);
    let length = number(bytes, 80, 4).saturating_mul(number(bytes, 84, 4));
    let entries = from
        .checked_add(length)
        .and_then(|to| bytes.get(from..to))
        .map_or(0, crc32);
    bytes[header + 88..header + 92].copy_from_slice(&entries.to_le_bytes());
    bytes[header + 16..header + 20].fill(0);
    let size = number(bytes, 12, 4).min(512);
    let sum = crc32(&bytes[header..header + size]);
    bytes[header + 16..header + 20].copy_from_slice(&sum.to_le_bytes());
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
        })
    })
}

impl Disk {
    fn range(&self, offset: u64, bytes: u64) -> Result<std::ops::Range<usize>, SysError> {
        let end = offset.checked_add(bytes).filter(|end| *end <= BYTES as u64);
        let end = end.ok_or_else(|| SysError::refused("reach", offset, "the disk ends before"))?;
        Ok(offset as usize..end as usize)
    }
}

impl Medium for Disk {
    fn name(&self) -> String {
        "memory".to_owned()
    }

    fn bytes(&self) -> u64 {
        BYTES as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), SysError> {
        let range = self.range(offset, buffer.len() as u64)?;
        buffer.copy_from_slice(&self.0[range]);
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SysError> {
        let range = self.range(offset, bytes.len() as u64);
        self.0[range.expect("a write beyond the disk's end")].copy_from_slice(bytes);
        Ok(())
    }

    fn zero(&mut self, offset: u64, bytes: u64) -> Result<(), SysError> {
        let range = self.range(offset, bytes);
        self.0[range.expect("zeros beyond the disk's end")].fill(0);
        Ok(())
    }

    fn discard(&mut self, _offset: u64, _bytes: u64) {}

    fn sync(&mut self) -> Result<(), SysError> {
        Ok(())
    }
}
