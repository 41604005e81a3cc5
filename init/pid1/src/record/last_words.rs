//! What the last boot left where a reset does not reach: the file system `pstore`.
//!
//! The kernel names its files after kind and place: `dmesg-ramoops-0`, `dmesg-efi_pstore-173…`,
//! `console-ramoops-0`, `pmsg-ramoops-0`. Source: Documentation/ABI/testing/pstore and
//! fs/pstore/inode.c of the kernel.

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// More pieces than any store has.
const MAX_FILES: usize = 256;

/// Longest piece that is read. The kernel's own are shorter.
const MAX_PIECE: u64 = 128 * 1024;

/// What is kept of a panic: the kernel keeps 10 KiB of its log.
const MAX_PANIC: usize = 16 * 1024;

/// What is kept of the console: its last lines.
const MAX_CONSOLE: usize = 8 * 1024;

/// See the head of this file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LastWords {
    /// The kernel's log before it panicked; empty when it did not.
    pub panic: String,
    /// The end of the kernel's console.
    pub console: String,
    /// PID 1's marks.
    pub marks: Vec<u8>,
    /// What was read, to be freed.
    pub(super) files: Vec<PathBuf>,
}

impl LastWords {
    /// Reads all that is there, within bounds.
    ///
    /// # Errors
    /// The store cannot be listed; a kernel without one has no words.
    pub fn read(store: &Path) -> Result<Self> {
        let mut words = LastWords::default();
        let listing = match fs::read_dir(store) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(words),
            other => other.with_context(|| format!("cannot list {}", store.display()))?,
        };
        let mut panics = Vec::new();
        for entry in listing.take(MAX_FILES) {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            // One that cannot be read must not stay for ever either.
            let bytes = read_bounded(&path).unwrap_or_default();
            if name.starts_with("dmesg-") {
                panics.extend(Piece::parse(&String::from_utf8_lossy(&bytes)));
            } else if name.starts_with("console-") {
                words.console = tail(&String::from_utf8_lossy(&bytes), MAX_CONSOLE);
            } else if name.starts_with("pmsg-") {
                words.marks = bytes;
            }
            words.files.push(path);
        }
        words.panic = tail(&Piece::join(panics), MAX_PANIC);
        Ok(words)
    }

    /// Gives the places back for the next catastrophe.
    ///
    /// # Errors
    /// The first that could not be freed.
    pub fn free(&self) -> Result<()> {
        let mut result = Ok(());
        for path in &self.files {
            let freed = fs::remove_file(path);
            let freed = freed.with_context(|| format!("cannot free {}", path.display()));
            result = result.and(freed);
        }
        result
    }
}

/// A piece of one dump of the kernel's log: its first line is `Panic#1 Part2`, where part 1 has
/// the newest lines.
struct Piece {
    dump: u32,
    part: u32,
    text: String,
}

impl Piece {
    /// Dumps of an oops count as well: it panics right after, and the second dump may be lost.
    fn parse(text: &str) -> Option<Self> {
        let (head, text) = text.split_once('\n')?;
        let (kind, rest) = head.split_once('#')?;
        let (dump, part) = rest.split_once(" Part")?;
        if !matches!(kind, "Panic" | "Oops") {
            return None;
        }
        Some(Piece {
            dump: dump.parse().ok()?,
            part: part.trim().parse().ok()?,
            text: text.to_owned(),
        })
    }

    /// The newest dump, oldest line first. An oops and its panic say the same twice.
    fn join(mut pieces: Vec<Piece>) -> String {
        let newest = pieces.iter().map(|piece| piece.dump).max();
        pieces.retain(|piece| Some(piece.dump) == newest);
        pieces.sort_by_key(|piece| std::cmp::Reverse(piece.part));
        pieces.into_iter().map(|piece| piece.text).collect()
    }
}

/// The last `most` bytes, from the start of a line on.
fn tail(text: &str, most: usize) -> String {
    let Some(over) = text.len().checked_sub(most).filter(|over| *over > 0) else {
        return text.to_owned();
    };
    let start = (over..text.len())
        .find(|at| text.as_bytes().get(at - 1) == Some(&b'\n'))
        .unwrap_or(text.len());
    text.get(start..).unwrap_or_default().to_owned()
}

fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?
        .take(MAX_PIECE)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(files: &[(&str, &str)]) -> tempfile::TempDir {
        let store = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(store.path().join(name), text).unwrap();
        }
        store
    }

    #[test]
    fn memory_keeps_panic_console_and_marks_until_they_are_freed() {
        let store = store(&[
            ("dmesg-ramoops-0", "Oops#1 Part1\n<1>BUG: oops\n"),
            ("dmesg-ramoops-1", "Panic#2 Part1\n<0>Kernel panic\n"),
            ("console-ramoops-0", "last line\n"),
            ("pmsg-ramoops-0", "mark\n"),
            ("dmesg-ramoops-2.enc.z", "\u{1}cannot be unpacked"),
        ]);
        let words = LastWords::read(store.path()).unwrap();
        assert_eq!(words.panic, "<0>Kernel panic\n");
        assert_eq!(
            (words.console.as_str(), words.marks.as_slice()),
            ("last line\n", &b"mark\n"[..])
        );
        words.free().unwrap();
        assert_eq!(LastWords::read(store.path()).unwrap(), LastWords::default());
        assert!(
            words
                .free()
                .unwrap_err()
                .to_string()
                .contains("cannot free")
        );
    }

    #[test]
    fn the_pieces_in_firmware_variables_become_one_text() {
        let store = store(&[
            ("dmesg-efi_pstore-170000000001001", "Panic#1 Part1\nlast\n"),
            ("dmesg-efi_pstore-170000000003001", "Panic#1 Part3\nfirst\n"),
            (
                "dmesg-efi_pstore-170000000002001",
                "Panic#1 Part2\nmiddle\n",
            ),
        ]);
        let words = LastWords::read(store.path()).unwrap();
        assert_eq!(words.panic, "first\nmiddle\nlast\n");
    }

    #[test]
    fn a_long_text_keeps_its_last_whole_lines() {
        assert_eq!(tail("one\ntwo\nthree\n", 11), "two\nthree\n"[..].to_owned());
        assert_eq!(tail("one\ntwo\n", 8), "one\ntwo\n");
        assert_eq!(tail("no end", 3), "");
        assert_eq!(tail("ä\nö\n", 4), "ö\n");
    }

    #[test]
    fn a_kernel_without_a_store_has_no_words() {
        let words = LastWords::read(Path::new("/nowhere")).unwrap();
        assert_eq!(words, LastWords::default());
    }
}
