//! A machine of files: disks with partition tables, and what the kernel and UEFI would say.

use std::fs;

use kos_manifest::disk::BOOT_PARTITION_TYPE;

use super::*;

/// Tables by the book, as the tests of kos-sys have them.
#[path = "../../../sys/tests/disks/table.rs"]
mod sectors;

/// A machine whose disks are sparse files of 64 MiB.
struct Machine {
    root: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for directory in ["sys/block", "dev", "efivars"] {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        Machine { root }
    }

    fn roots(&self) -> Roots {
        Roots {
            sys: self.root.path().join("sys"),
            dev: self.root.path().join("dev"),
        }
    }

    /// Plugs in a disk that holds these sectors; the kernel shows its node last.
    fn plug(&self, name: &str, table: &[(u64, Vec<u8>)]) {
        let device = self.root.path().join("dev").join(name);
        let file = fs::File::create(&device).unwrap();
        file.set_len(64 << 20).unwrap();
        for (sector, bytes) in table {
            std::os::unix::fs::FileExt::write_all_at(&file, bytes, sector * 512).unwrap();
        }
        let entry = self.root.path().join("sys/block").join(name);
        fs::create_dir(&entry).unwrap();
        fs::write(entry.join("size"), "131072\n").unwrap();
        fs::write(entry.join("serial"), format!("serial-{name}\n")).unwrap();
    }

    fn find(&self, arguments: &str, patience: Duration) -> Disks {
        let arguments = Arguments::parse(arguments);
        let efivars = self.root.path().join("efivars");
        let identity = identity(&arguments, None, &efivars);
        let begun = Instant::now().checked_sub(PATIENCE - patience).unwrap();
        Disks::find(&self.roots(), &arguments, identity, begun).unwrap()
    }
}

/// The identity of the disk in `sectors`, and of its first partition.
const DISK: &str = "kos.disk=42424242-4242-4242-4242-424242424242";
const PARTITION: &str = "01010101-0101-0101-0101-010101010101";

fn partitioned() -> Vec<(u64, Vec<u8>)> {
    sectors::sectors(&[(BOOT_PARTITION_TYPE, 2048, 4095)], 131_072)
}

#[test]
fn the_one_disk_with_the_identity_is_found() {
    let machine = Machine::new();
    machine.plug("vda", &[]);
    machine.plug("vdb", &partitioned());
    let disks = machine.find(DISK, PATIENCE);
    assert!(disks.problem().is_none());
    let boot = disks.boot.map_err(|problem| problem.detail).unwrap();
    assert_eq!(boot.disk.name, "vdb");
    assert_eq!(boot.table.partitions().len(), 1);
    // By what UEFI says, too.
    let units = PARTITION.encode_utf16().flat_map(u16::to_le_bytes);
    let variable: Vec<u8> = [6, 0, 0, 0].into_iter().chain(units).collect();
    let name = "LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
    fs::write(machine.root.path().join("efivars").join(name), variable).unwrap();
    let disks = machine.find("", PATIENCE);
    assert!(disks.boot.is_ok_and(|boot| boot.disk.name == "vdb"));
}

#[test]
fn of_a_disk_and_its_clone_neither_is_used() {
    let machine = Machine::new();
    machine.plug("sda", &partitioned());
    machine.plug("sdb", &partitioned());
    let disks = machine.find(DISK, PATIENCE);
    let problem = disks.boot.err().unwrap();
    assert_eq!(problem.code, DataProblem::Ambiguous);
    assert!(problem.detail.contains("dev/sda"), "{}", problem.detail);
    assert!(problem.detail.contains("dev/sdb"), "{}", problem.detail);
}

#[test]
fn a_disk_that_is_late_is_waited_for() {
    let machine = Machine::new();
    let late = machine.root.path().to_owned();
    let roots = machine.roots();
    let arguments = Arguments::parse(DISK);
    let identity = identity(&arguments, None, &late.join("efivars"));
    let finding = std::thread::spawn(move || {
        Disks::find(&roots, &arguments, identity, Instant::now()).unwrap()
    });
    machine.plug("sda", &partitioned());
    let disks = finding.join().unwrap();
    assert!(disks.boot.is_ok_and(|boot| boot.disk.name == "sda"));
}

#[test]
fn what_never_appears_is_told() {
    let machine = Machine::new();
    machine.plug("vda", &[]);
    let disks = machine.find(&format!("{DISK} kos.data=serial:x"), Duration::ZERO);
    assert!(
        disks
            .problem()
            .unwrap()
            .detail
            .contains("serial number 'x'")
    );
    let problem = disks.boot.err().unwrap();
    assert_eq!(problem.code, DataProblem::Missing);
    assert!(problem.detail.contains("42424242-"), "{}", problem.detail);
    let disks = machine.find("kos.data=serial:serial-vda", Duration::ZERO);
    assert!(disks.data.unwrap().is_ok_and(|disk| disk.name == "vda"));
    assert_eq!(disks.boot.err().unwrap().code, DataProblem::NotNamed);
}

#[test]
fn a_damaged_table_is_mended_and_a_read_only_disk_left_as_it_is() {
    let machine = Machine::new();
    machine.plug("sda", &partitioned());
    let path = machine.root.path().join("dev/sda");
    let intact = fs::read(&path).unwrap();
    let mut damaged = intact.clone();
    damaged[512 + 60] ^= 1;
    fs::write(&path, &damaged).unwrap();
    let read_only = machine.root.path().join("sys/block/sda/ro");
    fs::write(&read_only, "1\n").unwrap();
    let disks = machine.find(DISK, Duration::ZERO);
    assert!(disks.boot.is_ok_and(|boot| boot.disk.read_only));
    assert!(fs::read(&path).unwrap() == damaged);
    fs::write(&read_only, "0\n").unwrap();
    let disks = machine.find(DISK, Duration::ZERO);
    assert!(disks.boot.is_ok_and(|boot| boot.damage.is_none()));
    assert!(fs::read(&path).unwrap() == intact);
}
