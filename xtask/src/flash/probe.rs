//! What is on a partition, by the marks that file systems and others leave at fixed places.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// Name, place from the partition's start, and mark. A stronger claim comes first: an encrypted
/// partition may hold remains of what was there before.
const MARKS: &[(&str, u64, &[u8])] = &[
    ("encrypted (LUKS)", 0, b"LUKS\xba\xbe"),
    ("LVM", 512, b"LABELONE"),
    ("RAID", 4096, b"\xfc\x4e\x2b\xa9"),
    ("swap", 4086, b"SWAPSPACE2"),
    ("btrfs", 0x1_0040, b"_BHRfS_M"),
    ("xfs", 0, b"XFSB"),
    ("f2fs", 1024, b"\x10\x20\xf5\xf2"),
    ("ext4", 1024 + 56, b"\x53\xef"),
    ("squashfs", 0, b"hsqs"),
    ("ISO 9660", 0x8001, b"CD001"),
    ("kOS data, empty", 0, &kos_manifest::disk::MAKE_MARKER),
    ("NTFS", 3, b"NTFS    "),
    ("exFAT", 3, b"EXFAT   "),
    ("FAT32", 82, b"FAT32   "),
    ("FAT", 54, b"FAT"),
];

/// What `bytes` bytes from `start` on hold; nothing that is known, or nothing that can be read.
pub fn probe(disk: &File, start: u64, bytes: u64) -> Option<&'static str> {
    let found = MARKS.iter().find(|(_, place, mark)| {
        let mut there = vec![0; mark.len()];
        place + mark.len() as u64 <= bytes
            && disk.read_exact_at(&mut there, start + place).is_ok()
            && there == *mark
    });
    found.map(|(name, _, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hostpackages::find_program;
    use std::process::Command;

    #[test]
    fn what_other_tools_make_is_recognised() {
        let directory = tempfile::tempdir().unwrap();
        for (tool, expected) in [
            (&["mke2fs", "-q", "-F"][..], "ext4"),
            (&["mkfs.vfat", "-F", "32"], "FAT32"),
            (&["mkfs.vfat", "-F", "16"], "FAT"),
            (&["mkswap"], "swap"),
        ] {
            let path = directory.path().join("volume");
            File::create(&path).unwrap().set_len(64 << 20).unwrap();
            let status = Command::new(find_program(tool[0]).unwrap())
                .args(&tool[1..])
                .arg(&path)
                .output()
                .unwrap();
            assert!(status.status.success(), "{tool:?}: {status:?}");
            let file = File::open(&path).unwrap();
            assert_eq!(probe(&file, 0, 64 << 20), Some(expected), "{tool:?}");
            assert_eq!(probe(&file, 4096, 1 << 20), None, "{tool:?}");
        }
    }

    #[test]
    fn nothing_beyond_the_partition_counts() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"\x53\xef", 1024 + 56).unwrap();
        assert_eq!(probe(&file, 0, 1082), Some("ext4"));
        assert_eq!(probe(&file, 0, 1081), None);
        assert_eq!(probe(&file, 1 << 20, 1 << 20), None, "the disk ends before");
    }
}
