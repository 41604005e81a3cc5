//! Growing the mounted file system to the end of its device, in steps: an interrupted growth is a
//! smaller file system, and the next boot goes on.
//!
//! Most disks are done in the boot. A disk of terabytes takes longer than anybody waits for a
//! box, so that what is left after a moment is done while the services run already.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kos_sys::SysError;
use kos_sys::block::size;
use kos_sys::ext4::{self, Superblock};
use kos_sys::medium::{Device, Medium};

/// How much a step adds: a blink on a disk, and short enough to wait for when the box goes down.
const STEP_BYTES: u64 = 16 << 30;

/// How long the boot itself grows.
const BOOT_PATIENCE: Duration = Duration::from_secs(2);

/// A growth on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Growth {
    device: PathBuf,
    mount_point: PathBuf,
    began_at_bytes: u64,
}

/// How far a step has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// There is more to add.
    More,
    /// The file system ends where its device ends, or as near as it can: so many bytes.
    Done(u64),
}

impl Growth {
    /// Of the file system on `device`, which is mounted at `mount_point`.
    ///
    /// # Errors
    /// The device cannot be read.
    pub fn new(device: &Path, mount_point: &Path) -> Result<Self, SysError> {
        Ok(Growth {
            device: device.to_owned(),
            mount_point: mount_point.to_owned(),
            began_at_bytes: file_system(&Device::open_to_read(device)?)?.bytes(),
        })
    }

    /// Grows as far as the boot waits for; tells when there is more to do.
    ///
    /// # Errors
    /// The kernel refuses; the file system is as large as it has become by then.
    pub fn during_boot(&self, say: impl Fn(&str)) -> Result<bool, SysError> {
        let begun = Instant::now();
        while begun.elapsed() < BOOT_PATIENCE {
            if let Progress::Done(bytes) = self.step()? {
                self.announce(bytes, say);
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Grows to the end, beside everything else.
    ///
    /// # Errors
    /// As [`Growth::during_boot`], as a sentence.
    pub async fn to_the_end(&self, say: impl Fn(&str)) -> Result<(), String> {
        loop {
            let growth = self.clone();
            // The kernel works on it without a pause: a thread waits, and the event loop does not.
            let step = tokio::task::spawn_blocking(move || growth.step()).await;
            let progress = step.map_err(|error| error.to_string())?;
            if let Progress::Done(bytes) = progress.map_err(|error| error.full())? {
                self.announce(bytes, say);
                return Ok(());
            }
        }
    }

    fn step(&self) -> Result<Progress, SysError> {
        let device = Device::open_to_read(&self.device)?;
        let before = file_system(&device)?;
        let Some(blocks) = next(&before, device.bytes()) else {
            return Ok(Progress::Done(before.bytes()));
        };
        let root = ext4::open_root(&self.mount_point)?;
        ext4::grow(root.as_fd(), blocks)?;
        let after = file_system(&device)?;
        // What is left at the end may be too little for a group of blocks, every time.
        if after.blocks <= before.blocks {
            return Ok(Progress::Done(after.bytes()));
        }
        Ok(Progress::More)
    }

    fn announce(&self, bytes: u64, say: impl Fn(&str)) {
        if bytes > self.began_at_bytes {
            let (from, to) = (size(self.began_at_bytes), size(bytes));
            say(&format!("data grown from {from} to {to}"));
        }
    }
}

/// How many blocks the file system has after the next step; `None` when it fills its device.
fn next(superblock: &Superblock, device_bytes: u64) -> Option<u64> {
    let all = device_bytes / superblock.block_bytes;
    let step = superblock.blocks + STEP_BYTES / superblock.block_bytes;
    (all > superblock.blocks).then(|| step.min(all))
}

fn file_system(device: &Device) -> Result<Superblock, SysError> {
    Superblock::read(device)?.ok_or_else(|| {
        SysError::refused(
            "grow the file system on",
            device.name(),
            "it has no superblock any more",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_end_where_the_device_does() {
        let mut bytes = [0; 1024];
        bytes[0x4..0x8].copy_from_slice(&16_384u32.to_le_bytes());
        bytes[0x18] = 2;
        bytes[0x38..0x3a].copy_from_slice(&[0x53, 0xef]);
        let mut superblock = Superblock::parse(&bytes).unwrap();
        assert_eq!(next(&superblock, 64 << 20), None);
        assert_eq!(next(&superblock, (64 << 20) + 4095), None);
        assert_eq!(next(&superblock, (64 << 20) + 4096), Some(16_385));
        let device = 2 << 40;
        let mut steps = 0;
        while let Some(blocks) = next(&superblock, device) {
            assert!(blocks > superblock.blocks);
            superblock.blocks = blocks;
            steps += 1;
        }
        assert_eq!((superblock.bytes(), steps), (device, 128));
    }
}
