//! Small text files of the kernel (cgroup, sysfs, proc): read with a bound, parsed strictly.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use crate::error::{SysError, Told};

/// More than any of the files read here holds; a longer one is not what it should be.
const MAX_BYTES: u64 = 64 * 1024;

/// Reads a whole file of at most 64 KiB of UTF-8.
///
/// # Errors
/// The file is missing, unreadable, too long or not text.
pub fn read(path: &Path) -> Result<String, SysError> {
    let file = File::open(path).told("open", path.display())?;
    let mut text = String::new();
    let length = file
        .take(MAX_BYTES + 1)
        .read_to_string(&mut text)
        .told("read", path.display())?;
    if length as u64 > MAX_BYTES {
        return Err(SysError::refused(
            "read",
            path.display(),
            "the file is longer than 64 KiB",
        ));
    }
    Ok(text)
}

/// Writes one value in one `write`, as kernel files want it. Creates nothing.
///
/// # Errors
/// The file is missing, or the kernel refuses the value.
pub fn write(path: &Path, value: &str) -> Result<(), SysError> {
    let subject = || format!("'{value}' to {}", path.display());
    let mut file = File::options()
        .write(true)
        .open(path)
        .told("write", subject())?;
    file.write_all(value.as_bytes()).told("write", subject())
}

/// Reads a file that holds one number.
///
/// # Errors
/// As [`read`], or the text is not a number of 64 bits.
pub fn read_number(path: &Path) -> Result<u64, SysError> {
    number(path, read(path)?.trim())
}

/// The number beside `key` in a file of `key value` lines; 0 when the key is not there.
///
/// # Errors
/// The value is not a number of 64 bits.
pub fn keyed_number(path: &Path, text: &str, key: &str) -> Result<u64, SysError> {
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        if words.next() == Some(key) {
            return number(path, words.next().unwrap_or(""));
        }
    }
    Ok(0)
}

fn number(path: &Path, text: &str) -> Result<u64, SysError> {
    text.parse().map_err(|_| {
        SysError::refused(
            "read",
            path.display(),
            format!("'{text}' is not a whole number"),
        )
    })
}
