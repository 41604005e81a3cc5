//! A disk that something is to be written to: what the kernel says about it, and whether it may.
//!
//! Everything is read from /sys, /proc and the disk itself, below roots that a test can replace.

use std::fs::File;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::probe;

/// What /sys counts in, and what a partition table of ours does.
const SECTOR: u64 = 512;

/// Where the kernel's directories are.
#[derive(Debug, Clone)]
pub struct Roots {
    /// `/sys`.
    pub sys: PathBuf,
    /// `/proc`.
    pub proc: PathBuf,
    /// `/dev`.
    pub dev: PathBuf,
}

impl Roots {
    /// This machine's.
    pub fn real() -> Roots {
        Roots {
            sys: "/sys".into(),
            proc: "/proc".into(),
            dev: "/dev".into(),
        }
    }
}

/// A disk.
#[derive(Debug, Clone, Serialize)]
pub struct Disk {
    /// Its file in /dev.
    pub device: PathBuf,
    /// Its maker's and its own name, where it says them.
    pub model: Option<String>,
    /// Its serial number, where it says one.
    pub serial: Option<String>,
    /// How it is connected.
    pub transport: Transport,
    /// Its size.
    pub bytes: u64,
    /// Whether it can be taken out or unplugged.
    pub removable: bool,
    /// What is on it now; the whole disk itself, where a file system needs no partition.
    pub contents: Vec<Part>,
    /// Why it must not be written.
    pub refusals: Vec<String>,
}

/// How a disk is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// A stick or a disk in a USB case, or a card in a USB reader.
    Usb,
    /// A card in a reader of the machine's own.
    SdCard,
    /// Flash memory that is soldered.
    Emmc,
    /// A disk on PCIe.
    Nvme,
    /// A disk on a cable of the machine's own.
    Ata,
    /// A virtual machine's disk.
    Virtio,
    /// A file.
    Loop,
    /// Something else.
    Other,
}

/// A partition, or a file system on the whole disk.
#[derive(Debug, Clone, Serialize)]
pub struct Part {
    /// Its kernel's name: `sdb1`.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// The file system or other thing on it, where it is known.
    pub holds: Option<&'static str>,
    /// Where it is mounted.
    pub mounted: Vec<String>,
}

impl Disk {
    /// The disk of a device file, or of a link to one as in /dev/disk/by-id.
    pub fn of(path: &Path) -> Result<Disk> {
        let file = path
            .metadata()
            .with_context(|| format!("find the disk {}", path.display()))?;
        ensure!(
            file.file_type().is_block_device(),
            "{}: it is no disk (for an image in a file: --to FILE)",
            path.display()
        );
        let (major, minor) = (
            rustix::fs::major(file.rdev()),
            rustix::fs::minor(file.rdev()),
        );
        let link = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
        let directory = link
            .canonicalize()
            .with_context(|| format!("find {} in /sys", path.display()))?;
        let name = directory.file_name().unwrap_or_default().to_string_lossy();
        Disk::read(&Roots::real(), &name)
    }

    /// Reads what is known about the disk that the kernel calls `name`.
    pub fn read(roots: &Roots, name: &str) -> Result<Disk> {
        let link = roots.sys.join("class/block").join(name);
        let directory = link
            .canonicalize()
            .with_context(|| format!("find the disk {name} in /sys"))?;
        if let Some(number) = text(&directory.join("partition")) {
            let whole = directory.parent().and_then(Path::file_name);
            anyhow::bail!(
                "{name} is partition {number} of a disk; a whole disk is written: /dev/{}",
                whole.unwrap_or_default().display()
            );
        }
        // The kernel writes a slash in a device's name as an exclamation mark.
        let device = roots.dev.join(name.replace('!', "/"));
        let bytes = sectors(&directory.join("size"))? * SECTOR;
        let transport = transport(&directory, name);
        let removable = text(&directory.join("removable")).as_deref() == Some("1")
            || matches!(transport, Transport::Usb | Transport::SdCard);
        let mut disk = Disk {
            model: model(&directory, transport),
            serial: serial(&directory),
            transport,
            bytes,
            removable,
            contents: Vec::new(),
            refusals: Vec::new(),
            device,
        };
        disk.read_contents(roots, &directory, name)?;
        if text(&directory.join("ro")).as_deref() == Some("1") {
            disk.refuse("it is read-only (a card has a switch on its side)");
        }
        if let Some(block) = text(&directory.join("queue/logical_block_size"))
            && block != SECTOR.to_string()
        {
            disk.refuse(format!(
                "its sectors have {block} bytes, and kOS's partition table is for {SECTOR}"
            ));
        }
        if has_entries(&directory.join("slaves")) {
            disk.refuse("it is made of other disks (LVM, RAID or encryption)");
        }
        Ok(disk)
    }

    fn refuse(&mut self, why: impl Into<String>) {
        self.refusals.push(why.into());
    }

    fn read_contents(&mut self, roots: &Roots, directory: &Path, name: &str) -> Result<()> {
        let mounts = Mounts::read(roots)?;
        // Without the right to read the disk its contents are unknown; writing will say so.
        let file = File::open(&self.device).ok();
        let mut parts = vec![(name.to_owned(), directory.to_path_buf(), 0, self.bytes)];
        for entry in std::fs::read_dir(directory).with_context(|| format!("read {name} in /sys"))? {
            let path = entry?.path();
            if path.join("partition").exists() {
                let part = path.file_name().unwrap_or_default().to_string_lossy();
                let start = sectors(&path.join("start"))? * SECTOR;
                let bytes = sectors(&path.join("size"))? * SECTOR;
                parts.push((part.into_owned(), path, start, bytes));
            }
        }
        parts.sort_by_key(|(_, _, start, bytes)| (*start, std::cmp::Reverse(*bytes)));
        for (part, path, start, bytes) in parts {
            let mounted = mounts.of(&part, text(&path.join("dev")).as_deref());
            for place in &mounted {
                self.refuse(match place.as_str() {
                    "/" => format!("this system runs from it ({part} is mounted at /)"),
                    _ => format!("{part} is mounted at {place}; first: umount {place}"),
                });
            }
            if mounts.swaps.contains(&part) {
                self.refuse(format!("{part} is in use as swap space"));
            }
            for holder in entries(&path.join("holders")) {
                let known = text(&roots.sys.join("class/block").join(&holder).join("dm/name"));
                self.refuse(format!(
                    "{part} is in use by {} (LVM, RAID or encryption)",
                    known.unwrap_or(holder)
                ));
            }
            let holds = file
                .as_ref()
                .and_then(|file| probe::probe(file, start, bytes));
            if part != name || holds.is_some() || !mounted.is_empty() {
                self.contents.push(Part {
                    name: part,
                    bytes,
                    holds,
                    mounted,
                });
            }
        }
        Ok(())
    }
}

/// What is in use, by the kernel's names.
struct Mounts {
    /// Major and minor number, source, and place of every mount.
    mounts: Vec<(String, String, String)>,
    swaps: Vec<String>,
}

impl Mounts {
    fn read(roots: &Roots) -> Result<Mounts> {
        let read = |name: &str| {
            let path = roots.proc.join(name);
            std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
        };
        // "36 35 98:0 / /mnt rw - ext4 /dev/sdb1 rw" (proc_pid_mountinfo(5))
        let mounts = read("self/mountinfo")?
            .lines()
            .filter_map(|line| {
                let (own, rest) = line.split_once(" - ")?;
                let own: Vec<_> = own.split(' ').collect();
                let source = rest.split(' ').nth(1)?;
                let place = unescape(own.get(4)?);
                Some((own.get(2)?.to_string(), unescape(source), place))
            })
            .collect();
        let swaps = read("swaps")?
            .lines()
            .skip(1)
            .filter_map(|line| {
                let path = unescape(line.split_whitespace().next()?);
                Some(path.strip_prefix("/dev/")?.to_owned())
            })
            .collect();
        Ok(Mounts { mounts, swaps })
    }

    /// Where a device is mounted: by number, or by name for file systems of several devices.
    fn of(&self, name: &str, number: Option<&str>) -> Vec<String> {
        let source = format!("/dev/{name}");
        let mut places: Vec<_> = self
            .mounts
            .iter()
            .filter(|(of, from, _)| Some(of.as_str()) == number || *from == source)
            .map(|(_, _, place)| place.clone())
            .collect();
        places.dedup();
        places
    }
}

/// A space is `\040` in the kernel's tables.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part
            .get(..3)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                plain.push(char::from(code));
                plain.push_str(&part[3..]);
            }
            None => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

fn transport(directory: &Path, name: &str) -> Transport {
    let path = directory.to_string_lossy();
    let card = || text(&directory.join("device/type"));
    // USB first: a USB case may contain what looks like another bus.
    match () {
        () if path.contains("/usb") => Transport::Usb,
        () if name.starts_with("mmcblk") => match card().as_deref() {
            Some("SD") => Transport::SdCard,
            _ => Transport::Emmc,
        },
        () if name.starts_with("nvme") => Transport::Nvme,
        () if path.contains("/ata") => Transport::Ata,
        () if path.contains("/virtio") => Transport::Virtio,
        () if name.starts_with("loop") => Transport::Loop,
        () => Transport::Other,
    }
}

fn model(directory: &Path, transport: Transport) -> Option<String> {
    let own = |name: &str| text(&directory.join(name));
    if transport == Transport::Loop {
        return own("loop/backing_file");
    }
    let model = own("device/model").or_else(|| own("device/name"))?;
    // A virtio disk's vendor is a number, and an ATA disk's is "ATA".
    match own("device/vendor") {
        Some(vendor) if vendor != "ATA" && !vendor.starts_with("0x") => {
            Some(format!("{vendor} {model}"))
        }
        _ => Some(model),
    }
}

fn serial(directory: &Path) -> Option<String> {
    let own = ["device/serial", "serial"];
    let own = own.iter().find_map(|name| text(&directory.join(name)));
    // A USB device's serial number is some directories further up.
    own.or_else(|| {
        directory
            .ancestors()
            .find(|above| above.join("idVendor").exists())
            .and_then(|device| text(&device.join("serial")))
    })
}

fn sectors(path: &Path) -> Result<u64> {
    let found = text(path).unwrap_or_default();
    found
        .parse()
        .with_context(|| format!("{}: found \"{found}\"", path.display()))
}

/// A file's text without the space around it; none for an empty or missing one.
fn text(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn entries(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn has_entries(directory: &Path) -> bool {
    !entries(directory).is_empty()
}

#[cfg(test)]
#[path = "device_tests.rs"]
mod tests;
