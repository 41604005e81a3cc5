//! The guest's data disk: an ext4 file system in a sparse file, with or without a model on it.
//!
//! Everything goes through e2fsprogs, so that no loop device and no right is needed. `debugfs`
//! reports no failure by its exit code; what it wrote is therefore read back.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::hostpackages::find_program;
use crate::model::Model;

/// Where PID 1's services look for models.
const MODELS: &str = "/models";
/// Left free when a model is put on a disk: settings, logs and the journal's needs.
const RESERVE: u64 = 16 << 20;

/// A data disk that this process may use alone.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    /// Held as long as the disk is used: e2fsprogs and a guest must not both write to it.
    _lock: File,
}

impl Disk {
    /// Opens a disk, or makes a sparse one of `bytes` bytes where there is none.
    pub fn open_or_create(path: &Path, bytes: u64) -> Result<Disk> {
        let exists = path.exists();
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .with_context(|| format!("open the data disk {}", path.display()))?;
        if !lock(&file) {
            bail!("the data disk {} is in use by another run", path.display());
        }
        let disk = Disk {
            path: path.canonicalize()?,
            _lock: file,
        };
        if exists {
            ensure!(
                disk.header("Filesystem magic number")
                    .is_ok_and(|magic| magic == "0xEF53"),
                "{} holds no ext4 file system; kOS does not overwrite it (give another name, and \
                 it will be made)",
                path.display()
            );
            return Ok(disk);
        }
        let made = disk.make_file_system(bytes);
        if made.is_err() {
            // Half a disk would be refused by the next run, and it was ours.
            std::fs::remove_file(path).context("remove the data disk that could not be made")?;
        }
        made?;
        Ok(disk)
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn make_file_system(&self, bytes: u64) -> Result<()> {
        File::options()
            .write(true)
            .open(&self.path)?
            .set_len(bytes)?;
        let mut mke2fs = tool("mke2fs");
        // Root owns the file system whoever runs this.
        mke2fs.args([
            "-q",
            "-F",
            "-t",
            "ext4",
            "-L",
            "kos-data",
            "-I",
            "256",
            "-O",
            "quota,project",
            "-E",
            "root_owner=0:0,quotatype=prjquota",
        ]);
        succeed(mke2fs.arg(&self.path)).map(drop)
    }

    /// Puts a model on the disk; true when it was there already, by name and size.
    pub fn put(&self, model: &Model) -> Result<bool> {
        self.repair()?;
        let target = format!("{MODELS}/{}", model.name);
        if self.size_of(&target)? == Some(model.bytes) {
            return Ok(true);
        }
        let free = self.free()?;
        ensure!(
            model.bytes + RESERVE <= free,
            "the model {} ({:.1} MB) does not fit on the data disk {}: {:.1} MB are free. A larger \
             disk: another --data file with --data-size",
            model.path.display(),
            model.bytes as f64 / 1e6,
            self.path.display(),
            free as f64 / 1e6
        );
        // debugfs splits its commands at spaces: it meets the model under a plain name.
        let directory = tempfile::tempdir().context("make a temporary directory")?;
        std::os::unix::fs::symlink(&model.path, directory.path().join("model"))?;
        let name = &model.name;
        let script = format!(
            "mkdir {MODELS}\nset_inode_field {MODELS} mode 040755\ncd {MODELS}\nrm \"{name}\"\n\
             write model \"{name}\"\nset_inode_field \"{name}\" mode 0100644\n\
             set_inode_field \"{name}\" uid 0\nset_inode_field \"{name}\" gid 0\n"
        );
        std::fs::write(directory.path().join("script"), script)?;
        let mut debugfs = tool("debugfs");
        debugfs
            .args(["-w", "-f", "script"])
            .arg(&self.path)
            .current_dir(directory.path());
        let output = succeed(&mut debugfs)?;
        let written = self.size_of(&target)?;
        ensure!(
            written == Some(model.bytes),
            "debugfs did not put the model on {}: {} instead of {} bytes are there\n{}",
            self.path.display(),
            written.unwrap_or(0),
            model.bytes,
            String::from_utf8_lossy(&output.stderr)
        );
        self.count_quotas()?;
        self.check_clean()
            .context("after the model was put on it")?;
        Ok(false)
    }

    /// Replays the journal and repairs what can be repaired without a question.
    fn repair(&self) -> Result<()> {
        let output = output(tool("e2fsck").arg("-p").arg(&self.path))?;
        match output.status.code() {
            // 1: repaired (e2fsck(8)).
            Some(0 | 1) => Ok(()),
            _ => bail!(
                "the data disk {} needs a repair that e2fsck does not do by itself:\n{}",
                self.path.display(),
                String::from_utf8_lossy(&output.stdout).trim()
            ),
        }
    }

    /// debugfs does not count what it writes against the quotas; e2fsck does.
    fn count_quotas(&self) -> Result<()> {
        let output = output(tool("e2fsck").args(["-f", "-y"]).arg(&self.path))?;
        ensure!(
            matches!(output.status.code(), Some(0 | 1)),
            "e2fsck cannot count the quotas of {}:\n{}",
            self.path.display(),
            String::from_utf8_lossy(&output.stdout).trim()
        );
        Ok(())
    }

    /// Fails unless the file system is consistent and needs no journal replayed.
    pub fn check_clean(&self) -> Result<()> {
        let output = output(tool("e2fsck").args(["-f", "-n"]).arg(&self.path))?;
        ensure!(
            output.status.success(),
            "the file system of {} is not clean:\n{}",
            self.path.display(),
            String::from_utf8_lossy(&output.stdout).trim()
        );
        Ok(())
    }

    /// Bytes that root can still write.
    fn free(&self) -> Result<u64> {
        let number = |key: &str| -> Result<u64> {
            self.header(key)?
                .parse()
                .with_context(|| format!("dumpe2fs: {key}"))
        };
        Ok(number("Free blocks")? * number("Block size")?)
    }

    fn header(&self, key: &str) -> Result<String> {
        let output = succeed(tool("dumpe2fs").arg("-h").arg(&self.path))?;
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':').map(str::trim))
            .map(str::to_owned)
            .with_context(|| format!("dumpe2fs says no \"{key}\" about {}", self.path.display()))
    }

    fn size_of(&self, path: &str) -> Result<Option<u64>> {
        let mut debugfs = tool("debugfs");
        debugfs
            .arg("-R")
            .arg(format!("stat \"{path}\""))
            .arg(&self.path);
        let output = succeed(&mut debugfs)?;
        // "User:     0   Group:     0   Project:     0   Size: 123"
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text
            .split_once("Size: ")
            .and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok()))
    }
}

/// The size of a data disk as people write it: `512M`, `8G`, plain bytes.
pub fn parse_size(text: &str) -> Result<u64, String> {
    /// ext4 with a journal and room for a database.
    const LEAST: u64 = 16 << 20;
    let bytes = size_in_bytes(text)?;
    if bytes < LEAST {
        return Err(format!("found {text}, allowed: 16M or more"));
    }
    Ok(bytes)
}

/// A size as people write it.
pub fn size_in_bytes(text: &str) -> Result<u64, String> {
    let (number, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| format!("found \"{text}\", allowed: a number with K, M or G, such as 8G"))
}

/// Takes the lock, if it is free or becomes free at once: a program that another thread is just
/// starting shares our descriptors, and with them a lock that was let go, until it is executed.
fn lock(file: &File) -> bool {
    const PATIENCE: Duration = Duration::from_secs(1);
    let deadline = Instant::now() + PATIENCE;
    while file.try_lock().is_err() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

fn tool(name: &str) -> Command {
    let mut command = Command::new(find_program(name).unwrap_or_else(|| name.into()));
    command
        .env("LC_ALL", "C")
        .env("DEBUGFS_PAGER", "cat")
        .stdin(std::process::Stdio::null());
    command
}

fn output(command: &mut Command) -> Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.output().with_context(|| format!("run {program}"))
}

fn succeed(command: &mut Command) -> Result<Output> {
    let output = output(command)?;
    ensure!(
        output.status.success(),
        "{}: {}\n{}",
        command.get_program().to_string_lossy(),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_small_ones_refused() {
        assert_eq!(parse_size("8G"), Ok(8 << 30));
        assert_eq!(parse_size("64m"), Ok(64 << 20));
        assert_eq!(parse_size("20000000"), Ok(20_000_000));
        assert!(
            parse_size("8T")
                .unwrap_err()
                .contains("allowed: a number with K, M or G")
        );
        assert!(parse_size("1M").unwrap_err().contains("16M"));
        assert!(parse_size("99999999999G").is_err());
    }

    fn model(directory: &Path, name: &str, bytes: usize) -> Model {
        let path = directory.join(name);
        let mut contents = b"GGUF\x03\0\0\0".to_vec();
        contents.resize(bytes, 7);
        std::fs::write(&path, contents).unwrap();
        Model::check(&path).unwrap()
    }

    #[test]
    fn a_model_is_put_on_a_new_disk_and_found_on_it_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data.img");
        let model = model(directory.path(), "a b.gguf", 300_000);
        let disk = Disk::open_or_create(&path, 64 << 20).unwrap();
        assert!(!disk.put(&model).unwrap());
        assert!(disk.put(&model).unwrap(), "it was there already");
        assert!(
            Disk::open_or_create(&path, 0).is_err(),
            "the disk is in use"
        );
        drop(disk);
        let disk = Disk::open_or_create(&path, 0).unwrap();
        assert_eq!(disk.size_of("/models/a b.gguf").unwrap(), Some(300_000));
        let listing = succeed(tool("debugfs").args(["-R", "ls -l /models"]).arg(&path)).unwrap();
        let listing = String::from_utf8_lossy(&listing.stdout).into_owned();
        let line = listing
            .lines()
            .find(|line| line.contains("a b.gguf"))
            .unwrap();
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!(words[1..5], ["100644", "(1)", "0", "0"], "{line}");
    }

    #[test]
    fn a_model_that_does_not_fit_is_refused_before_anything_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data.img");
        let model = model(directory.path(), "big.gguf", 20_000_000);
        let disk = Disk::open_or_create(&path, 32 << 20).unwrap();
        let error = disk.put(&model).unwrap_err().to_string();
        assert!(
            error.contains("does not fit") && error.contains("20.0 MB"),
            "{error}"
        );
        disk.check_clean().unwrap();
        assert_eq!(disk.size_of("/models/big.gguf").unwrap(), None);
    }

    #[test]
    fn a_file_that_is_no_disk_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("letter.txt");
        std::fs::write(&path, "dear reader").unwrap();
        let error = Disk::open_or_create(&path, 32 << 20)
            .unwrap_err()
            .to_string();
        assert!(error.contains("holds no ext4"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"dear reader");
    }
}
