//! What an ext4 file system says about itself before it is mounted, and how it grows after.

use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use crate::checksum::crc32c;
use crate::error::{SysError, Told};
use crate::kernel_file;
use crate::medium::Medium;

/// Where the superblock starts.
pub const SUPERBLOCK_OFFSET: u64 = 1024;
/// How long it is.
pub const SUPERBLOCK_BYTES: usize = 1024;

/// `EXT4_SUPER_MAGIC`.
const MAGIC: u16 = 0xef53;

/// `EXT4_FEATURE_INCOMPAT_RECOVER`: the journal has to be replayed.
const NEEDS_RECOVERY: u32 = 0x4;

/// `EXT4_FEATURE_INCOMPAT_64BIT`: the upper half of the block count is valid.
const BLOCKS_64_BIT: u32 = 0x80;

/// `EXT4_FEATURE_RO_COMPAT_METADATA_CSUM`: the superblock has a checksum.
const METADATA_CHECKSUMS: u32 = 0x400;

/// `EXT4_FEATURE_RO_COMPAT_QUOTA | EXT4_FEATURE_RO_COMPAT_PROJECT`: usage is counted by project.
const PROJECT_QUOTAS: u32 = 0x100 | 0x2000;

/// `EXT4_IOC_RESIZE_FS`: `_IOW('f', 16, __u64)`.
const RESIZE: u32 = 0x4008_6610;

/// Places in the superblock.
const UUID: usize = 0x68;
const READ_ONLY_FEATURES: usize = 0x64;
const HASH_SEED: usize = 0xec;
const CHECKSUM: usize = 0x3fc;

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
    /// Whether it can limit what a directory holds: mounting it with `prjquota` succeeds.
    pub project_quotas: bool,
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
    /// The device cannot be read, or is shorter than a superblock.
    pub fn read(device: &(impl Medium + ?Sized)) -> Result<Option<Self>, SysError> {
        let mut bytes = [0u8; SUPERBLOCK_BYTES];
        device.read_at(SUPERBLOCK_OFFSET, &mut bytes)?;
        Ok(Self::parse(&bytes))
    }

    /// Understands a superblock; `None` when it is none.
    pub fn parse(bytes: &[u8; SUPERBLOCK_BYTES]) -> Option<Self> {
        // Blocks are 1 KiB shifted by this; the kernel refuses more than 64 KiB.
        let shift = word(bytes, 0x18);
        if half(bytes, 0x38) != MAGIC || shift > 6 {
            return None;
        }
        let state = half(bytes, 0x3a);
        let incompatible = word(bytes, 0x60);
        let upper = if incompatible & BLOCKS_64_BIT != 0 {
            word(bytes, 0x150)
        } else {
            0
        };
        let mut uuid = [0u8; 16];
        uuid.copy_from_slice(&bytes[UUID..UUID + 16]);
        let label = bytes[0x78..0x88]
            .split(|byte| *byte == 0)
            .next()
            .unwrap_or_default();
        Some(Superblock {
            uuid,
            label: String::from_utf8_lossy(label).into_owned(),
            clean: state & 1 != 0,
            has_errors: state & 2 != 0,
            error_count: word(bytes, 0x194),
            needs_recovery: incompatible & NEEDS_RECOVERY != 0,
            project_quotas: word(bytes, READ_ONLY_FEATURES) & PROJECT_QUOTAS == PROJECT_QUOTAS,
            block_bytes: 1024 << shift,
            blocks: u64::from(word(bytes, 0x4)) | u64::from(upper) << 32,
        })
    }
}

/// Gives a superblock an identity of its own, and its directories a hash that nobody can foresee.
/// The sums of all other blocks stay right, as `metadata_csum_seed` keeps what they began with.
pub fn personalise(superblock: &mut [u8; SUPERBLOCK_BYTES], uuid: [u8; 16], hash_seed: [u8; 16]) {
    superblock[UUID..UUID + 16].copy_from_slice(&uuid);
    superblock[HASH_SEED..HASH_SEED + 16].copy_from_slice(&hash_seed);
    if word(superblock, READ_ONLY_FEATURES) & METADATA_CHECKSUMS != 0 {
        let sum = crc32c(u32::MAX, &superblock[..CHECKSUM]);
        superblock[CHECKSUM..].copy_from_slice(&sum.to_le_bytes());
    }
}

/// Makes a mounted file system `blocks` blocks large. `inside` is any directory in it. Each group
/// of blocks is added by a transaction of its own: when the power fails on the way, the file system
/// has a size in between.
///
/// # Errors
/// The device is smaller, the file system cannot grow that far, or is read-only.
pub fn grow(inside: BorrowedFd<'_>, blocks: u64) -> Result<(), SysError> {
    // SAFETY: the request reads one 64-bit number of ours, which outlives the call.
    let result = unsafe { libc::ioctl(inside.as_raw_fd(), RESIZE.into(), &raw const blocks) };
    if result < 0 {
        let error = std::io::Error::last_os_error();
        return Err(error).told("grow", format!("the file system to {blocks} blocks"));
    }
    Ok(())
}

/// How many errors the kernel has met in the mounted file system of a device, since it was made.
///
/// # Errors
/// No ext4 file system of this device is mounted.
pub fn errors(sys_root: &Path, device: &str) -> Result<u64, SysError> {
    kernel_file::read_number(&sys_root.join("fs/ext4").join(device).join("errors_count"))
}

/// Room in a mounted file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Room {
    /// Bytes in all.
    pub bytes: u64,
    /// Bytes that anybody but root can still write.
    pub free: u64,
    /// Whether it takes no writes.
    pub read_only: bool,
}

impl Room {
    /// Asks the file system that is mounted at `path`.
    ///
    /// # Errors
    /// The path is missing.
    pub fn of(path: &Path) -> Result<Self, SysError> {
        let told = rustix::fs::statvfs(path).told("measure", path.display())?;
        Ok(Room {
            bytes: told.f_blocks.saturating_mul(told.f_frsize),
            free: told.f_bavail.saturating_mul(told.f_frsize),
            read_only: told.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
        })
    }
}

/// Opens a directory so that its file system can be told to [`grow`].
///
/// # Errors
/// It is missing.
pub fn open_root(path: &Path) -> Result<File, SysError> {
    File::open(path).told("open", path.display())
}

fn half(bytes: &[u8; SUPERBLOCK_BYTES], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn word(bytes: &[u8; SUPERBLOCK_BYTES], at: usize) -> u32 {
    u32::from(half(bytes, at)) | u32::from(half(bytes, at + 2)) << 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::medium::Device;

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
        assert!(!superblock.project_quotas);
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
        let arguments = [&arguments[..], &["-O", "quota,project"]].concat();
        let made = std::process::Command::new("mke2fs")
            .args(arguments)
            .arg(&image)
            .status();
        match made {
            Ok(status) => assert!(status.success(), "mke2fs: {status}"),
            Err(_) => {
                eprintln!("skipped: mke2fs is not installed");
                return;
            }
        }
        let device = Device::open_to_read(&image).unwrap();
        let superblock = Superblock::read(&device).unwrap().unwrap();
        assert_eq!(
            (superblock.label.as_str(), superblock.clean),
            ("kos-data", true)
        );
        assert_eq!(superblock.bytes(), 8 << 20);
        assert!(!superblock.has_errors && !superblock.needs_recovery);
        assert!(superblock.project_quotas);
    }

    #[test]
    fn room_is_measured() {
        let room = Room::of(Path::new("/")).unwrap();
        assert!(room.bytes >= room.free && room.bytes > 0);
        assert!(Room::of(Path::new("/nowhere")).is_err());
        assert!(errors(Path::new("/nowhere"), "vda").is_err());
    }
}
