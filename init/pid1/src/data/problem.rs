//! What can be wrong with `/data`, told so that the owner of a box knows what to do.

use kos_manifest::control::DataProblem;
use kos_sys::block::size;
use kos_sys::ext4::{Room, Superblock};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which.
    pub code: DataProblem,
    /// What was found, in sentences.
    pub detail: String,
}

/// A disk of which less than this part is free is full: the hundredth, which ext4 of its own needs
/// to work well.
const FULL_PART: u64 = 100;
/// Less than this is full, however small the disk: one log and one upload of settings.
const FULL_BYTES: u64 = 4 << 20;

impl Problem {
    /// A problem.
    pub fn new(code: DataProblem, detail: impl Into<String>) -> Self {
        Problem {
            code,
            detail: detail.into(),
        }
    }

    /// What the owner can do, in sentences.
    pub fn advice(&self) -> &'static str {
        match self.code {
            DataProblem::NotNamed => {
                "What is stored now is lost when the box turns off. Start the box from a disk that \
                 was written with 'cargo xtask flash', or name its disk with the kernel argument \
                 kos.disk or kos.data."
            }
            DataProblem::Missing => {
                "What is stored now is lost when the box turns off. Check that the disk is plugged \
                 in and restart the box. If the disk is there and only its data partition is gone, \
                 a factory reset makes a new one."
            }
            DataProblem::Ambiguous => {
                "What is stored now is lost when the box turns off. One of the disks is a copy of \
                 the other: unplug it and restart the box."
            }
            DataProblem::Corrupt => {
                "What is stored now is lost when the box turns off. To rescue what is on the disk, \
                 connect it to another computer and repair it there (fsck.ext4). A factory reset \
                 makes it empty and usable again."
            }
            DataProblem::Errors => {
                "Copy what matters from the box soon, as the disk may be failing. A factory reset \
                 makes the file system anew; if the errors come back, replace the disk."
            }
            DataProblem::Full => {
                "Delete models or files that are not needed. Until then nothing can be stored."
            }
            DataProblem::ReadOnly => {
                "What is stored now is lost when the box turns off. Models on the disk can be used. \
                 Move the card's write-protect switch, or make the machine let the disk be \
                 written, and restart the box. A card that stays read-only is worn out: replace it."
            }
            DataProblem::NotGrown => {
                "The box works with the room that it had before. Restart it to try again; if that \
                 does not help, a factory reset does."
            }
        }
    }

    /// The file system cannot be used, by what stands in its superblock.
    pub fn of_superblock(
        superblock: Option<&Superblock>,
        device: &str,
        device_bytes: u64,
    ) -> Option<Self> {
        let Some(superblock) = superblock else {
            return Some(Problem::new(
                DataProblem::Corrupt,
                format!("There is no file system on {device}, or its beginning is damaged."),
            ));
        };
        (superblock.bytes() > device_bytes).then(|| {
            Problem::new(
                DataProblem::Corrupt,
                format!(
                    "The file system on {device} has {}, and its place only {}: it was copied to \
                     a smaller disk.",
                    size(superblock.bytes()),
                    size(device_bytes)
                ),
            )
        })
    }

    /// There is no room left.
    pub fn of_room(room: Room, device: &str) -> Option<Self> {
        let full = room.free < FULL_BYTES || room.free < room.bytes / FULL_PART;
        full.then(|| {
            Problem::new(
                DataProblem::Full,
                format!(
                    "{device} is full: {} of {} are free.",
                    size(room.free),
                    size(room.bytes)
                ),
            )
        })
    }

    /// The file system has met errors.
    pub fn of_errors(count: u64, read_only: bool, device: &str) -> Option<Self> {
        let consequence = if read_only {
            " and takes no writes any more"
        } else {
            ""
        };
        (count > 0 || read_only).then(|| {
            Problem::new(
                DataProblem::Errors,
                format!("The file system on {device} has met {count} errors{consequence}."),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_has_advice_in_sentences() {
        for code in DataProblem::ALL {
            let advice = Problem::new(code, "").advice();
            assert!(advice.ends_with('.') && !advice.contains("  "), "{advice}");
        }
    }

    #[test]
    fn full_is_a_hundredth_or_four_mebibytes() {
        let room = |bytes: u64, free: u64| {
            let room = Room {
                bytes,
                free,
                read_only: false,
            };
            Problem::of_room(room, "/dev/vda2").is_some()
        };
        assert!(room(64 << 20, (4 << 20) - 1) && !room(64 << 20, 4 << 20));
        assert!(room(1 << 40, 10 << 30) && !room(1 << 40, 11 << 30));
        assert!(room(0, 0));
    }

    #[test]
    fn errors_and_damage_are_told() {
        let told = |count, read_only| Problem::of_errors(count, read_only, "/dev/vda2");
        assert_eq!(told(0, false), None);
        assert_eq!(told(3, false).map(|p| p.code), Some(DataProblem::Errors));
        assert!(told(0, true).is_some_and(|p| p.detail.contains("takes no writes")));
        let none = Problem::of_superblock(None, "/dev/vda2", 0);
        assert_eq!(none.map(|p| p.code), Some(DataProblem::Corrupt));
        let mut bytes = [0; 1024];
        bytes[0x4..0x8].copy_from_slice(&2048u32.to_le_bytes());
        bytes[0x38..0x3a].copy_from_slice(&[0x53, 0xef]);
        let superblock = Superblock::parse(&bytes).unwrap();
        let told = |bytes| Problem::of_superblock(Some(&superblock), "/dev/vda2", bytes);
        assert_eq!(told(2 << 20), None);
        assert!(told((2 << 20) - 1).is_some_and(|p| p.detail.contains("smaller disk")));
    }
}
