//! A cpio archive in the kernel's "newc" format, written so that equal contents are equal bytes.
//!
//! Names are sorted, times and owners are zero, inode numbers count up, and every directory on
//! the way to a file is there. (Format: the kernel's Documentation/driver-api/early-userspace/
//! buffer-format.rst.)

use std::collections::BTreeMap;

/// A regular file's, directory's, character device's and symbolic link's type bits in a mode.
const FILE: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const CHARACTER_DEVICE: u32 = 0o020_000;
const SYMBOLIC_LINK: u32 = 0o120_000;
/// Where in a mode these are.
const KIND: u32 = 0o170_000;
/// The archive ends on a multiple of this, as cpio itself pads it.
const BLOCK: usize = 512;

/// An archive in the making: paths without a leading slash.
#[derive(Debug, Default, Clone)]
pub struct Archive {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    mode: u32,
    device: (u32, u32),
    contents: Vec<u8>,
}

impl Archive {
    /// Adds a directory, with those above it.
    pub fn directory(&mut self, path: &str, permissions: u32) {
        self.parents(path);
        self.insert(path, DIRECTORY | permissions, (0, 0), Vec::new());
    }

    /// Adds a file, with the directories above it.
    pub fn file(&mut self, path: &str, permissions: u32, contents: Vec<u8>) {
        self.parents(path);
        self.insert(path, FILE | permissions, (0, 0), contents);
    }

    /// Adds a character device.
    pub fn character_device(&mut self, path: &str, permissions: u32, major: u32, minor: u32) {
        self.parents(path);
        self.insert(
            path,
            CHARACTER_DEVICE | permissions,
            (major, minor),
            Vec::new(),
        );
    }

    /// Adds a symbolic link, with the directories above it.
    pub fn symbolic_link(&mut self, path: &str, target: &str) {
        self.parents(path);
        self.insert(path, SYMBOLIC_LINK | 0o777, (0, 0), target.into());
    }

    /// Whether there is something of this path; a leading slash does not matter.
    pub fn contains(&self, path: &str) -> bool {
        self.entries.contains_key(path.trim_start_matches('/'))
    }

    /// Every file's path, with its contents.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.entries
            .iter()
            .filter(|(_, entry)| entry.mode & KIND == FILE)
            .map(|(path, entry)| (path.as_str(), entry.contents.as_slice()))
    }

    /// The archive's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (index, (path, entry)) in self.entries.iter().enumerate() {
            append(&mut bytes, index + 1, path, entry);
        }
        let trailer = Entry {
            mode: 0,
            device: (0, 0),
            contents: Vec::new(),
        };
        append(&mut bytes, 0, "TRAILER!!!", &trailer);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }

    fn parents(&mut self, path: &str) {
        for (index, _) in path.match_indices('/') {
            let parent = &path[..index];
            if !self.entries.contains_key(parent) {
                self.insert(parent, DIRECTORY | 0o755, (0, 0), Vec::new());
            }
        }
    }

    fn insert(&mut self, path: &str, mode: u32, device: (u32, u32), contents: Vec<u8>) {
        self.entries.insert(
            path.to_owned(),
            Entry {
                mode,
                device,
                contents,
            },
        );
    }
}

fn append(bytes: &mut Vec<u8>, inode: usize, path: &str, entry: &Entry) {
    let links = if entry.mode & DIRECTORY == DIRECTORY {
        2
    } else {
        1
    };
    let fields = [
        inode,
        entry.mode as usize,
        0, // uid
        0, // gid
        links,
        0, // modification time
        entry.contents.len(),
        0, // the archive's device, major and minor
        0,
        entry.device.0 as usize,
        entry.device.1 as usize,
        path.len() + 1,
        0, // checksum, unused in this format
    ];
    bytes.extend_from_slice(b"070701");
    for field in fields {
        bytes.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    bytes.extend_from_slice(path.as_bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend_from_slice(&entry.contents);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(reversed: bool) -> Archive {
        let mut archive = Archive::default();
        let files = [
            ("init", "i"),
            ("bin/a", "program"),
            ("etc/kos/services/a.toml", "x = 1"),
        ];
        let mut order: Vec<_> = files.iter().collect();
        if reversed {
            order.reverse();
        }
        for (path, text) in order {
            archive.file(path, 0o755, text.as_bytes().to_vec());
        }
        archive.character_device("dev/console", 0o600, 5, 1);
        archive.directory("tmp", 0o1777);
        archive
    }

    #[test]
    fn the_order_of_adding_does_not_matter() {
        assert_eq!(archive(false).to_bytes(), archive(true).to_bytes());
    }

    #[test]
    fn directories_come_before_what_they_hold() {
        let names: Vec<_> = archive(true).entries.into_keys().collect();
        assert_eq!(
            names,
            [
                "bin",
                "bin/a",
                "dev",
                "dev/console",
                "etc",
                "etc/kos",
                "etc/kos/services",
                "etc/kos/services/a.toml",
                "init",
                "tmp"
            ]
        );
    }

    #[test]
    fn a_header_is_as_the_format_says() {
        let mut archive = Archive::default();
        archive.file("ab", 0o644, b"12345".to_vec());
        let bytes = archive.to_bytes();
        let header = "070701\
            00000001000081a4000000000000000000000001000000000000000500000000000000000000000000000000\
            0000000300000000";
        assert_eq!(&bytes[..110], header.as_bytes());
        assert_eq!(
            &bytes[110..116],
            b"ab\0\0\0\0",
            "the name is padded to a multiple of four"
        );
        // 110 + 3 = 113, so the data begin at 116 and end, padded, at 124.
        assert_eq!(&bytes[112..116], [0; 4]);
        assert_eq!(&bytes[116..124], b"12345\0\0\0");
        assert_eq!(&bytes[124..130], b"070701");
        assert_eq!(bytes.len() % BLOCK, 0);
    }
}
