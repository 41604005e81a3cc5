//! Where the box is: what manifests' conditions, timers and limits ask about it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::stable_hash;

/// The deployment profiles that there are.
const PROFILES: [&str; 5] = ["standalone", "browser", "embedded", "server", "cluster"];

/// What tells one machine from another, as far as a machine has it.
const IDENTITIES: [&str; 3] = [
    "/sys/class/dmi/id/product_uuid",
    "/sys/class/dmi/id/board_serial",
    "/proc/device-tree/serial-number",
];

/// More network cards than this do not make a machine more distinct.
const MAX_CARDS: usize = 16;

/// Facts about the box that stay as they are until it restarts.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// The deployment profile.
    pub profile: String,
    /// The board's name; empty when the image does not say.
    pub board: String,
    /// A number that is another one on each machine and the same at each of its boots.
    pub machine: u64,
    /// Device numbers of the disk that `/data` is on; `None` when it is memory.
    pub data_disk: Option<(u32, u32)>,
}

impl Place {
    /// Looks around, once everything is mounted. `profiles` holds the profile of the boot
    /// partition, if there is one.
    pub fn find(profiles: &Path, board: &str, data: &Path) -> Self {
        Place {
            profile: profile(profiles).unwrap_or("standalone").to_owned(),
            board: board.to_owned(),
            machine: machine(),
            data_disk: disk_of(Path::new("/sys"), data),
        }
    }
}

/// The profile by its name: the one key, section or `mode` of the file that there is, in the
/// formats of the modes' own documentation.
fn profile(directory: &Path) -> Option<&'static str> {
    let read = |name: &str| fs::read_to_string(directory.join(name)).ok();
    let word = if let Some(text) = read("kos.json") {
        let value: serde_json::Value = serde_json::from_str(&text).ok()?;
        value.get("mode")?.as_str()?.to_owned()
    } else if let Some(text) = read("kos.yaml") {
        let key = text
            .lines()
            .find_map(|line| line.trim_end().strip_suffix(':'));
        key?.to_owned()
    } else {
        let text = read("kos.toml").or_else(|| read("kos.ini"))?;
        let section = text
            .lines()
            .find_map(|line| line.trim().strip_prefix('[')?.strip_suffix(']'));
        section?.to_owned()
    };
    PROFILES.into_iter().find(|profile| *profile == word)
}

fn machine() -> u64 {
    let identities = IDENTITIES.iter().filter_map(|path| fs::read(path).ok());
    let cards = fs::read_dir("/sys/class/net").into_iter().flatten();
    let mut addresses: Vec<_> = cards
        .take(MAX_CARDS)
        .filter_map(|card| fs::read(card.ok()?.path().join("address")).ok())
        .collect();
    addresses.sort();
    let facts: Vec<Vec<u8>> = identities.chain(addresses).collect();
    stable_hash::hash(facts.iter().map(Vec::as_slice))
}

/// The whole disk that a directory's file system is on: only that can be limited, not a partition.
fn disk_of(sys_root: &Path, directory: &Path) -> Option<(u32, u32)> {
    let device = fs::metadata(directory).ok()?.dev();
    let numbers = (rustix::fs::major(device), rustix::fs::minor(device));
    let block = sys_root.join(format!("dev/block/{}:{}", numbers.0, numbers.1));
    if !block.exists() {
        return None;
    }
    if !block.join("partition").exists() {
        return Some(numbers);
    }
    let text = fs::read_to_string(block.join("../dev")).ok()?;
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_names_its_profile() {
        for (name, text, profile_name) in [
            ("kos.json", r#"{"mode": "browser"}"#, Some("browser")),
            (
                "kos.yaml",
                "# mine\ncluster:\n  agents: 10\n",
                Some("cluster"),
            ),
            (
                "kos.toml",
                "[embedded]\nklp_enabled = true\n",
                Some("embedded"),
            ),
            ("kos.ini", "[server]\ndb_url = x\n", Some("server")),
            ("kos.toml", "[palace]\n", None),
            ("kos.txt", "[server]\n", None),
        ] {
            let directory = tempfile::tempdir().unwrap();
            fs::write(directory.path().join(name), text).unwrap();
            assert_eq!(profile(directory.path()), profile_name, "{name}");
        }
    }

    #[test]
    fn a_partition_is_traced_to_its_disk() {
        let root = tempfile::tempdir().unwrap();
        let device = fs::metadata(root.path()).unwrap().dev();
        let numbers = (rustix::fs::major(device), rustix::fs::minor(device));
        assert_eq!(disk_of(root.path(), root.path()), None);
        let block = root.path().join("dev/block");
        let disk = root.path().join("devices/vda");
        fs::create_dir_all(disk.join("vda2")).unwrap();
        fs::create_dir_all(&block).unwrap();
        let link = block.join(format!("{}:{}", numbers.0, numbers.1));
        std::os::unix::fs::symlink(disk.join("vda2"), link).unwrap();
        assert_eq!(disk_of(root.path(), root.path()), Some(numbers));
        fs::write(disk.join("vda2/partition"), "2\n").unwrap();
        fs::write(disk.join("dev"), "254:0\n").unwrap();
        assert_eq!(disk_of(root.path(), root.path()), Some((254, 0)));
    }

    #[test]
    fn a_machine_is_the_same_each_time() {
        assert_eq!(machine(), machine());
    }
}
