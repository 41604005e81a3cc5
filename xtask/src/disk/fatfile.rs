//! Files of a FAT volume that exists: settings that flash puts there, texts that it changes.
//!
//! Nothing here makes a directory: the crate `fatfs` makes one that fsck.fat takes for damaged.

use std::io::{ErrorKind, Read, SeekFrom, Write};

use anyhow::{Context, Result, ensure};
use fatfs::{Date, DateTime, FileSystem, FsOptions, ReadWriteSeek, Time, TimeProvider};

/// What is read from a volume at most: settings and boot loaders' texts have some hundred bytes.
const READ_LIMIT: u64 = 1 << 20;

/// The file `path` of a volume, or nothing where there is none.
pub fn read(volume: &mut impl ReadWriteSeek, path: &str) -> Result<Option<Vec<u8>>> {
    let volume = open(volume)?;
    let file = match volume.root_dir().open_file(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("open {path}")),
    };
    let mut bytes = Vec::new();
    file.take(READ_LIMIT + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("read {path}"))?;
    ensure!(
        bytes.len() as u64 <= READ_LIMIT,
        "{path}: it has more than {READ_LIMIT} bytes"
    );
    Ok(Some(bytes))
}

/// Writes the file `path` of a volume anew, whether there is one or not; its directory is there.
pub fn write(volume: &mut impl ReadWriteSeek, path: &str, bytes: &[u8]) -> Result<()> {
    let volume = open(volume)?;
    put(&volume, path, bytes).with_context(|| format!("write {path}"))?;
    volume.unmount().context("finish the FAT volume")
}

fn put<T: ReadWriteSeek>(volume: &FileSystem<T>, path: &str, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = volume.root_dir().create_file(path)?;
    file.truncate()?;
    file.write_all(bytes)?;
    file.flush()
}

fn open<T: ReadWriteSeek>(volume: &mut T) -> Result<FileSystem<&mut T>> {
    volume.seek(SeekFrom::Start(0))?;
    FileSystem::new(volume, FsOptions::new().time_provider(&FixedDate))
        .context("open the FAT volume")
}

/// The date of `super::DATE`.
#[derive(Debug)]
struct FixedDate;

impl TimeProvider for FixedDate {
    fn get_current_date(&self) -> Date {
        Date {
            year: 2026,
            month: 1,
            day: 1,
        }
    }

    fn get_current_date_time(&self) -> DateTime {
        DateTime {
            date: self.get_current_date(),
            time: Time {
                hour: 0,
                min: 0,
                sec: 0,
                millis: 0,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::fat;
    use crate::hostpackages::find_program;
    use std::io::Cursor;
    use std::process::Command;

    const CONF: &str = "loader/loader.conf";

    fn volume() -> Cursor<Vec<u8>> {
        let files = vec![
            (CONF.to_owned(), b"timeout 0\n".to_vec()),
            ("a/b/large file".to_owned(), vec![7; 2 << 20]),
        ];
        Cursor::new(fat::image(64 << 20, "KOS-BOOT", 7, &files).unwrap())
    }

    #[test]
    fn a_file_is_read_replaced_and_added() {
        let mut volume = volume();
        assert_eq!(read(&mut volume, CONF).unwrap().unwrap(), b"timeout 0\n");
        assert_eq!(read(&mut volume, "kos-box.toml").unwrap(), None);
        assert_eq!(read(&mut volume, "no/such").unwrap(), None);
        for text in ["a much longer text".repeat(1000), "short".to_owned()] {
            for path in [CONF, "kos-box.toml", "a/b/new"] {
                write(&mut volume, path, text.as_bytes()).unwrap();
                assert_eq!(read(&mut volume, path).unwrap().unwrap(), text.as_bytes());
            }
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, volume.into_inner()).unwrap();
        let output = Command::new(find_program("fsck.vfat").unwrap())
            .arg("-n")
            .arg(file.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    #[test]
    fn what_is_not_there_or_too_large_is_an_error() {
        let mut volume = volume();
        let error = read(&mut volume, "a/b/large file").unwrap_err().to_string();
        assert!(error.contains("more than 1048576 bytes"), "{error}");
        let error = write(&mut volume, "no/such", b"").unwrap_err().to_string();
        assert!(error.contains("write no/such"), "{error}");
        let mut nothing = Cursor::new(vec![0; 1 << 20]);
        assert!(read(&mut nothing, "a").is_err());
    }
}
