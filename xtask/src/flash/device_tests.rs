//! Tests of `device`, with directories that look like the kernel's.

use super::*;
use std::fs::{create_dir_all, write};
use std::os::unix::fs::symlink;

/// A machine with one USB stick, `sdb`, with two partitions; tests change it.
struct Machine {
    _directory: tempfile::TempDir,
    roots: Roots,
    disk: PathBuf,
}

impl Machine {
    fn new() -> Machine {
        Machine::with("devices/pci0000:00/usb1/1-2/1-2:1.0/host6/block", "sdb")
    }

    fn with(place: &str, name: &str) -> Machine {
        let directory = tempfile::tempdir().unwrap();
        let root = |name: &str| directory.path().join(name);
        let roots = Roots {
            sys: root("sys"),
            proc: root("proc"),
            dev: root("dev"),
        };
        let disk = roots.sys.join(place).join(name);
        create_dir_all(disk.join("device")).unwrap();
        create_dir_all(roots.sys.join("class/block")).unwrap();
        create_dir_all(roots.proc.join("self")).unwrap();
        create_dir_all(&roots.dev).unwrap();
        symlink(&disk, roots.sys.join("class/block").join(name)).unwrap();
        let machine = Machine {
            _directory: directory,
            roots,
            disk,
        };
        machine.put("size", "31116288\n");
        machine.put("removable", "1\n");
        machine.put("ro", "0\n");
        machine.put("dev", "8:16\n");
        machine.put("device/vendor", "SanDisk \n");
        machine.put("device/model", "Ultra Fit       \n");
        for (number, start, size) in [(1, 2048, 524_288), (2, 526_336, 1_048_576)] {
            machine.put(&format!("{name}{number}/partition"), &number.to_string());
            machine.put(&format!("{name}{number}/start"), &start.to_string());
            machine.put(&format!("{name}{number}/size"), &size.to_string());
            machine.put(
                &format!("{name}{number}/dev"),
                &format!("8:{}", 16 + number),
            );
        }
        write(
            machine.roots.proc.join("self/mountinfo"),
            "22 27 0:21 / /proc rw - proc proc rw\n27 1 8:1 / / rw - ext4 /dev/sda1 rw\n",
        )
        .unwrap();
        write(machine.roots.proc.join("swaps"), "Filename Type\n").unwrap();
        let file = File::create(machine.roots.dev.join(name)).unwrap();
        file.set_len(31_116_288 * 512).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"FAT32   ", (2048 * 512) + 82).unwrap();
        machine
    }

    fn put(&self, name: &str, text: &str) {
        let path = self.disk.join(name);
        create_dir_all(path.parent().unwrap()).unwrap();
        write(path, text).unwrap();
    }

    fn mount(&self, line: &str) {
        let path = self.roots.proc.join("self/mountinfo");
        let text = std::fs::read_to_string(&path).unwrap();
        write(path, text + line).unwrap();
    }

    fn read(&self) -> Disk {
        let name = self.disk.file_name().unwrap().to_string_lossy();
        Disk::read(&self.roots, &name).unwrap()
    }

    fn refusal(&self) -> String {
        self.read().refusals.join("; ")
    }
}

#[test]
fn a_stick_says_what_it_is_and_what_is_on_it() {
    let machine = Machine::new();
    write(
        machine.disk.ancestors().nth(3).unwrap().join("idVendor"),
        "0781",
    )
    .unwrap();
    write(
        machine.disk.ancestors().nth(3).unwrap().join("serial"),
        "4C53\n",
    )
    .unwrap();
    let disk = machine.read();
    assert_eq!(disk.model.as_deref(), Some("SanDisk Ultra Fit"));
    assert_eq!(disk.serial.as_deref(), Some("4C53"));
    assert_eq!(disk.transport, Transport::Usb);
    assert_eq!(disk.bytes, 15_931_539_456);
    assert!(disk.removable && disk.refusals.is_empty(), "{disk:?}");
    let names: Vec<_> = disk
        .contents
        .iter()
        .map(|part| part.name.as_str())
        .collect();
    assert_eq!(names, ["sdb1", "sdb2"]);
    assert_eq!(disk.contents[0].holds, Some("FAT32"));
    assert_eq!(disk.contents[0].bytes, 256 << 20);
}

#[test]
fn what_is_in_use_is_refused_and_says_by_what() {
    let machine = Machine::new();
    machine.mount("40 27 8:17 / /media/my\\040card rw - vfat /dev/sdb1 rw\n");
    assert_eq!(
        machine.refusal(),
        "sdb1 is mounted at /media/my card; first: umount /media/my card"
    );
    let machine = Machine::new();
    machine.mount("40 27 0:50 /@ /srv rw - btrfs /dev/sdb2 rw\n");
    assert!(machine.refusal().contains("sdb2 is mounted at /srv"));
    let machine = Machine::new();
    machine.mount("40 27 8:16 / /mnt rw - ext4 /dev/sdb rw\n");
    assert!(machine.refusal().contains("sdb is mounted at /mnt"));
    let machine = Machine::new();
    machine.mount("27 1 8:18 / / rw - ext4 /dev/root rw\n");
    assert!(machine.refusal().contains("this system runs from it"));
    let machine = Machine::new();
    write(
        machine.roots.proc.join("swaps"),
        "Filename Type Size\n/dev/sdb2 partition 524284\n",
    )
    .unwrap();
    assert_eq!(machine.refusal(), "sdb2 is in use as swap space");
    let machine = Machine::new();
    machine.put("sdb2/holders/dm-0", "");
    let mapper = machine.roots.sys.join("class/block/dm-0/dm");
    create_dir_all(&mapper).unwrap();
    write(mapper.join("name"), "vg-root\n").unwrap();
    assert!(machine.refusal().contains("sdb2 is in use by vg-root (LVM"));
    let machine = Machine::new();
    machine.put("ro", "1");
    assert!(machine.refusal().contains("read-only"));
    let machine = Machine::new();
    machine.put("queue/logical_block_size", "4096\n");
    assert!(machine.refusal().contains("its sectors have 4096 bytes"));
    machine.put("queue/logical_block_size", "512\n");
    assert_eq!(machine.refusal(), "");
    machine.put("slaves/sda", "");
    assert!(machine.refusal().contains("made of other disks"));
}

#[test]
fn a_partition_is_no_disk() {
    let machine = Machine::new();
    symlink(
        machine.disk.join("sdb1"),
        machine.roots.sys.join("class/block/sdb1"),
    )
    .unwrap();
    let error = Disk::read(&machine.roots, "sdb1").unwrap_err().to_string();
    assert_eq!(
        error,
        "sdb1 is partition 1 of a disk; a whole disk is written: /dev/sdb"
    );
    assert!(Disk::read(&machine.roots, "sdc").is_err());
    let error = Disk::of(Path::new("/dev/null")).unwrap_err().to_string();
    assert!(error.contains("it is no disk"), "{error}");
}

#[test]
fn what_cannot_be_unplugged_is_known() {
    for (place, name, kind, expected, removable) in [
        (
            "devices/pci/ata1/host0/block",
            "sda",
            "",
            Transport::Ata,
            false,
        ),
        (
            "devices/pci/nvme/nvme0",
            "nvme0n1",
            "",
            Transport::Nvme,
            false,
        ),
        (
            "devices/mmc_host/mmc0/mmc0:1/block",
            "mmcblk0",
            "MMC",
            Transport::Emmc,
            false,
        ),
        (
            "devices/mmc_host/mmc1/mmc1:1/block",
            "mmcblk1",
            "SD",
            Transport::SdCard,
            true,
        ),
        (
            "devices/pci/usb2/ata-like/block",
            "sdc",
            "",
            Transport::Usb,
            true,
        ),
        ("devices/virtual/block", "loop3", "", Transport::Loop, false),
        (
            "devices/pci/virtio1/block",
            "vda",
            "",
            Transport::Virtio,
            false,
        ),
    ] {
        let machine = Machine::with(place, name);
        machine.put("removable", "0");
        machine.put("device/type", kind);
        machine.put("loop/backing_file", "/tmp/disk");
        let disk = machine.read();
        assert_eq!(
            (disk.transport, disk.removable),
            (expected, removable),
            "{name}"
        );
        if name == "loop3" {
            assert_eq!(disk.model.as_deref(), Some("/tmp/disk"));
        }
    }
}
