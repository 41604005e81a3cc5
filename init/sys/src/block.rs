//! The disks of the machine: listed, described, and found by the serial number that the machine
//! gives them, never by label.

use std::path::{Path, PathBuf};

use kos_manifest::disk::SECTOR_BYTES;

use crate::error::{SysError, Told};
use crate::kernel_file;

/// More disks than any board of kOS can hold, so that a listing ends.
const MAX_DISKS: usize = 256;

/// Where the kernel says which disk has which serial: virtio, then NVMe and MMC.
const SERIAL_FILES: [&str; 3] = ["serial", "device/serial", "device/cid"];

/// Where it says what a disk is called by its maker: SCSI, ATA and NVMe, then MMC.
const MODEL_FILES: [&str; 2] = ["device/model", "device/name"];

/// Block devices that are no disks, by the beginning of their names. Whatever is not known here
/// is looked at, and ignored unless it has the identity that is looked for.
const NO_DISKS: [&str; 5] = ["loop", "ram", "zram", "fd", "sr"];

/// Longest model that is shown.
const MAX_MODEL: usize = 40;

/// One disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its name below `/dev` and `/sys/block`.
    pub name: String,
    /// Its device node.
    pub node: PathBuf,
    /// What its maker calls it; empty when the kernel does not say.
    pub model: String,
    /// Its size.
    pub bytes: u64,
    /// Whether it takes no writes: a card's switch, or a machine that says so.
    pub read_only: bool,
    serials: Vec<String>,
}

impl Disk {
    /// The disks that have a medium in them, by name: below `sys_root` (`/sys`), with nodes below
    /// `dev_root` (`/dev`).
    ///
    /// # Errors
    /// They cannot be listed. A machine without any is none.
    pub fn list(sys_root: &Path, dev_root: &Path) -> Result<Vec<Self>, SysError> {
        let directory = sys_root.join("block");
        let listing = match std::fs::read_dir(&directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.told("list", directory.display())?,
        };
        let mut disks = Vec::new();
        for entry in listing.take(MAX_DISKS) {
            let entry = entry.told("list", directory.display())?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if NO_DISKS.iter().any(|start| name.starts_with(start)) {
                continue;
            }
            let path = entry.path();
            let text = |file: &&str| {
                let text = kernel_file::read(&path.join(file)).ok()?;
                Some(text.trim().to_owned()).filter(|text| !text.is_empty())
            };
            // The kernel counts in sectors of 512 bytes here, whatever the disk's are.
            let sectors = kernel_file::read_number(&path.join("size")).unwrap_or_default();
            disks.push(Disk {
                node: dev_root.join(&name),
                model: MODEL_FILES.iter().find_map(text).unwrap_or_default(),
                bytes: sectors.saturating_mul(SECTOR_BYTES),
                read_only: kernel_file::read_number(&path.join("ro")).is_ok_and(|flag| flag != 0),
                serials: SERIAL_FILES.iter().filter_map(text).collect(),
                name,
            });
        }
        disks.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(disks)
    }

    /// Whether it has this serial number.
    pub fn has_serial(&self, serial: &str) -> bool {
        self.serials.iter().any(|own| own == serial)
    }

    /// What people know it by: device, model, size.
    pub fn description(&self) -> String {
        let model: String = self
            .model
            .chars()
            .filter(|letter| !letter.is_control())
            .take(MAX_MODEL)
            .collect();
        let model = if model.is_empty() {
            model
        } else {
            format!("{model}, ")
        };
        format!("{}, {model}{}", self.node.display(), size(self.bytes))
    }
}

/// A size as makers of disks print it on them: `8.0 GB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] = [
        (1_000_000_000_000, "TB"),
        (1_000_000_000, "GB"),
        (1_000_000, "MB"),
        (1_000, "kB"),
    ];
    for (unit, name) in UNITS {
        if bytes >= unit {
            let tenths = bytes / (unit / 10);
            return format!("{}.{} {name}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (file, value) in files {
            let path = root.path().join("block").join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("{value}\n")).unwrap();
        }
        root
    }

    #[test]
    fn disks_are_listed_with_what_is_known_of_them() {
        let root = machine(&[
            ("vdb/size", "16384000"),
            ("vdb/serial", "kos-data"),
            ("vdb/ro", "1"),
            ("nvme0n1/size", "0"),
            ("nvme0n1/device/serial", "n1 "),
            ("nvme0n1/device/model", "Quick\u{1b} 9000  "),
            ("loop0/size", "8"),
        ]);
        let disks = Disk::list(root.path(), Path::new("/dev")).unwrap();
        let [nvme, virtio] = disks.as_slice() else {
            panic!("{disks:?}");
        };
        assert!(nvme.has_serial("n1") && !nvme.has_serial("") && !nvme.read_only);
        assert_eq!(nvme.description(), "/dev/nvme0n1, Quick 9000, 0 B");
        assert!(virtio.has_serial("kos-data") && virtio.read_only);
        assert_eq!(virtio.description(), "/dev/vdb, 8.3 GB");
        let nowhere = Path::new("/nowhere");
        assert_eq!(Disk::list(nowhere, nowhere).unwrap(), []);
    }

    #[test]
    fn sizes_are_those_on_the_box() {
        assert_eq!(size(999), "999 B");
        assert_eq!(size(64 << 20), "67.1 MB");
        assert_eq!(size(8_000_000_000), "8.0 GB");
        assert_eq!(size(u64::MAX), "18446744.0 TB");
    }
}
