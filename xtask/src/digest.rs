//! SHA-256 over a sequence of parts, as the name of everything that is cached.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest as _, Sha256};

/// A digest that grows by parts; each part's length counts too, so that no two sequences meet.
#[derive(Default)]
pub struct Digest(Sha256);

impl Digest {
    /// Adds one part.
    pub fn add(&mut self, part: &[u8]) {
        self.0.update((part.len() as u64).to_le_bytes());
        self.0.update(part);
    }

    /// The digest of all parts, in hexadecimal.
    pub fn finish(self) -> String {
        hexadecimal(&self.0.finalize())
    }

    /// The plain SHA-256 of some bytes, as `sha256sum` prints it.
    pub fn of_bytes(bytes: &[u8]) -> String {
        hexadecimal(&Sha256::digest(bytes))
    }

    /// The plain SHA-256 of a file.
    pub fn of_file(path: &Path) -> Result<String> {
        let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        Ok(Digest::of_bytes(&bytes))
    }
}

impl Digest {
    /// The plain SHA-256 of a file that is too large for memory.
    pub fn of_large_file(path: &Path) -> Result<String> {
        let open = || format!("read {}", path.display());
        let mut file = std::fs::File::open(path).with_context(open)?;
        let mut sha256 = Sha256::new();
        let mut chunk = vec![0; 1 << 20];
        loop {
            let count = std::io::Read::read(&mut file, &mut chunk).with_context(open)?;
            if count == 0 {
                return Ok(hexadecimal(&sha256.finalize()));
            }
            sha256.update(&chunk[..count]);
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
