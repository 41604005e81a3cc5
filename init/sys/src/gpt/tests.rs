//! Tables of our own, of `sgdisk` and of `sfdisk`, changed and read again by both.

use std::path::Path;
use std::process::Command;

use kos_manifest::disk::{BOOT_PARTITION_TYPE, DATA_PARTITION_TYPE, MIN_DATA_BYTES};

use super::*;
use crate::medium::Device;

const MIB: u64 = 1 << 20;
/// Sectors in a mebibyte.
const M: u64 = MIB / SECTOR_BYTES;

fn image(directory: &Path, bytes: u64) -> Device {
    let path = directory.join("image");
    let file = std::fs::File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .unwrap();
    file.set_len(bytes).unwrap();
    Device::open_to_write(&path).unwrap()
}

/// Runs a program; `None`, said aloud, where it is not installed.
fn run(program: &str, arguments: &[&str], image: &Path) -> Option<String> {
    match Command::new(program).args(arguments).arg(image).output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{program}: {output:?}");
            Some(text)
        }
        Err(_) => {
            eprintln!("skipped: {program} is not installed");
            None
        }
    }
}

/// A boot partition and a data partition on 128 MiB, as `sgdisk` makes them.
fn two_partitions(directory: &Path) -> Option<Device> {
    let device = image(directory, 128 * MIB);
    let arguments = [
        "--disk-guid=6B4F5344-0000-4000-8000-000000000001",
        "--new=1:1M:+32M",
        "--typecode=1:EF00",
        "--change-name=1:kos-boot",
        "--new=2:0:+64M",
        "--typecode=2:6B4F5344-6174-6100-8000-6B6F73646174",
        "--partition-guid=2:6B4F5344-0000-4000-8000-000000000002",
        "--attributes=2:set:63",
        "--change-name=2:kos-data",
    ];
    run("sgdisk", &arguments, device.path())?;
    Some(device)
}

fn verify(device: &Device) {
    let told = run("sgdisk", &["--verify"], device.path()).unwrap();
    assert!(told.contains("No problems found"), "{told}");
    assert!(!told.contains("Warning"), "{told}");
}

/// What sfdisk says about the partitions: first sector and length.
fn sfdisk(device: &Device) -> Vec<(u64, u64)> {
    let Some(told) = run("sfdisk", &["--dump"], device.path()) else {
        return Vec::new();
    };
    let value = |line: &str, key: &str| {
        let text = line.split_once(key).unwrap().1;
        text.split(',').next().unwrap().trim().parse().unwrap()
    };
    told.lines()
        .filter(|line| line.contains("start="))
        .map(|line| (value(line, "start="), value(line, "size=")))
        .collect()
}

#[test]
fn a_table_of_sgdisk_is_understood_and_written_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let Some(mut device) = two_partitions(directory.path()) else {
        return;
    };
    let table = Table::read(&device).unwrap();
    assert_eq!(table.origin, Origin::Primary);
    assert_eq!(
        table.disk.to_string(),
        "6b4f5344-0000-4000-8000-000000000001"
    );
    let [boot, data] = table.partitions() else {
        panic!("{table:?}");
    };
    assert_eq!((boot.number, boot.kind), (1, BOOT_PARTITION_TYPE));
    assert_eq!((boot.start_bytes(), boot.bytes()), (MIB, 32 * MIB));
    assert_eq!((data.number, data.kind), (2, DATA_PARTITION_TYPE));
    assert_eq!(data.attributes, 1 << 63);
    assert_eq!(
        data.name[..8],
        "kos-data".encode_utf16().collect::<Vec<_>>()
    );
    let known = sfdisk(&device);
    if !known.is_empty() {
        let ours = [boot, data].map(|one| (one.first, one.last - one.first + 1));
        assert_eq!(known, ours);
    }
    // Nothing differs, so nothing is written: every byte is where sgdisk has it.
    assert!(!table.write(&mut device).unwrap());
}

#[test]
fn an_image_on_a_larger_disk_takes_all_of_it() {
    let directory = tempfile::tempdir().unwrap();
    if two_partitions(directory.path()).is_none() {
        return;
    }
    let mut device = image(directory.path(), 300 * MIB);
    let mut table = Table::read(&device).unwrap();
    table.fit_to(device.bytes());
    assert!(table.grow_last() && !table.grow_last());
    assert!(table.write(&mut device).unwrap());
    assert!(!table.write(&mut device).unwrap());
    assert_eq!(Table::read(&device).unwrap(), table);
    // The last mebibyte is not whole, as the second copy of the table is in it.
    assert_eq!(table.last().unwrap().bytes(), (300 - 33 - 1) * MIB);
    verify(&device);
    let known = sfdisk(&device);
    assert!(known.is_empty() || known == [(M, 32 * M), (33 * M, 266 * M)]);
}

#[test]
fn a_damaged_beginning_is_read_from_the_end_and_mended() {
    let directory = tempfile::tempdir().unwrap();
    let Some(mut device) = two_partitions(directory.path()) else {
        return;
    };
    let whole = Table::read(&device).unwrap();
    for offset in [512 + 16, 512 + 80, 1024 + 130] {
        device.write_at(offset, &[0xff; 4]).unwrap();
        let table = Table::read(&device).unwrap();
        assert_eq!(table.origin, Origin::Backup);
        assert_eq!(table.partitions(), whole.partitions());
        assert!(table.write(&mut device).unwrap());
        assert_eq!(Table::read(&device).unwrap(), whole);
    }
    verify(&device);
    device.zero(512, 512).unwrap();
    device.zero(device.bytes() - 512, 512).unwrap();
    let error = Table::read(&device).unwrap_err().full();
    assert!(
        error.contains("at its beginning no table is there"),
        "{error}"
    );
}

#[test]
fn a_partition_is_added_where_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let Some(mut device) = two_partitions(directory.path()) else {
        return;
    };
    let mut table = Table::read(&device).unwrap();
    let guid = Guid::from_random([7; 16]);
    let add = |table: &mut Table, min: u64| table.add(DATA_PARTITION_TYPE, guid, "kos-data", min);
    assert_eq!(add(&mut table, MIN_DATA_BYTES), None);
    assert_eq!(add(&mut table, MIB), Some(3));
    table.write(&mut device).unwrap();
    verify(&device);
    assert_eq!(Table::read(&device).unwrap(), table);
    let added = table.partition(3).unwrap();
    assert_eq!((added.first, added.bytes()), (97 * M, 30 * MIB));
    assert_eq!(add(&mut table, 0), None);
    run("sgdisk", &["--delete=2"], device.path()).unwrap();
    let table = Table::read(&device).unwrap();
    assert_eq!(table.last().unwrap().number, 3);
}

#[test]
fn a_disk_that_shrank_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    if two_partitions(directory.path()).is_none() {
        return;
    }
    let device = image(directory.path(), 90 * MIB);
    let error = Table::read(&device).unwrap_err().full();
    assert!(error.contains("the disk has 184320 sectors"), "{error}");
}
