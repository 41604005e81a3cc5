//! Variables of UEFI, as the kernel shows them in `efivarfs`. They are read and never written.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use kos_manifest::guid::Guid;

use crate::error::{SysError, Told};

/// The partition that the boot loader was read from, as systemd's boot loader and its stub tell
/// it (systemd's Boot Loader Interface).
const LOADER_PARTITION: &str = "LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// Attributes that come before a variable's value.
const ATTRIBUTE_BYTES: usize = 4;
/// A GUID in UTF-16, its end, and room for what a boot loader may add.
const MAX_BYTES: usize = ATTRIBUTE_BYTES + 256;

/// The identity of the partition that the boot loader came from; `None` when none was told.
///
/// # Errors
/// The variable cannot be read, or is not a GUID.
pub fn loader_partition(root: &Path) -> Result<Option<Guid>, SysError> {
    let path = root.join(LOADER_PARTITION);
    let file = match File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.told("open", path.display())?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES as u64)
        .read_to_end(&mut bytes)
        .told("read", path.display())?;
    let value = bytes.get(ATTRIBUTE_BYTES..).unwrap_or_default();
    let units = value
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .take_while(|unit| *unit != 0);
    let text: String = char::decode_utf16(units)
        .map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect();
    text.parse()
        .map(Some)
        .map_err(|error| SysError::refused("understand", path.display(), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(value: &[u8]) -> Result<Option<Guid>, SysError> {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join(LOADER_PARTITION), value).unwrap();
        loader_partition(root.path())
    }

    fn variable(text: &str) -> Vec<u8> {
        let units = text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes);
        [6, 0, 0, 0].into_iter().chain(units).collect()
    }

    #[test]
    fn the_boot_loaders_partition_is_read() {
        let text = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B";
        let expected: Guid = text.parse().unwrap();
        assert_eq!(with(&variable(text)).unwrap(), Some(expected));
        assert_eq!(loader_partition(Path::new("/nowhere")).unwrap(), None);
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in [
            vec![],
            vec![6, 0],
            variable(""),
            variable("vda1"),
            vec![0xd8; 5000],
            variable(&"1".repeat(3000)),
        ] {
            let error = with(&bad).unwrap_err().full();
            assert!(error.contains("8-4-4-4-12"), "{error}");
        }
    }
}
