//! What stands on a kOS disk, for everyone who writes one or reads one: the image build, `flash`,
//! and PID 1.

use crate::guid::Guid;

/// Bytes in a sector of the partition table. Disks of 4096-byte sectors are not supported.
pub const SECTOR_BYTES: u64 = 512;

/// Partitions begin and end at multiples of this.
pub const ALIGNMENT_BYTES: u64 = 1 << 20;

/// Type of the first partition: EFI system partition. It holds what the firmware reads, and the
/// owner's settings.
pub const BOOT_PARTITION_TYPE: Guid = Guid::from_number(0xC12A7328_F81F_11D2_BA4B_00A0C93EC93B);

/// Type of the data partition. It is kOS's own, so that no other system mounts it by itself.
pub const DATA_PARTITION_TYPE: Guid = Guid::from_number(0x6B4F5344_6174_6100_8000_6B6F73646174);

/// Name of the data partition. Nothing is ever found by it.
pub const DATA_PARTITION_NAME: &str = "kos-data";

/// The smallest data partition, and the size that it has in an image.
pub const MIN_DATA_BYTES: u64 = 64 << 20;

/// The first bytes of a data partition whose file system is still to be made; the rest of its
/// first sector is zero.
pub const MAKE_MARKER: [u8; 16] = *b"kos-data: make\n\0";

/// Where in the image the blocks of an empty data file system are.
pub const DATA_SEED: &str = "/etc/kos/data.seed";

/// The first word of a seed's first line; then the version, the bytes of a block, and the number
/// of blocks.
pub const SEED_MAGIC: &str = "kos-seed";

/// The version of the seed's form that this source writes and reads.
pub const SEED_VERSION: u32 = 1;

/// The owner's settings on the first partition.
pub const SETTINGS_FILE: &str = "kos-box.toml";

/// A file of this name on the first partition asks for a factory reset, once.
pub const RESET_FILE: &str = "kos-reset";

/// What a profile on the first partition may be called; at most one of them is there.
pub const PROFILE_FILES: [&str; 4] = ["kos.yaml", "kos.json", "kos.toml", "kos.ini"];

/// The marker's whole sector.
pub const fn marker_sector() -> [u8; 512] {
    let mut sector = [0; 512];
    let mut index = 0;
    while index < MAKE_MARKER.len() {
        sector[index] = MAKE_MARKER[index];
        index += 1;
    }
    sector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_types_are_those_of_the_documents() {
        assert_eq!(
            DATA_PARTITION_TYPE.to_string(),
            "6b4f5344-6174-6100-8000-6b6f73646174"
        );
        assert_eq!(
            BOOT_PARTITION_TYPE.to_string(),
            "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
        );
        assert_eq!(&marker_sector()[..16], b"kos-data: make\n\0");
        assert_eq!(marker_sector()[16..], [0; 496]);
    }
}
