//! FAT32 volumes: what firmware reads, and where a user can put settings from any computer.
//!
//! The whole volume is made at once, every file in one piece. One date for everything and an
//! identity that the caller gives: equal files are equal bytes. (The crate `fatfs` formats too,
//! but gives "." and ".." long names, which fsck.fat takes for damage; it serves to read and
//! change files, see `fatfile`. Format: Microsoft's FAT specification.)

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use super::fatname::{self, ENTRY_BYTES};

/// FAT32 is FAT32 by its number of clusters only, and 65525 is the least; some firmware counts a
/// little differently (a Raspberry Pi took a smaller volume for FAT16), so a distance is kept.
const LEAST_CLUSTERS: usize = 66_000;
const SECTOR: usize = 512;
/// Boot sector, FSInfo and their copies need nine; 32 is what everybody reserves.
const RESERVED_SECTORS: usize = 32;
/// The data begin at a multiple of this in sectors: a page, which flash memory likes.
const DATA_ALIGNMENT: usize = 8;
const BACKUP_SECTOR: usize = 6;
const ROOT_CLUSTER: u32 = 2;
const END_OF_CHAIN: u32 = 0x0fff_ffff;
/// The first of January 2026, `super::DATE`, as FAT writes it: years from 1980, month, day.
const DATE: u16 = (46 << 9) | (1 << 5) | 1;
const DIRECTORY: u8 = 0x10;
const ARCHIVE: u8 = 0x20;
const VOLUME_LABEL: u8 = 0x08;

/// Files of a volume: their paths, without a leading slash, and contents.
pub type Files = Vec<(String, Vec<u8>)>;

/// A volume of `bytes` bytes with `files` on it, and nothing else.
pub fn image(bytes: u64, label: &str, identity: u32, files: &Files) -> Result<Vec<u8>> {
    make(usize::try_from(bytes)?, label, identity, files)
        .with_context(|| format!("make the FAT volume {label} of {} MiB", bytes >> 20))
}

fn make(bytes: usize, label: &str, identity: u32, files: &Files) -> Result<Vec<u8>> {
    let mut root = Directory::default();
    for (path, contents) in files {
        root.add(path, contents).with_context(|| path.clone())?;
    }
    let label = fatname::label(label)?;
    let mut volume = Volume::new(bytes)?;
    volume.directory(&root, None, Some(&label))?;
    volume.finish(&label, identity)
}

/// A directory that has not been written yet; the keys are names in small letters, because FAT
/// makes no difference.
#[derive(Default)]
struct Directory<'a> {
    nodes: BTreeMap<String, (String, Node<'a>)>,
}

enum Node<'a> {
    Directory(Directory<'a>),
    File(&'a [u8]),
}

impl<'a> Directory<'a> {
    fn add(&mut self, path: &str, contents: &'a [u8]) -> Result<()> {
        let (name, rest) = match path.split_once('/') {
            Some((name, rest)) => (name, Some(rest)),
            None => (path, None),
        };
        fatname::check(name)?;
        let entry = self.nodes.entry(name.to_lowercase());
        let Some(rest) = rest else {
            ensure!(
                matches!(entry, std::collections::btree_map::Entry::Vacant(_)),
                "it is there twice"
            );
            entry.or_insert((name.to_owned(), Node::File(contents)));
            return Ok(());
        };
        let new = || (name.to_owned(), Node::Directory(Directory::default()));
        match &mut entry.or_insert_with(new).1 {
            Node::Directory(directory) => directory.add(rest, contents),
            Node::File(_) => anyhow::bail!("{name} is a file and a directory"),
        }
    }
}

/// A volume in the making.
struct Volume {
    bytes: Vec<u8>,
    cluster_sectors: usize,
    fat_sectors: usize,
    /// The first sector of cluster 2.
    data: usize,
    /// The allocation table, as far as clusters are in use.
    fat: Vec<u32>,
}

impl Volume {
    fn new(bytes: usize) -> Result<Volume> {
        let sectors = bytes / SECTOR;
        // The largest clusters that leave it FAT32: a firmware reads the fewer pieces.
        for cluster_sectors in [8, 4, 2, 1] {
            // Two tables of four bytes for every cluster, and for two that do not exist.
            let entries = sectors / cluster_sectors + 2;
            let fat_sectors = (entries * 4).div_ceil(SECTOR);
            let data = (RESERVED_SECTORS + 2 * fat_sectors).next_multiple_of(DATA_ALIGNMENT);
            if sectors.saturating_sub(data) / cluster_sectors >= LEAST_CLUSTERS {
                return Ok(Volume {
                    bytes: vec![0; sectors * SECTOR],
                    cluster_sectors,
                    fat_sectors,
                    data,
                    // What the specification puts at the place of clusters 0 and 1.
                    fat: vec![0x0fff_fff8, END_OF_CHAIN],
                });
            }
        }
        anyhow::bail!("found {} MiB, allowed: 33 MiB or more", bytes >> 20)
    }

    fn clusters(&self) -> usize {
        (self.bytes.len() / SECTOR - self.data) / self.cluster_sectors
    }

    /// Writes a directory and all below it; the result is its first cluster.
    fn directory(
        &mut self,
        directory: &Directory,
        parent: Option<u32>,
        label: Option<&[u8; 11]>,
    ) -> Result<u32> {
        let names: Vec<&str> = directory.nodes.values().map(|node| &*node.0).collect();
        let names = fatname::encode(&names)?;
        // The label, or "." and "..".
        let own_entries = if parent.is_some() { 2 } else { 1 };
        let entries: usize = names.iter().map(|name| name.long.len() + 1).sum();
        let bytes = (own_entries + entries) * ENTRY_BYTES;
        let first = self.allocate(bytes)?;

        let mut table = Vec::with_capacity(bytes);
        if let Some(label) = label {
            table.extend(entry(label, VOLUME_LABEL, 0, 0));
        }
        if let Some(parent) = parent {
            // By the specification a root directory is cluster 0 here.
            let parent = if parent == ROOT_CLUSTER { 0 } else { parent };
            table.extend(entry(b".          ", DIRECTORY, first, 0));
            table.extend(entry(b"..         ", DIRECTORY, parent, 0));
        }
        for ((_, node), name) in directory.nodes.values().zip(names) {
            table.extend(name.long.concat());
            match node {
                Node::Directory(below) => {
                    let cluster = self.directory(below, Some(first), None)?;
                    table.extend(entry(&name.short, DIRECTORY, cluster, 0));
                }
                Node::File(contents) => {
                    let cluster = self.allocate(contents.len())?;
                    self.fill(cluster, contents);
                    let bytes = u32::try_from(contents.len())?;
                    table.extend(entry(&name.short, ARCHIVE, cluster, bytes));
                }
            }
        }
        self.fill(first, &table);
        Ok(first)
    }

    /// Takes clusters for `bytes` bytes, one after the other: the first, or 0 for none.
    fn allocate(&mut self, bytes: usize) -> Result<u32> {
        let count = bytes.div_ceil(self.cluster_sectors * SECTOR);
        let first = self.fat.len();
        let free = self.clusters() + 2 - first;
        ensure!(
            count <= free,
            "the files do not fit: {bytes} bytes more, and {} are free",
            free * self.cluster_sectors * SECTOR
        );
        for index in 1..=count {
            let next = u32::try_from(first + index)?;
            self.fat
                .push(if index == count { END_OF_CHAIN } else { next });
        }
        Ok(if count == 0 { 0 } else { u32::try_from(first)? })
    }

    fn fill(&mut self, cluster: u32, contents: &[u8]) {
        if let Some(index) = cluster.checked_sub(2) {
            let start = (self.data + index as usize * self.cluster_sectors) * SECTOR;
            self.bytes[start..start + contents.len()].copy_from_slice(contents);
        }
    }

    fn finish(mut self, label: &[u8; 11], identity: u32) -> Result<Vec<u8>> {
        let boot = self.boot_sector(label, identity)?;
        let information = self.information_sector()?;
        for first in [0, BACKUP_SECTOR] {
            let start = first * SECTOR;
            self.bytes[start..start + SECTOR].copy_from_slice(&boot);
            self.bytes[start + SECTOR..start + 2 * SECTOR].copy_from_slice(&information);
        }
        let fat: Vec<u8> = self
            .fat
            .iter()
            .flat_map(|next| next.to_le_bytes())
            .collect();
        // The second table ends where the data begin.
        for first in [
            self.data - 2 * self.fat_sectors,
            self.data - self.fat_sectors,
        ] {
            self.bytes[first * SECTOR..first * SECTOR + fat.len()].copy_from_slice(&fat);
        }
        Ok(self.bytes)
    }

    fn boot_sector(&self, label: &[u8; 11], identity: u32) -> Result<[u8; SECTOR]> {
        let mut sector = [0; SECTOR];
        let mut put = |offset: usize, field: &[u8]| {
            sector[offset..offset + field.len()].copy_from_slice(field);
        };
        let reserved = u16::try_from(self.data - 2 * self.fat_sectors)?;
        let sectors = u32::try_from(self.bytes.len() / SECTOR)?;
        put(0, &[0xeb, 0x58, 0x90]); // a jump over this table, which is how it is recognised
        put(3, b"MSWIN4.1"); // "for best compatibility", says the specification
        put(11, &(SECTOR as u16).to_le_bytes());
        put(13, &[self.cluster_sectors as u8]);
        put(14, &reserved.to_le_bytes());
        put(16, &[2]); // tables
        put(21, &[0xf8]); // a disk that stays
        put(24, &63u16.to_le_bytes()); // sectors per track and heads: a form, no disk has them
        put(26, &255u16.to_le_bytes());
        put(32, &sectors.to_le_bytes());
        put(36, &u32::try_from(self.fat_sectors)?.to_le_bytes());
        put(44, &ROOT_CLUSTER.to_le_bytes());
        put(48, &1u16.to_le_bytes()); // where FSInfo is
        put(50, &(BACKUP_SECTOR as u16).to_le_bytes());
        put(64, &[0x80, 0, 0x29]); // a disk; identity, label and type follow
        put(67, &identity.to_le_bytes());
        put(71, label);
        put(82, b"FAT32   ");
        put(510, &[0x55, 0xaa]);
        Ok(sector)
    }

    fn information_sector(&self) -> Result<[u8; SECTOR]> {
        let mut sector = [0; SECTOR];
        let mut put = |offset: usize, field: u32| {
            sector[offset..offset + 4].copy_from_slice(&field.to_le_bytes());
        };
        put(0, 0x4161_5252);
        put(484, 0x6141_7272);
        put(488, u32::try_from(self.clusters() + 2 - self.fat.len())?); // free clusters
        put(492, u32::try_from(self.fat.len())?); // the first of them
        put(508, 0xaa55_0000);
        Ok(sector)
    }
}

fn entry(name: &[u8; 11], attributes: u8, cluster: u32, bytes: u32) -> [u8; ENTRY_BYTES] {
    let mut entry = [0; ENTRY_BYTES];
    entry[..11].copy_from_slice(name);
    entry[11] = attributes;
    for date in [16, 18, 24] {
        entry[date..date + 2].copy_from_slice(&DATE.to_le_bytes());
    }
    let cluster = cluster.to_le_bytes();
    entry[20..22].copy_from_slice(&cluster[2..]);
    entry[26..28].copy_from_slice(&cluster[..2]);
    entry[28..].copy_from_slice(&bytes.to_le_bytes());
    entry
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hostpackages::find_program;
    use std::path::Path;
    use std::process::Command;

    const MIB: u64 = 1 << 20;

    fn files() -> Files {
        // More than a cluster, more than a directory's cluster, long names and capitals.
        let mut files = vec![
            ("EFI/BOOT/BOOTX64.EFI".to_owned(), vec![7; 5 << 20]),
            ("loader/loader.conf".to_owned(), b"timeout 0\n".to_vec()),
            ("empty".to_owned(), Vec::new()),
        ];
        for number in 0..60 {
            let name = format!("overlays/a long name with spaces {number}.dtbo");
            files.push((name, vec![number; 700]));
        }
        files
    }

    fn checked(arguments: &[&str], path: &Path) -> Vec<u8> {
        let output = Command::new(find_program(arguments[0]).unwrap())
            .args(&arguments[1..])
            .arg(path)
            .env("LC_ALL", "C")
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        output.stdout
    }

    fn fsck(path: &Path) -> String {
        String::from_utf8_lossy(&checked(&["fsck.vfat", "-n", "-v"], path)).into_owned()
    }

    #[test]
    fn equal_files_are_equal_bytes() {
        let first = image(64 * MIB, "KOS-BOOT", 0x1234_5678, &files()).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(2100));
        assert!(first == image(64 * MIB, "KOS-BOOT", 0x1234_5678, &files()).unwrap());
    }

    #[test]
    fn other_tools_find_a_sound_volume_with_these_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("volume");
        for mib in [33, 64, 96, 128] {
            std::fs::write(&path, image(mib * MIB, "KOS-BOOT", 7, &files()).unwrap()).unwrap();
            let report = fsck(&path);
            assert!(report.contains("32 bit entries"), "{report}");
            for (name, bytes) in files() {
                let from = format!("::{name}");
                let output = Command::new(find_program("mcopy").unwrap())
                    .arg("-i")
                    .arg(&path)
                    .args([&from, "-"])
                    .output()
                    .unwrap();
                assert!(output.stdout == bytes, "{mib} MiB: {name}: {output:?}");
            }
            let listing = checked(&["mdir", "-i"], &path);
            let listing = String::from_utf8_lossy(&listing).into_owned();
            assert!(
                listing.contains("KOS-BOOT") && listing.contains("2026-01-01"),
                "{listing}"
            );
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refusal =
            |bytes, label, files| format!("{:#}", image(bytes, label, 7, &files).unwrap_err());
        assert!(refusal(32 * MIB, "KOS", Files::new()).contains("allowed: 33 MiB"));
        assert!(refusal(64 * MIB, "kos", Files::new()).contains("capital letters"));
        let file = |path: &str| (path.to_owned(), vec![1]);
        let text = refusal(64 * MIB, "KOS", vec![file("d/a"), file("D/A")]);
        assert!(text.contains("D/A: it is there twice"), "{text}");
        let text = refusal(64 * MIB, "KOS", vec![file("d"), file("d/a")]);
        assert!(text.contains("d is a file and a directory"), "{text}");
        assert!(refusal(64 * MIB, "KOS", vec![file("a//b")]).contains("found the name \"\""));
        let large = vec![("large".to_owned(), vec![1; 70 << 20])];
        assert!(refusal(64 * MIB, "KOS", large).contains("do not fit"));
    }
}
