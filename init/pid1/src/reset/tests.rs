//! What a reset touches, and what it refuses to.

use std::path::Path;

use kos_manifest::control::DataProblem;
use kos_manifest::disk::marker_sector;

use super::*;
use crate::data::Problem;

/// A disk that is a file.
fn disk(directory: &Path, bytes: &[u8], length: u64) -> Disk {
    let sys = directory.join("sys/block/vdb");
    std::fs::create_dir_all(&sys).unwrap();
    std::fs::write(sys.join("size"), (length / 512).to_string()).unwrap();
    let node = directory.join("vdb");
    std::fs::write(&node, bytes).unwrap();
    let file = std::fs::File::options().write(true).open(&node).unwrap();
    file.set_len(length).unwrap();
    let mut all = Disk::list(&directory.join("sys"), directory).unwrap();
    all.pop().unwrap()
}

fn reset(bytes: &[u8], length: u64) -> (Result<String>, Vec<u8>) {
    let directory = tempfile::tempdir().unwrap();
    let disk = disk(directory.path(), bytes, length);
    let mut disks = Disks {
        boot: Err(Problem::new(DataProblem::NotNamed, "Nothing is named.")),
        data: Some(Ok(disk)),
    };
    let told = ask_at_boot(&mut disks);
    let mut after = std::fs::read(directory.path().join("vdb")).unwrap();
    after.truncate(4096);
    (told, after)
}

#[test]
fn a_whole_disk_is_marked_whatever_is_on_it() {
    let (told, after) = reset(&[7; 8192], MIN_DATA_BYTES);
    assert!(told.unwrap().ends_with("vdb is to be made empty"));
    assert!(after[..512] == marker_sector() && after[512..] == [7; 3584]);
}

#[test]
fn a_disk_with_partitions_and_one_that_is_too_small_are_left_alone() {
    let mut partitioned = [0; 8192];
    partitioned[510..512].copy_from_slice(&[0x55, 0xaa]);
    let (told, after) = reset(&partitioned, MIN_DATA_BYTES);
    assert!(told.unwrap_err().to_string().contains("has partitions"));
    assert!(after == partitioned[..4096]);
    let (told, after) = reset(&[7; 8192], MIN_DATA_BYTES - 512);
    assert!(told.unwrap_err().to_string().contains("needs 67.1 MB"));
    assert!(after == [7; 4096]);
}

#[test]
fn without_a_disk_there_is_nothing_to_reset() {
    let mut disks = Disks::unknown("No disk has the identity.");
    let told = ask_at_boot(&mut disks).unwrap_err().to_string();
    assert_eq!(told, "No disk has the identity.");
}

#[test]
fn another_disk_in_the_same_place_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let disk = disk(directory.path(), &[7; 8192], MIN_DATA_BYTES);
    let target = Target::Partition {
        disk,
        table: Guid::from_random([1; 16]),
    };
    let roots = Roots {
        sys: directory.path().join("sys"),
        dev: directory.path().to_owned(),
    };
    assert!(target.ask(&roots).is_err());
    let after = std::fs::read(directory.path().join("vdb")).unwrap();
    assert!(after[..8192] == [7; 8192]);
}
