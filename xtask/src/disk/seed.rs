//! The seed of the data partition: an empty ext4 file system, as the few blocks that are not zero.
//!
//! The image carries no mkfs. `mke2fs` runs here, once, and PID 1 writes its blocks where the
//! data partition says that it wants a file system; then it grows it to the partition's end. All
//! that mke2fs would take from the host (its configuration, the clock, random numbers) is given,
//! so that the same e2fsprogs gives the same bytes.
//!
//! Format: the line `kos-seed 1 BLOCK-BYTES BLOCKS`, then for every block that is not zero its
//! number (64 bits, little-endian) and its bytes, in rising order, to the end.

use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use kos_manifest::disk::{MIN_DATA_BYTES, SEED_MAGIC, SEED_VERSION};

use super::DATE;
use crate::hostpackages::find_program;

/// A page: what every kernel of ours can mount, and the least that grows beyond 16 TB.
const BLOCK_BYTES: usize = 4096;
/// Nothing is on by default ("none"), so that another host's defaults change nothing. What is on
/// is old enough for every Linux since 4.5: a disk can be read in another machine.
/// `metadata_csum_seed` lets PID 1 give a mounted file system a UUID of its own; `quota` and `project`
/// (4.5) let it limit what each service keeps.
const FEATURES: &str = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,\
    flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum,\
    metadata_csum_seed,quota,project";
/// Of the seed. PID 1 gives every box's file system another one.
const UUID: &str = "6b4f5344-6174-6100-8000-6b6f73736565";
/// Of the directories' hash trees. It is a seed against crafted names, not a secret.
const HASH_SEED: &str = "6b4f5344-6174-6100-8000-6b6f73686173";
/// Descriptors are reserved for 4 TiB (2 MiB of the partition): so far the file system grows in
/// place; beyond, the kernel goes on with the `meta_bg` layout.
const RESIZE_BLOCKS: u64 = (4 << 40) / BLOCK_BYTES as u64;
/// The least that ext4 takes is 4 MiB; twice that lets a second transaction fill while the
/// first is written, and leaves most of 64 MiB free.
const JOURNAL_MIB: &str = "8";
/// At 64 MiB: 4096 inodes in the only group. Every group that is added has as many, which is one
/// for 32 KiB of a large disk.
const BYTES_PER_INODE: &str = "16384";
/// Kept for root, so that PID 1 and `api` can still write when services have filled the disk.
const RESERVED_PERCENT: &str = "1";

/// Makes the seed.
pub fn make() -> Result<Vec<u8>> {
    let directory = tempfile::tempdir().context("make a temporary directory")?;
    let path = directory.path().join("seed.ext4");
    File::create(&path)?.set_len(MIN_DATA_BYTES)?;
    // An empty file would do, with a warning on every build: the sections' closing brackets are
    // on lines of their own because nothing else is understood.
    let configuration = directory.path().join("mke2fs.conf");
    std::fs::write(&configuration, "[fs_types]\next4 = {\n}\nsmall = {\n}\n")?;
    let extended = format!(
        "hash_seed={HASH_SEED},root_owner=0:0,resize={RESIZE_BLOCKS},nodiscard,\
         lazy_itable_init=0,lazy_journal_init=0,quotatype=prjquota"
    );
    let program = find_program("mke2fs").unwrap_or_else(|| "mke2fs".into());
    let output = Command::new(program)
        .env("LC_ALL", "C")
        .env("MKE2FS_CONFIG", &configuration)
        // The first name is e2fsprogs' own, for its tests; from 1.47.1 on it knows the second.
        .env("E2FSPROGS_FAKE_TIME", DATE.to_string())
        .env("SOURCE_DATE_EPOCH", DATE.to_string())
        .args(["-q", "-F", "-t", "ext4", "-b", &BLOCK_BYTES.to_string()])
        .args(["-O", FEATURES, "-I", "256", "-i", BYTES_PER_INODE])
        .args(["-g", "32768", "-G", "16", "-m", RESERVED_PERCENT])
        .args(["-J", &format!("size={JOURNAL_MIB}")])
        // A damaged file system is read, and not damaged further.
        .args(["-e", "remount-ro", "-L", "kos-data", "-U", UUID])
        .args(["-E", &extended])
        .arg(&path)
        .stdin(Stdio::null())
        .output()
        .context("run mke2fs")?;
    ensure!(
        output.status.success(),
        "mke2fs: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    encode(&mut File::open(&path)?, MIN_DATA_BYTES / BLOCK_BYTES as u64)
}

fn encode(image: &mut impl Read, blocks: u64) -> Result<Vec<u8>> {
    let mut seed = format!("{SEED_MAGIC} {SEED_VERSION} {BLOCK_BYTES} {blocks}\n").into_bytes();
    let mut block = [0; BLOCK_BYTES];
    for number in 0..blocks {
        image
            .read_exact(&mut block)
            .with_context(|| format!("read block {number} of what mke2fs made"))?;
        if block.iter().any(|byte| *byte != 0) {
            seed.extend_from_slice(&number.to_le_bytes());
            seed.extend_from_slice(&block);
        }
    }
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;
    use std::path::Path;
    use std::time::Duration;

    /// What PID 1 does with a seed.
    fn sow(seed: &[u8], path: &Path) {
        let line_end = seed.iter().position(|byte| *byte == b'\n').unwrap();
        assert_eq!(&seed[..line_end], b"kos-seed 1 4096 16384");
        let file = File::create(path).unwrap();
        file.set_len(MIN_DATA_BYTES).unwrap();
        let records = seed[line_end + 1..].chunks_exact(8 + BLOCK_BYTES);
        assert!(records.remainder().is_empty());
        for record in records {
            let (number, block) = record.split_at(8);
            let number = u64::from_le_bytes(number.try_into().unwrap());
            file.write_all_at(block, number * BLOCK_BYTES as u64)
                .unwrap();
        }
    }

    fn succeed(program: &str, arguments: &[&str], path: &Path) -> String {
        let output = Command::new(find_program(program).unwrap())
            .args(arguments)
            .arg(path)
            .env("LC_ALL", "C")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{program}: {output:?}");
        text
    }

    #[test]
    fn a_second_later_the_seed_is_the_same() {
        let first = make().unwrap();
        std::thread::sleep(Duration::from_millis(1100));
        assert!(first == make().unwrap());
        assert!(
            first.len() < 200_000,
            "it is in every image: {}",
            first.len()
        );
    }

    #[test]
    fn what_grows_from_it_is_a_clean_file_system_of_four_terabytes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data.ext4");
        sow(&make().unwrap(), &path);
        succeed("e2fsck", &["-f", "-n"], &path);
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(4 << 40).unwrap();
        succeed("resize2fs", &[], &path);
        succeed("e2fsck", &["-f", "-n"], &path);
        let header = succeed("dumpe2fs", &["-h"], &path);
        let value = |key: &str| {
            header
                .lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
                .unwrap()
                .trim()
                .to_owned()
        };
        assert_eq!(value("Block count"), RESIZE_BLOCKS.to_string());
        assert_eq!(value("Filesystem volume name"), "kos-data");
        let features = value("Filesystem features");
        for feature in ["metadata_csum_seed", "quota", "project"] {
            assert!(features.contains(feature), "{features}");
        }
    }
}
