//! Tests of `flash`: whole images to files, and to a loop device where that can be.

use super::*;
use crate::disk::fatfile;
use crate::disk::gpt::{SECTOR, Table};
use crate::disk::guid;
use crate::disk::layout::Layout;
use crate::disk::window::Window;
use crate::disk::write;
use clap::Parser;
use std::fs::File;
use std::os::unix::fs::FileExt;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    flash: FlashArgs,
}

/// A directory with an image for a Raspberry Pi: the one with the most to change.
struct Fixture {
    directory: tempfile::TempDir,
    stages: Stages,
}

const IMAGE_GUID: &str = "kos.disk=01234567-89ab-8cde-8f01-23456789abcd";

impl Fixture {
    fn new() -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let fixture = Fixture {
            stages: Stages::new(directory.path().to_path_buf()),
            directory,
        };
        let disk = crate::board::Disk {
            first_partition: 1 << 20,
            boot_partition: 64 << 20,
            slot_partitions: Some(64 << 20),
        };
        let layout = Layout::raspberry_pi(
            guid::derived(&["disk"]),
            &disk,
            vec![("autoboot.txt".into(), b"[all]\nboot_partition=2\n".to_vec())],
            vec![
                (
                    "cmdline.txt".into(),
                    format!("quiet {IMAGE_GUID}\n").into_bytes(),
                ),
                ("kernel8.img".into(), vec![0x5a; 3_000_000]),
            ],
        )
        .unwrap();
        write::write(&layout, &fixture.path("kos-test.img")).unwrap();
        fixture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn compress(&mut self) {
        let (image, target) = (self.path("kos-test.img"), self.path("kos-test.img.zst"));
        self.stages
            .run("compress", |stage| write::compress(&image, &target, stage))
            .unwrap();
    }

    fn flash(&mut self, arguments: &[&str]) -> Result<()> {
        let workspace = Workspace::find()?;
        let line = Line::try_parse_from([&["flash"], arguments].concat())?;
        run(&workspace, &mut self.stages, &line.flash)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }
}

fn table(file: &File) -> Table {
    let mut head = vec![0; 34 * 512];
    file.read_exact_at(&mut head, 0).unwrap();
    Table::from_bytes(&head).unwrap()
}

fn file_on(disk: &File, partition: usize, path: &str) -> Option<String> {
    let partition = table(disk).partitions[partition].clone();
    let mut volume = Window::new(disk, partition.first * SECTOR, partition.sectors * SECTOR);
    let bytes = fatfile::read(&mut volume, path).unwrap()?;
    Some(String::from_utf8(bytes).unwrap())
}

#[test]
fn a_flashed_file_is_a_disk_of_its_own_with_settings() {
    let mut fixture = Fixture::new();
    fixture.compress();
    let (image, target) = (fixture.text("kos-test.img.zst"), fixture.text("disk"));
    std::fs::write(fixture.path("home.toml"), "a = 1\n").unwrap();
    let profile = fixture.text("home.toml");
    let arguments = [
        "--image",
        &image,
        "--to",
        &target,
        "--size",
        "1G",
        "--hostname",
        "kitchen",
        "--profile",
        &profile,
    ];
    fixture.flash(&arguments).unwrap();
    let disk = File::open(&target).unwrap();
    assert_eq!(disk.metadata().unwrap().len(), 1 << 30);
    let first = table(&disk);
    let arguments_of_first = file_on(&disk, 1, "cmdline.txt").unwrap();
    assert_eq!(
        arguments_of_first,
        format!("quiet kos.disk={}\n", first.disk_guid)
    );
    let settings = file_on(&disk, 0, "kos-box.toml").unwrap();
    assert!(settings.contains("hostname = \"kitchen\""), "{settings}");
    assert_eq!(file_on(&disk, 0, "kos.toml").unwrap(), "a = 1\n");
    assert!(
        file_on(&disk, 0, "autoboot.txt")
            .unwrap()
            .contains("boot_partition=2")
    );
    let start = first.partitions[3].first * SECTOR;
    let mut marker = [0; 16];
    disk.read_exact_at(&mut marker, start).unwrap();
    assert_eq!(marker, kos_manifest::disk::MAKE_MARKER);
    let report = Command::new(find_program("sgdisk").unwrap())
        .args(["-v", &target])
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&report.stdout).into_owned();
    assert!(report.contains("No problems found"), "{report}");
    for partition in &first.partitions[..3] {
        let mut volume = vec![0; (partition.sectors * SECTOR) as usize];
        disk.read_exact_at(&mut volume, partition.first * SECTOR)
            .unwrap();
        std::fs::write(fixture.path("volume"), volume).unwrap();
        let fsck = Command::new(find_program("fsck.vfat").unwrap())
            .arg("-n")
            .arg(fixture.path("volume"))
            .output()
            .unwrap();
        assert!(fsck.status.success(), "{fsck:?}");
    }

    let error = fixture.flash(&arguments).unwrap_err().to_string();
    assert!(error.contains("--force writes over it"), "{error}");
    fixture
        .flash(&[&arguments[..], &["--force"]].concat())
        .unwrap();
    let second = table(&File::open(&target).unwrap());
    assert_ne!(second.disk_guid, first.disk_guid);
    for (one, other) in first.partitions.iter().zip(&second.partitions) {
        assert_ne!(one.guid, other.guid);
        assert_eq!(
            (one.first, one.sectors, &one.name),
            (other.first, other.sectors, &other.name)
        );
    }
}

#[test]
fn nothing_is_written_when_something_is_wrong() {
    let mut fixture = Fixture::new();
    let (image, target) = (fixture.text("kos-test.img"), fixture.text("disk"));
    let (image, target) = (image.as_str(), target.as_str());
    for (arguments, complaint) in [
        (
            vec!["--image", image, "--to", target, "--size", "64M"],
            "the image needs",
        ),
        (
            vec!["--image", "/no/such.img", "--to", target],
            "open the image /no/such.img",
        ),
        (
            vec!["--image", image, "--to", target, "--hostname", "a b"],
            "--hostname: found",
        ),
        (
            vec!["--image", image, "--to", "/dev/null"],
            "it is there and is no file",
        ),
        (vec!["--image", image, "/dev/null"], "it is no disk"),
        (
            vec!["--board", "qemu-x86_64", "--to", target],
            "starts without a disk",
        ),
        (vec!["--board", "no-such", "--to", target], "no-such"),
        (vec!["--to", target], "--board"),
        (vec!["--image", image], "DEVICE"),
    ] {
        let error = format!("{:#}", fixture.flash(&arguments).unwrap_err());
        assert!(error.contains(complaint), "{arguments:?}: {error}");
        assert!(!Path::new(target).exists(), "{arguments:?}");
    }
    fixture
        .flash(&["--image", image, "--to", target, "--dry-run", "--json"])
        .unwrap();
    assert!(!Path::new(target).exists());
    std::fs::write(fixture.path("letter.img"), vec![b'x'; 1 << 20]).unwrap();
    let letter = fixture.text("letter.img");
    let error = fixture
        .flash(&["--image", &letter, "--to", target])
        .unwrap_err();
    assert!(
        format!("{error:#}").contains("no image of kOS"),
        "{error:#}"
    );
    assert!(!Path::new(target).exists());
}

#[test]
fn a_disk_that_lies_about_what_it_holds_is_found_out() {
    let mut fixture = Fixture::new();
    let image = fixture.path("kos-test.img");
    let path = fixture.path("disk");
    let outcome = fixture.stages.run("lie", |stage| {
        let source = Source::unpack(&image, stage)?;
        let target = Target::file(&path, source.bytes())?;
        target.write(&source, stage)?;
        target.verify(&path, &source, stage)?;
        // The first bytes of the slot's kernel, or near: a byte that is not zero.
        let start = source.table().partitions[1].first * SECTOR;
        File::options()
            .write(true)
            .open(&path)?
            .write_all_at(b"?", start)?;
        target.verify(&path, &source, stage)
    });
    let error = outcome.unwrap_err().to_string();
    let start = (1 << 20) + (64 << 20);
    assert!(
        error.contains(&format!("written at byte {start}:")),
        "{error}"
    );
}

#[test]
fn what_is_shown_names_the_disk_and_the_next_steps_the_address() {
    let disk = Disk {
        device: "/dev/sdb".into(),
        model: Some("SanDisk Ultra".to_owned()),
        serial: Some("4C53".to_owned()),
        transport: Transport::Usb,
        bytes: 15_931_539_456,
        removable: true,
        contents: vec![device::Part {
            name: "sdb1".to_owned(),
            bytes: 256 << 20,
            holds: Some("FAT32"),
            mounted: vec!["/media/card".to_owned()],
        }],
        refusals: Vec::new(),
    };
    let mut internal = disk.clone();
    internal.removable = false;
    assert!(refusals_of(&disk, false).is_empty());
    assert!(refusals_of(&internal, false)[0].contains("not removable (USB); --force"));
    assert!(refusals_of(&internal, true).is_empty());
    internal.refusals.push("it is mounted".to_owned());
    assert_eq!(refusals_of(&internal, true), ["it is mounted"]);
    let plan = Plan {
        image: "kos-rpi4.img.zst".into(),
        image_bytes: 322_961_408,
        target: "/dev/sdb".into(),
        target_bytes: disk.bytes,
        disk: Some(disk),
        settings: vec!["kos-box.toml".to_owned()],
        refusals: Vec::new(),
    };
    assert_eq!(
        plan.text(),
        "image   kos-rpi4.img.zst (323.0 MB)\n\
         target  /dev/sdb, 15.9 GB, SanDisk Ultra, serial 4C53, USB, removable\n\
         now     sdb1  268.4 MB  FAT32, mounted at /media/card\n\
         adds    kos-box.toml\n"
    );
    let values = "[network]\naddress = \"192.168.1.20/24\"\n";
    let values = kos_manifest::box_settings::BoxSettings::parse("test", values).unwrap();
    let settings = Settings {
        files: Vec::new(),
        values,
    };
    let text = next_steps(&plan, &settings);
    assert!(text.contains("http://192.168.1.20/"), "{text}");
    assert!(is_name_of("sdb", Path::new("/dev/sdb"), "sdb"));
    assert!(is_name_of("/dev/sdb", Path::new("/dev/sdb"), "sdb"));
    assert!(!is_name_of("y", Path::new("/dev/sdb"), "sdb"));
}

/// Detaches the loop device whatever happens.
struct LoopDevice(String);

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

fn loop_device(file: &Path) -> Option<LoopDevice> {
    let output = Command::new(find_program("losetup")?)
        .args(["--find", "--show"])
        .arg(file)
        .output()
        .ok()?;
    let device = String::from_utf8(output.stdout).ok()?;
    output
        .status
        .success()
        .then(|| LoopDevice(device.trim().to_owned()))
}

#[test]
fn a_loop_device_is_written_only_by_force_and_never_when_mounted() {
    let mut fixture = Fixture::new();
    let backing = fixture.path("backing");
    let file = File::create_new(&backing).unwrap();
    // What was there before must not show through.
    file.write_all_at(&vec![0xff; 330 << 20], 0).unwrap();
    let Some(device) = loop_device(&backing) else {
        eprintln!("skipped: needs the right to make a loop device");
        return;
    };
    let device = device.0.as_str();
    let image = fixture.text("kos-test.img");
    let error = fixture
        .flash(&["--image", &image, "--yes", device])
        .unwrap_err()
        .to_string();
    assert!(error.contains("not removable (a loop device)"), "{error}");
    let write_it = [
        "--image",
        &image,
        "--force",
        "--yes",
        "--hostname",
        "a",
        device,
    ];
    fixture.flash(&write_it).unwrap();
    let disk = File::open(device).unwrap();
    let found = table(&disk);
    let arguments = file_on(&disk, 1, "cmdline.txt").unwrap();
    assert!(
        arguments.contains(&found.disk_guid.to_string()),
        "{arguments}"
    );
    assert!(file_on(&disk, 0, "kos-box.toml").is_some());
    let data = &found.partitions[3];
    let mut bytes = vec![0; 1 << 20];
    disk.read_exact_at(&mut bytes, data.first * SECTOR).unwrap();
    assert!(bytes[16..].iter().all(|byte| *byte == 0));
    drop(disk);

    let made = Command::new(find_program("mke2fs").unwrap())
        .args(["-q", "-F", device])
        .status()
        .unwrap();
    assert!(made.success());
    let place = fixture.path("place");
    std::fs::create_dir(&place).unwrap();
    let mounted = Command::new("mount")
        .arg(device)
        .arg(&place)
        .status()
        .unwrap();
    if !mounted.success() {
        eprintln!("skipped in part: needs the right to mount");
        return;
    }
    let error = fixture.flash(&write_it).unwrap_err().to_string();
    let exclusive = Target::disk(Path::new(device), 1 << 20).map(drop);
    assert!(
        Command::new("umount")
            .arg(&place)
            .status()
            .unwrap()
            .success()
    );
    assert!(error.contains("is mounted at"), "{error}");
    assert!(
        exclusive.is_err(),
        "the kernel, too, refuses a mounted disk"
    );
}
