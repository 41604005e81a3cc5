//! The boot disk's first partition: the owner's settings, a profile, and a request for a factory
//! reset, where a person with any computer can put them.
//!
//! It is mounted read-only, read, and let go. It is written to in one case: the request is taken
//! away once it is on the data partition.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use kos_manifest::box_settings::{BoxSettings, MAX_SETTINGS_BYTES};
use kos_manifest::disk::{BOOT_PARTITION_TYPE, PROFILE_FILES, RESET_FILE, SETTINGS_FILE};
use kos_sys::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::disk::BootDisk;
use crate::spec::RUN;

/// Largest profile, in bytes: a generous multiple of the longest that anybody wrote by hand.
const MAX_PROFILE_BYTES: u64 = 256 * 1024;

/// What stands on the boot partition.
#[derive(Debug, Default)]
pub struct BootPartition {
    /// The owner's settings; the defaults when there are none, or wrong ones.
    pub settings: BoxSettings,
    /// Whether a factory reset is asked for.
    pub asks_for_reset: bool,
    /// What is wrong with it, as sentences; empty when nothing is.
    pub problem: String,
}

impl BootPartition {
    /// Mounts, reads and lets go.
    ///
    /// # Errors
    /// The partition is missing, is no FAT, or cannot be read.
    pub fn read(disk: &BootDisk, profiles: &Path) -> Result<Self> {
        let mounted = Mounted::new(disk, MountFlags::RDONLY)?;
        let read = Self::read_directory(&mounted.at, profiles);
        mounted.release()?;
        Ok(read)
    }

    /// Reads what is in a directory, and copies a profile to another one.
    fn read_directory(directory: &Path, profiles: &Path) -> Self {
        let mut read = BootPartition::default();
        let mut problems = Vec::new();
        match settings(&directory.join(SETTINGS_FILE)) {
            Ok(settings) => read.settings = settings,
            Err(error) => problems.push(format!(
                "The settings on the boot partition are not used: {error:#}."
            )),
        }
        if let Err(error) = copy_profile(directory, profiles) {
            problems.push(format!(
                "The profile on the boot partition is not used: {error:#}."
            ));
        }
        // Whatever is there by this name asks: a person may have made a directory.
        read.asks_for_reset = directory.join(RESET_FILE).symlink_metadata().is_ok();
        read.problem = problems.join(" ");
        read
    }
}

/// Takes the request for a factory reset away.
///
/// # Errors
/// The partition cannot be written; the request stays, and is met again at the next boot.
pub fn forget_reset(disk: &BootDisk) -> Result<()> {
    let mounted = Mounted::new(disk, MountFlags::empty())?;
    let removed = remove_request(&mounted.at);
    // The unmounting writes it out, and says when it could not.
    mounted.release()?;
    removed
}

fn remove_request(directory: &Path) -> Result<()> {
    let path = directory.join(RESET_FILE);
    let removed = match path.symlink_metadata() {
        Ok(found) if found.is_dir() => fs::remove_dir(&path),
        _ => fs::remove_file(&path),
    };
    removed.with_context(|| format!("cannot remove {RESET_FILE}"))?;
    let open = File::open(directory).context("cannot open the boot partition")?;
    open.sync_all().context("cannot write the boot partition")
}

/// The boot partition while it is mounted.
struct Mounted {
    at: PathBuf,
}

impl Mounted {
    fn new(disk: &BootDisk, flags: MountFlags) -> Result<Self> {
        let first = disk.table.partition(1);
        if first.is_none_or(|partition| partition.kind != BOOT_PARTITION_TYPE) {
            bail!(
                "the first partition of {} is no boot partition",
                disk.disk.node.display()
            );
        }
        let told = |error: kos_sys::SysError| anyhow!("{}", error.full());
        let node = disk.node(&disk.table, 1).map_err(told)?;
        let at = Path::new(RUN).join("boot");
        fs::create_dir_all(&at).with_context(|| format!("cannot make {}", at.display()))?;
        let flags = flags | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        // Everything on it is PID 1's alone: there may be a passphrase in the settings.
        let options = "uid=0,gid=0,umask=077";
        mount(&node.to_string_lossy(), &at, "vfat", flags, options).map_err(told)?;
        Ok(Mounted { at })
    }

    fn release(self) -> Result<()> {
        unmount(&self.at, UnmountFlags::empty()).map_err(|error| anyhow!("{}", error.full()))
    }
}

/// The settings in a file; the defaults when there is none.
fn settings(path: &Path) -> Result<BoxSettings> {
    let Some(bytes) = read_bounded(path, MAX_SETTINGS_BYTES as u64)? else {
        return Ok(BoxSettings::default());
    };
    let Ok(text) = String::from_utf8(bytes) else {
        bail!("{SETTINGS_FILE}: found bytes that are no text, allowed: UTF-8");
    };
    // Editors of another system begin a file with a byte order mark, which TOML does not know.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    Ok(BoxSettings::parse(SETTINGS_FILE, text)?)
}

/// Copies the one profile that is there, if one is, where it can be read after the partition is
/// gone.
fn copy_profile(directory: &Path, profiles: &Path) -> Result<()> {
    let mut found = Vec::new();
    for name in PROFILE_FILES {
        if let Some(bytes) = read_bounded(&directory.join(name), MAX_PROFILE_BYTES)? {
            found.push((name, bytes));
        }
    }
    if found.len() > 1 {
        let names: Vec<&str> = found.iter().map(|(name, _)| *name).collect();
        bail!("found {}, allowed: one of them", names.join(" and "));
    }
    let Some((name, bytes)) = found.pop() else {
        return Ok(());
    };
    let about = || format!("cannot write {}", profiles.join(name).display());
    fs::create_dir_all(profiles).with_context(about)?;
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o400)
        .open(profiles.join(name))
        .with_context(about)?;
    std::io::Write::write_all(&mut file, &bytes).with_context(about)
}

/// A file's bytes; `None` when there is no such file.
fn read_bounded(path: &Path, most: u64) -> Result<Option<Vec<u8>>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.with_context(|| format!("{name}: cannot be opened"))?,
    };
    let mut bytes = Vec::new();
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("{name}: cannot be read"))?;
    if bytes.len() as u64 > most {
        bail!("{name}: found more than {most} bytes, allowed: {most}");
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture {
        boot: tempfile::TempDir,
        run: tempfile::TempDir,
    }

    impl Fixture {
        fn new(files: &[(&str, &[u8])]) -> Self {
            let fixture = Fixture {
                boot: tempfile::tempdir().unwrap(),
                run: tempfile::tempdir().unwrap(),
            };
            for (name, bytes) in files {
                fs::write(fixture.boot.path().join(name), bytes).unwrap();
            }
            fixture
        }

        fn profiles(&self) -> PathBuf {
            self.run.path().join("profile")
        }

        fn read(&self) -> BootPartition {
            BootPartition::read_directory(self.boot.path(), &self.profiles())
        }
    }

    #[test]
    fn settings_and_profile_are_taken() {
        let fixture = Fixture::new(&[
            (
                "kos-box.toml",
                "\u{feff}hostname = \"kitchen\"\r\n".as_bytes(),
            ),
            ("kos.yaml", b"mode: standalone\n"),
        ]);
        let read = fixture.read();
        assert_eq!(read.problem, "");
        assert_eq!(read.settings.hostname.unwrap().as_str(), "kitchen");
        assert!(!read.asks_for_reset);
        let copy = fs::read(fixture.profiles().join("kos.yaml")).unwrap();
        assert_eq!(copy, b"mode: standalone\n");
    }

    #[test]
    fn an_empty_partition_says_nothing() {
        let fixture = Fixture::new(&[]);
        let read = fixture.read();
        assert_eq!(read.problem, "");
        assert_eq!(read.settings, BoxSettings::default());
        assert!(!fixture.profiles().exists());
    }

    #[test]
    fn what_is_wrong_is_told_and_the_rest_is_used() {
        let told = |files: &[(&str, &[u8])]| Fixture::new(files).read().problem;
        let problem = told(&[("kos-box.toml", b"hostname = \"kitchen\"\nwifi = 1\n")]);
        assert!(problem.contains("kos-box.toml:2:"), "{problem}");
        let problem = told(&[("kos-box.toml", &[0xff; 10])]);
        assert!(problem.contains("allowed: UTF-8"), "{problem}");
        let problem = told(&[("kos-box.toml", &vec![b'#'; MAX_SETTINGS_BYTES + 1])]);
        assert!(problem.contains("allowed: 65536"), "{problem}");
        let problem = told(&[("kos.yaml", b""), ("kos.ini", b"")]);
        assert!(problem.contains("kos.yaml and kos.ini"), "{problem}");
        let wrong = [("kos-box.toml", &b"x"[..]), ("kos.json", b"{}")];
        let fixture = Fixture::new(&wrong);
        assert_eq!(fixture.read().settings, BoxSettings::default());
        assert!(fixture.profiles().join("kos.json").exists());
    }

    #[test]
    fn a_request_for_a_reset_is_seen_and_taken_away() {
        let fixture = Fixture::new(&[("kos-reset", b"")]);
        assert!(fixture.read().asks_for_reset);
        remove_request(fixture.boot.path()).unwrap();
        assert!(!fixture.read().asks_for_reset);
        assert!(remove_request(fixture.boot.path()).is_err());
        fs::create_dir(fixture.boot.path().join("kos-reset")).unwrap();
        assert!(fixture.read().asks_for_reset);
        remove_request(fixture.boot.path()).unwrap();
        assert!(!fixture.read().asks_for_reset);
    }
}
