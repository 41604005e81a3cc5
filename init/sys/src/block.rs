//! Disks: found by the serial number that the machine gives them, never by label alone, and what
//! an ext4 superblock says about itself before it is mounted.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::{SysError, Told};
use crate::kernel_file;

/// More disks than any board of kOS can hold, so that a listing ends.
const MAX_DISKS: usize = 256;

/// Where the kernel says which disk has which serial: virtio, then NVMe and MMC.
const SERIAL_FILES: [&str; 3] = ["serial", "device/serial", "device/cid"];

/// The device node of the disk with this serial number, looked for below `sys_root` (`/sys`), as a
/// path below `dev_root` (`/dev`).
///
/// # Errors
/// The disks cannot be listed, or two have the serial number: then neither is safe to use.
pub fn find_by_serial(
    sys_root: &Path,
    dev_root: &Path,
    serial: &str,
) -> Result<Option<PathBuf>, SysError> {
    let directory = sys_root.join("block");
    let listing = match std::fs::read_dir(&directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.told("list", directory.display())?,
    };
    let mut found = Vec::new();
    for entry in listing.take(MAX_DISKS) {
        let disk = entry.told("list", directory.display())?;
        let matches = SERIAL_FILES.iter().any(|file| {
            kernel_file::read(&disk.path().join(file)).is_ok_and(|text| text.trim() == serial)
        });
        if matches {
            found.push(dev_root.join(disk.file_name()));
        }
    }
    match found.len() {
        0 | 1 => Ok(found.pop()),
        count => Err(SysError::refused(
            "choose the disk with serial number",
            serial,
            format!("{count} disks have it"),
        )),
    }
}

/// Where the superblock starts, and how long it is.
const SUPERBLOCK_OFFSET: u64 = 1024;
const SUPERBLOCK_BYTES: usize = 1024;

/// `EXT4_SUPER_MAGIC`.
const MAGIC: u16 = 0xef53;

/// `EXT4_FEATURE_INCOMPAT_RECOVER`: the journal has to be replayed.
const NEEDS_RECOVERY: u32 = 0x4;

/// `EXT4_FEATURE_INCOMPAT_64BIT`: the upper half of the block count is valid.
const BLOCKS_64_BIT: u32 = 0x80;

/// What an ext2, 3 or 4 superblock says. Mounting replays the journal by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// The file system's own identity.
    pub uuid: [u8; 16],
    /// Its label.
    pub label: String,
    /// Whether it was unmounted cleanly (or is only marked so until it is mounted).
    pub clean: bool,
    /// Whether the kernel found errors in it earlier.
    pub has_errors: bool,
    /// How many errors it counted.
    pub error_count: u32,
    /// Whether mounting will replay the journal.
    pub needs_recovery: bool,
    /// Bytes in a block.
    pub block_bytes: u64,
    /// Number of blocks.
    pub blocks: u64,
}

impl Superblock {
    /// Size of the file system in bytes.
    pub fn bytes(&self) -> u64 {
        self.blocks.saturating_mul(self.block_bytes)
    }

    /// Reads the superblock of a device or an image; `None` when there is no such file system.
    ///
    /// # Errors
    /// The device cannot be opened or read, or is shorter than a superblock.
    pub fn read(device: &Path) -> Result<Option<Self>, SysError> {
        let file = File::open(device).told("open", device.display())?;
        let mut bytes = [0u8; SUPERBLOCK_BYTES];
        file.read_exact_at(&mut bytes, SUPERBLOCK_OFFSET)
            .told("read the superblock of", device.display())?;
        Ok(Self::parse(&bytes))
    }

    /// Understands a superblock; `None` when it is none.
    pub fn parse(bytes: &[u8; SUPERBLOCK_BYTES]) -> Option<Self> {
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let word = |at: usize| u32::from(half(at)) | u32::from(half(at + 2)) << 16;
        // Blocks are 1 KiB shifted by this; the kernel refuses more than 64 KiB.
        let shift = word(0x18);
        if half(0x38) != MAGIC || shift > 6 {
            return None;
        }
        let state = half(0x3a);
        let incompatible = word(0x60);
        let upper = if incompatible & BLOCKS_64_BIT != 0 {
            word(0x150)
        } else {
            0
        };
        let mut uuid = [0u8; 16];
        uuid.copy_from_slice(&bytes[0x68..0x78]);
        let label = bytes[0x78..0x88]
            .split(|byte| *byte == 0)
            .next()
            .unwrap_or_default();
        Some(Superblock {
            uuid,
            label: String::from_utf8_lossy(label).into_owned(),
            clean: state & 1 != 0,
            has_errors: state & 2 != 0,
            error_count: word(0x194),
            needs_recovery: incompatible & NEEDS_RECOVERY != 0,
            block_bytes: 1024 << shift,
            blocks: u64::from(word(0x4)) | u64::from(upper) << 32,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_found_by_its_serial_and_twins_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let (sys, dev) = (root.path(), Path::new("/dev"));
        assert_eq!(find_by_serial(sys, dev, "kos-data").unwrap(), None);
        for (disk, file, serial) in [
            ("vda", "serial", "other"),
            ("vdb", "serial", "kos-data"),
            ("nvme0n1", "device/serial", "n1 "),
        ] {
            let path = sys.join("block").join(disk).join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("{serial}\n")).unwrap();
        }
        let found = |serial| find_by_serial(sys, dev, serial);
        assert_eq!(found("kos-data").unwrap(), Some(PathBuf::from("/dev/vdb")));
        assert_eq!(found("n1").unwrap(), Some(PathBuf::from("/dev/nvme0n1")));
        std::fs::write(sys.join("block/vda/serial"), "kos-data").unwrap();
        assert!(found("kos-data").unwrap_err().full().contains("2 disks"));
    }

    #[test]
    fn a_superblock_is_understood() {
        let mut bytes = [0u8; SUPERBLOCK_BYTES];
        assert_eq!(Superblock::parse(&bytes), None);
        bytes[0x4] = 0x10;
        bytes[0x18] = 2;
        bytes[0x38..0x3a].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[0x3a] = 1;
        bytes[0x60] = (NEEDS_RECOVERY | BLOCKS_64_BIT) as u8;
        bytes[0x78..0x80].copy_from_slice(b"kos-data");
        bytes[0x150] = 1;
        let superblock = Superblock::parse(&bytes).unwrap();
        assert!(superblock.clean && superblock.needs_recovery && !superblock.has_errors);
        assert_eq!(superblock.label, "kos-data");
        assert_eq!(
            (superblock.blocks, superblock.block_bytes),
            ((1 << 32) + 16, 4096)
        );
        bytes[0x18] = 200;
        assert_eq!(Superblock::parse(&bytes), None);
    }

    /// Against what `mke2fs` itself makes, where it is installed.
    #[test]
    fn a_real_file_system_is_understood() {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("image");
        File::create(&image).unwrap().set_len(8 << 20).unwrap();
        let arguments = ["-q", "-t", "ext4", "-b", "4096", "-L", "kos-data", "-F"];
        let made = std::process::Command::new("mke2fs")
            .args(arguments)
            .arg(&image)
            .status();
        if !made.is_ok_and(|status| status.success()) {
            eprintln!("skipped: mke2fs is not installed");
            return;
        }
        let superblock = Superblock::read(&image).unwrap().unwrap();
        assert_eq!(
            (superblock.label.as_str(), superblock.clean),
            ("kos-data", true)
        );
        assert_eq!(superblock.bytes(), 8 << 20);
        assert!(!superblock.has_errors && !superblock.needs_recovery);
    }
}
