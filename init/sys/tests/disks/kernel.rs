//! What only a kernel can show: that it takes partitions one by one, lets a mounted one grow, and
//! mounts and grows what was made from a seed. Needs root and a loop device; says so where there
//! is none.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use kos_sys::data_partition::Fresh;
use kos_sys::ext4::{self, Room, Superblock};
use kos_sys::gpt::Table;
use kos_sys::medium::{Device, Medium};
use kos_sys::mount::{MountFlags, UnmountFlags, mount, unmount};
use kos_sys::partitions::{known, show};
use kos_sys::provision::make_if_asked;
use kos_sys::seed::Seed;

use crate::power_cut::{flashed_image, seed};

const MIB: u64 = 1 << 20;

/// A file as a disk of the machine, until it is dropped.
struct Loop {
    device: PathBuf,
    mounted: Option<PathBuf>,
}

impl Loop {
    fn attach(image: &Path) -> Option<Self> {
        let output = Command::new("losetup")
            .args(["--find", "--show", "--partscan"])
            .arg(image)
            .output();
        match output {
            Ok(output) if output.status.success() => {
                let device = String::from_utf8(output.stdout).unwrap();
                Some(Loop {
                    device: device.trim().into(),
                    mounted: None,
                })
            }
            other => {
                eprintln!("skipped: no loop device: {other:?}");
                None
            }
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        if let Some(mounted) = &self.mounted {
            let _ = unmount(mounted, UnmountFlags::empty());
        }
        let _ = Command::new("losetup")
            .arg("--detach")
            .arg(&self.device)
            .status();
    }
}

#[test]
fn a_mounted_data_partition_grows_with_its_disk() {
    let Some(seed) = seed() else { return };
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("image");
    std::fs::write(&image, flashed_image()).unwrap();
    let Some(mut disk) = Loop::attach(&image) else {
        return;
    };
    let (sys, dev) = (Path::new("/sys"), Path::new("/dev"));
    let mut whole = Device::open_to_write(&disk.device).unwrap();
    let mut table = Table::read(&whole).unwrap();
    let node = show(sys, dev, &whole, &table, 2).unwrap();
    assert_eq!(show(sys, dev, &whole, &table, 2).unwrap(), node);

    let mut partition = Device::open_to_write(&node).unwrap();
    assert_eq!(partition.bytes(), 10 * MIB);
    let fresh = Fresh {
        uuid: [0x5a; 16],
        hash_seed: [0xa5; 16],
    };
    let seed = Seed::parse(&seed).unwrap();
    assert!(make_if_asked(&mut partition, Some(&seed), fresh).unwrap());
    let mount_point = directory.path().join("data");
    std::fs::create_dir(&mount_point).unwrap();
    let source = node.to_str().unwrap();
    mount(source, &mount_point, "ext4", MountFlags::empty(), "").unwrap();
    disk.mounted = Some(mount_point.clone());
    std::fs::write(mount_point.join("file"), vec![7; 1 << 20]).unwrap();

    table.fit_to(whole.bytes());
    assert!(table.grow_last());
    table.write(&mut whole).unwrap();
    assert_eq!(show(sys, dev, &whole, &table, 2).unwrap(), node);
    let name = disk.device.file_name().unwrap().to_str().unwrap();
    assert_eq!(known(sys, name).unwrap()[0].sectors, 15 * MIB / 512);
    let partition = Device::open_to_read(&node).unwrap();
    assert_eq!(partition.bytes(), 15 * MIB);
    let root = ext4::open_root(&mount_point).unwrap();
    let grown = ext4::grow(root.as_fd(), partition.bytes() / 4096);
    drop(root);
    let superblock = Superblock::read(&partition).unwrap().unwrap();
    assert_eq!(superblock.uuid, [0x5a; 16]);
    match grown {
        Ok(()) => {
            assert_eq!(superblock.bytes(), 15 * MIB);
            assert!(Room::of(&mount_point).unwrap().bytes > 8 * MIB);
        }
        // A container may lack CAP_SYS_RESOURCE; a guest of the end-to-end tests does not.
        Err(error) if error.errno() == Some(libc::EPERM) => {
            eprintln!("skipped: no file system may be grown here");
        }
        Err(error) => panic!("{}", error.full()),
    }
    let loop_name = node.file_name().unwrap().to_str().unwrap();
    assert_eq!(ext4::errors(sys, loop_name).unwrap(), 0);

    unmount(&mount_point, UnmountFlags::empty()).unwrap();
    disk.mounted = None;
    let checked = Command::new("e2fsck")
        .args(["-f", "-n"])
        .arg(&node)
        .output();
    assert!(checked.is_ok_and(|output| output.status.success()));
}
