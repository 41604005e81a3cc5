//! The power goes at any moment of a first boot, a growth, a factory reset or a repair, in the
//! middle of a write or between two; and again in the boot after it. In the end there is a whole
//! partition table, a whole file system, and every byte of everybody else's.

use std::io::{Seek, SeekFrom, Write};
use std::process::Command;

use kos_manifest::disk::{BOOT_PARTITION_TYPE, DATA_PARTITION_TYPE, marker_sector};
use kos_manifest::guid::Guid;
use kos_sys::SysError;
use kos_sys::data_partition::{self, Fresh};
use kos_sys::gpt::{Origin, Table};
use kos_sys::provision::{
    self, PartitionedDisk, ask_for_empty, fit, make_if_asked, read_and_repair,
};
use kos_sys::seed::Seed;

use crate::disk::{Disk, cut};
use crate::random::Random;
use crate::table::{self, Entry, SECTOR};

const MIB: usize = 1 << 20;
/// Sectors in a mebibyte.
const M: u64 = 2048;
/// The boot partition: the second mebibyte. Its first sector stands for the file that asks for a
/// reset, as a directory's sector would.
const BOOT: Entry = (BOOT_PARTITION_TYPE, M, 2 * M - 1);
/// The data partition of the image, just large enough for the seed.
const DATA: Entry = (DATA_PARTITION_TYPE, 2 * M, 12 * M - 1);
const IMAGE: usize = 13 * MIB;
const DISK: usize = 18 * MIB;
const ASKED: [u8; SECTOR] = [b'!'; SECTOR];
/// How often each place is cut: the sectors that survive are others each time.
const ROUNDS: u64 = 2;

/// The seed of an image, smaller: what `mke2fs` makes with the options of xtask/src/disk/seed.rs.
pub fn seed() -> Option<Vec<u8>> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("seed");
    let image = std::fs::File::create(&path).unwrap();
    image.set_len(10 * MIB as u64).unwrap();
    let features = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,\
                    flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,\
                    metadata_csum,metadata_csum_seed";
    let made = Command::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-b", "4096", "-O", features])
        .args([
            "-I",
            "256",
            "-J",
            "size=4",
            "-E",
            "lazy_itable_init=0,lazy_journal_init=0",
        ])
        .arg(&path)
        .status();
    match made {
        Ok(status) => assert!(status.success(), "mke2fs: {status}"),
        Err(_) => {
            eprintln!("skipped: mke2fs is not installed");
            return None;
        }
    }
    let bytes = std::fs::read(&path).unwrap();
    let mut seed = format!("kos-seed 1 4096 {}\n", bytes.len() / 4096).into_bytes();
    for (number, block) in (0u64..).zip(bytes.chunks_exact(4096)) {
        if block.iter().any(|byte| *byte != 0) {
            seed.extend_from_slice(&number.to_le_bytes());
            seed.extend_from_slice(block);
        }
    }
    Some(seed)
}

/// An image as it comes out of the build, on a larger disk, with the marker in its data partition
/// where it has one. Everything else on the disk is noise that nobody zeroed.
fn flashed(entries: &[Entry]) -> Vec<u8> {
    let mut random = Random(1);
    let mut disk: Vec<u8> = (0..DISK / 8)
        .flat_map(|_| random.number().to_le_bytes())
        .collect();
    for (number, sector) in table::sectors(entries, (IMAGE / SECTOR) as u64) {
        put(&mut disk, number, &sector);
    }
    if entries.contains(&DATA) {
        put(&mut disk, DATA.1, &marker_sector());
    }
    disk
}

/// A boot partition and a data partition with the marker.
pub fn flashed_image() -> Vec<u8> {
    flashed(&[BOOT, DATA])
}

fn put(disk: &mut [u8], sector: u64, bytes: &[u8]) {
    let at = usize::try_from(sector).unwrap() * SECTOR;
    disk[at..at + bytes.len()].copy_from_slice(bytes);
}

/// What PID 1 does before it mounts anything (init/pid1/src/boot.rs), in its order.
fn boot(disk: &mut Disk, seed: &[u8], random: &mut Random) -> Result<(), SysError> {
    let seed = Seed::parse(seed).unwrap();
    let mut table = read_and_repair(disk)?;
    if reads(disk, &table) == ASKED {
        ask_for_empty(
            disk,
            &mut table,
            Guid::from_random(random.bytes()),
            MIB as u64,
        )?;
        let mut boot = disk.partition(&table, 1)?;
        boot.write_at(0, &[0; SECTOR])?;
        boot.sync()?;
    }
    fit(disk, &mut table)?;
    let number = provision::data_partition(&table).unwrap().number;
    let fresh = Fresh {
        uuid: random.bytes(),
        hash_seed: random.bytes(),
    };
    make_if_asked(disk.partition(&table, number)?.as_mut(), Some(&seed), fresh)?;
    Ok(())
}

fn reads(disk: &mut Disk, table: &Table) -> [u8; SECTOR] {
    let mut sector = [0; SECTOR];
    let boot = disk.partition(table, 1).unwrap();
    boot.read_at(0, &mut sector).unwrap();
    sector
}

/// What must be true of a disk that was booted without a cut.
fn check(content: Vec<u8>, before: &[u8], with_tools: bool) {
    let untouched = |from: u64, to: u64| {
        let range = usize::try_from(from).unwrap() * SECTOR..usize::try_from(to).unwrap() * SECTOR;
        assert!(
            content[range.clone()] == before[range],
            "somebody else's bytes"
        );
    };
    // The boot partition but for the request, and what lies before and between.
    untouched(34, BOOT.1);
    untouched(BOOT.1 + 1, BOOT.2 + 1);
    let mut disk = Disk::new(content);
    let table = Table::read(disk.whole()).unwrap();
    assert_eq!(table.origin, Origin::Primary);
    assert_ne!(reads(&mut disk, &table), ASKED);
    let data = provision::data_partition(&table).unwrap().clone();
    assert_eq!(
        (data.first, data.last),
        (2 * M, 17 * M - 1),
        "not all of the disk"
    );
    let partition = disk.partition(&table, data.number).unwrap();
    assert!(!data_partition::is_marked(partition.as_ref()).unwrap());
    drop(partition);
    let content = disk.into_content().bytes;
    // The other copy says the same.
    let mut damaged = content.clone();
    damaged[SECTOR..2 * SECTOR].fill(0);
    let backup = Table::read(Disk::new(damaged).whole()).unwrap();
    assert_eq!(backup.origin, Origin::Backup);
    assert_eq!(backup.partitions(), table.partitions());
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("image");
    let mut file = std::fs::File::create(&image).unwrap();
    let start = usize::try_from(data.start_bytes()).unwrap();
    file.write_all(&content[start..start + usize::try_from(data.bytes()).unwrap()])
        .unwrap();
    succeeds("e2fsck", &["-f", "-n"], &image, "");
    if with_tools {
        file.seek(SeekFrom::Start(0)).unwrap();
        file.write_all(&content).unwrap();
        succeeds("sgdisk", &["--verify"], &image, "No problems found");
    }
}

fn succeeds(program: &str, arguments: &[&str], image: &std::path::Path, says: &str) {
    let Ok(output) = Command::new(program).args(arguments).arg(image).output() else {
        eprintln!("skipped: {program} is not installed");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains(says),
        "{program}: {output:?}"
    );
}

/// Boots `before` with a cut at every place, then boots what is left: cut again somewhere, twice at
/// most, then to the end.
fn survives(before: &[u8]) {
    let Some(seed) = seed() else { return };
    let mut random = Random(3);
    let mut disk = Disk::new(before.to_vec());
    boot(&mut disk, &seed, &mut random).unwrap();
    let whole = disk.into_content();
    let acts = whole.acts;
    assert!(acts.len() > 10, "nothing was done");
    check(whole.bytes, before, true);
    for count in 0..=acts.len() {
        for round in 0..ROUNDS {
            let mut bytes = cut(before, &acts, count, &mut random);
            for _ in 0..random.below(3) {
                let mut disk = Disk::new(bytes.clone());
                boot(&mut disk, &seed, &mut random).unwrap();
                let again = disk.into_content().acts;
                let count = random.index(again.len() + 1);
                bytes = cut(&bytes, &again, count, &mut random);
            }
            let mut disk = Disk::new(bytes);
            boot(&mut disk, &seed, &mut random).unwrap();
            // A second boot has nothing left to do.
            let bytes = disk.into_content().bytes;
            let mut disk = Disk::new(bytes);
            boot(&mut disk, &seed, &mut random).unwrap();
            let content = disk.into_content();
            assert!(content.acts.is_empty(), "a settled disk is written to");
            check(content.bytes, before, round == 0);
        }
    }
}

#[test]
fn a_first_boot_survives_a_cut_anywhere() {
    survives(&flashed(&[BOOT, DATA]));
}

#[test]
fn a_reset_survives_a_cut_anywhere() {
    let Some(seed) = seed() else { return };
    let mut disk = Disk::new(flashed(&[BOOT, DATA]));
    boot(&mut disk, &seed, &mut Random(5)).unwrap();
    let mut used = disk.into_content().bytes;
    put(&mut used, BOOT.1, &ASKED);
    survives(&used);
}

#[test]
fn a_new_data_partition_survives_a_cut_anywhere() {
    let mut disk = flashed(&[BOOT]);
    put(&mut disk, BOOT.1, &ASKED);
    survives(&disk);
}

#[test]
fn a_disk_whose_first_table_is_damaged_survives_a_cut_anywhere() {
    let Some(seed) = seed() else { return };
    let mut disk = Disk::new(flashed(&[BOOT, DATA]));
    boot(&mut disk, &seed, &mut Random(7)).unwrap();
    let mut damaged = disk.into_content().bytes;
    damaged[SECTOR + 60] ^= 1;
    put(&mut damaged, BOOT.1, &ASKED);
    survives(&damaged);
}

/// The tests above can fail: a maker that clears its marker too early is caught.
#[test]
fn a_cut_in_a_careless_order_does_harm() {
    let Some(seed) = seed() else { return };
    let parsed = Seed::parse(&seed).unwrap();
    let before = flashed(&[BOOT, DATA]);
    let mut disk = Disk::new(before.clone());
    let table = read_and_repair(&mut disk).unwrap();
    let mut partition = disk.partition(&table, 2).unwrap();
    partition.zero(0, 512).unwrap();
    for (at, block) in parsed.pieces() {
        partition.write_at(at, block).unwrap();
    }
    drop(partition);
    let acts = disk.into_content().acts;
    let mut random = Random(9);
    let harmed = (0..acts.len()).any(|count| {
        let mut disk = Disk::new(cut(&before, &acts, count, &mut random));
        boot(&mut disk, &seed, &mut random).unwrap();
        let content = disk.into_content().bytes;
        let start = usize::try_from(DATA.1).unwrap() * SECTOR;
        let superblock = &content[start + 1024..start + 2048];
        superblock[0x38..0x3a] != [0x53, 0xef]
    });
    assert!(harmed);
}
