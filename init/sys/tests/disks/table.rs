//! A partition table written by the book (UEFI 2.10, chapter 5.3), independently of the code that
//! is tested; `sgdisk` agrees with it, where it is installed.

use kos_manifest::guid::Guid;
use kos_sys::checksum::crc32;

pub const SECTOR: usize = 512;
const ENTRIES: usize = 128;

/// One partition: type, first and last sector.
pub type Entry = (Guid, u64, u64);

/// The sectors of a table on a disk of so many sectors: number and content.
pub fn sectors(entries: &[Entry], disk_sectors: u64) -> Vec<(u64, Vec<u8>)> {
    let mut array = vec![0; ENTRIES * 128];
    for (index, (kind, first, last)) in entries.iter().enumerate() {
        let entry = &mut array[index * 128..][..128];
        entry[..16].copy_from_slice(&kind.to_disk());
        entry[16..32].fill(u8::try_from(index + 1).unwrap());
        entry[32..40].copy_from_slice(&first.to_le_bytes());
        entry[40..48].copy_from_slice(&last.to_le_bytes());
    }
    let last = disk_sectors - 1;
    let mut mbr = vec![0; SECTOR];
    mbr[447..459].copy_from_slice(&[0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0xff]);
    let size = u32::try_from(last).unwrap_or(u32::MAX);
    mbr[458..462].copy_from_slice(&size.to_le_bytes());
    mbr[510..].copy_from_slice(&[0x55, 0xaa]);
    let header = |at: u64, other: u64, array_at: u64| {
        let mut header = vec![0; SECTOR];
        header[..16].copy_from_slice(b"EFI PART\0\0\x01\0\x5c\0\0\0");
        let numbers = [at, other, 34, last - 33];
        for (number, field) in numbers.iter().zip(header[24..56].chunks_exact_mut(8)) {
            field.copy_from_slice(&number.to_le_bytes());
        }
        header[56..72].fill(0x42);
        header[72..80].copy_from_slice(&array_at.to_le_bytes());
        header[80] = 128;
        header[84] = 128;
        header[88..92].copy_from_slice(&crc32(&array).to_le_bytes());
        seal(&mut header);
        header
    };
    let mut all = vec![
        (0, mbr),
        (1, header(1, last, 2)),
        (last, header(last, 1, last - 32)),
    ];
    for (number, sector) in (0..).zip(array.chunks_exact(SECTOR)) {
        all.push((2 + number, sector.to_vec()));
        all.push((last - 32 + number, sector.to_vec()));
    }
    all
}

/// Makes a header's own checksum right.
pub fn seal(header: &mut [u8]) {
    header[16..20].fill(0);
    let sum = crc32(&header[..92]);
    header[16..20].copy_from_slice(&sum.to_le_bytes());
}
