//! Names of files on FAT: long ones in UTF-16, and the eight letters and three that each needs.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

/// Bytes of a directory's entry.
pub const ENTRY_BYTES: usize = 32;
/// A name's last three letters begin here.
const EXTENSION: usize = 8;
const SHORT_BYTES: usize = 11;
/// UTF-16 units of a name.
const LONG_UNITS: usize = 255;
/// UTF-16 units of a name in one entry, and where they are.
const UNITS_PER_ENTRY: usize = 13;
const UNIT_OFFSETS: [usize; UNITS_PER_ENTRY] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
/// Marks an entry as part of a long name.
const LONG_NAME: u8 = 0x0f;
/// Marks the entry with a long name's end, which comes first.
const LAST: u8 = 0x40;

/// A name as a directory holds it.
pub struct Encoded {
    /// Entries that precede the file's own; none if the short name says it all.
    pub long: Vec<[u8; ENTRY_BYTES]>,
    /// The short name, padded.
    pub short: [u8; SHORT_BYTES],
}

/// Fails for a name that FAT cannot hold.
pub fn check(name: &str) -> Result<()> {
    ensure!(
        !name.is_empty()
            && name.encode_utf16().count() <= LONG_UNITS
            && !name.ends_with(['.', ' '])
            && !name
                .chars()
                .any(|letter| letter.is_control() || "\"*/:<>?\\|".contains(letter)),
        "found the name \"{name}\", allowed on FAT: up to {LONG_UNITS} letters, none of \
         \"*/:<>?\\|, and neither a dot nor a space at the end"
    );
    Ok(())
}

/// A volume's label, padded.
pub fn label(text: &str) -> Result<[u8; SHORT_BYTES]> {
    ensure!(
        !text.is_empty()
            && text.len() <= SHORT_BYTES
            && text.bytes().all(|byte| byte != b'.' && is_short(byte)),
        "found the label \"{text}\", allowed: 1 to {SHORT_BYTES} capital letters, digits and -_"
    );
    Ok(padded(text, ""))
}

/// Encodes a directory's names, which differ in more than capitals.
pub fn encode(names: &[&str]) -> Result<Vec<Encoded>> {
    // Names that are short ones already keep their letters, whatever comes before them.
    let mut taken: BTreeSet<_> = names.iter().filter_map(|name| as_short(name)).collect();
    let mut encoded = Vec::new();
    for name in names {
        let short = match as_short(name) {
            Some(short) => short,
            None => {
                let short = abbreviate(name, &taken)?;
                taken.insert(short);
                short
            }
        };
        encoded.push(Encoded {
            long: if shown(&short) == *name {
                Vec::new()
            } else {
                long_entries(name, &short)
            },
            short,
        });
    }
    Ok(encoded)
}

/// The short name of a name that, in capitals, is one.
fn as_short(name: &str) -> Option<[u8; SHORT_BYTES]> {
    let name = name.to_ascii_uppercase();
    let (base, extension) = name.split_once('.').unwrap_or((&name, ""));
    let fits = !base.is_empty()
        && base.len() <= EXTENSION
        && extension.len() <= SHORT_BYTES - EXTENSION
        && name.ends_with('.') == extension.is_empty() & name.contains('.')
        && base.bytes().chain(extension.bytes()).all(is_short);
    fits.then(|| padded(base, extension))
}

/// `LONGNA~1.TXT`: the first number that is free.
fn abbreviate(name: &str, taken: &BTreeSet<[u8; SHORT_BYTES]>) -> Result<[u8; SHORT_BYTES]> {
    /// More files of one directory than FAT can hold.
    const NUMBERS: u32 = 1 << 16;
    let letters = |text: &str| -> String {
        text.to_ascii_uppercase()
            .chars()
            .filter(|letter| !matches!(letter, ' ' | '.'))
            .map(|letter| match u8::try_from(letter) {
                Ok(byte) if is_short(byte) => letter,
                _ => '_',
            })
            .collect()
    };
    let name = name.trim_start_matches('.');
    let (base, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    let (base, mut extension) = (letters(base), letters(extension));
    extension.truncate(SHORT_BYTES - EXTENSION);
    for number in 1..NUMBERS {
        let tail = format!("~{number}");
        let mut start = base.clone();
        start.truncate(EXTENSION - tail.len());
        let short = padded(&(start + &tail), &extension);
        if !taken.contains(&short) {
            return Ok(short);
        }
    }
    anyhow::bail!("too many names like \"{name}\" in one directory")
}

fn long_entries(name: &str, short: &[u8; SHORT_BYTES]) -> Vec<[u8; ENTRY_BYTES]> {
    let checksum = short
        .iter()
        .fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
    let mut units: Vec<u16> = name.encode_utf16().collect();
    if !units.len().is_multiple_of(UNITS_PER_ENTRY) {
        // A zero ends a name that does not fill its last entry, and ones fill the rest.
        units.push(0);
        units.resize(units.len().next_multiple_of(UNITS_PER_ENTRY), 0xffff);
    }
    let mut entries: Vec<_> = units
        .chunks_exact(UNITS_PER_ENTRY)
        .zip(1u8..)
        .map(|(units, number)| {
            let mut entry = [0; ENTRY_BYTES];
            entry[0] = number;
            entry[11] = LONG_NAME;
            entry[13] = checksum;
            for (unit, offset) in units.iter().zip(UNIT_OFFSETS) {
                entry[offset..offset + 2].copy_from_slice(&unit.to_le_bytes());
            }
            entry
        })
        .collect();
    if let Some(last) = entries.last_mut() {
        last[0] |= LAST;
    }
    entries.reverse();
    entries
}

fn padded(base: &str, extension: &str) -> [u8; SHORT_BYTES] {
    let mut short = [b' '; SHORT_BYTES];
    short[..base.len()].copy_from_slice(base.as_bytes());
    short[EXTENSION..EXTENSION + extension.len()].copy_from_slice(extension.as_bytes());
    short
}

fn shown(short: &[u8; SHORT_BYTES]) -> String {
    let text = String::from_utf8_lossy(short).into_owned();
    let (base, extension) = text.split_at(EXTENSION);
    match extension.trim_end() {
        "" => base.trim_end().to_owned(),
        extension => format!("{}.{extension}", base.trim_end()),
    }
}

/// What a short name may hold, as far as names of ours go.
fn is_short(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"-_~!#$%&'()@^`{}".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shorts(names: &[&str]) -> Vec<(String, usize)> {
        let encoded = encode(names).unwrap();
        encoded
            .iter()
            .map(|name| (shown(&name.short), name.long.len()))
            .collect()
    }

    #[test]
    fn capitals_need_no_long_name_and_others_do() {
        let found = shorts(&["BOOTX64.EFI", "EFI", "cmdline.txt", "kos-a.efi", "Image"]);
        let expected = [
            ("BOOTX64.EFI", 0),
            ("EFI", 0),
            ("CMDLINE.TXT", 1),
            ("KOS-A.EFI", 1),
            ("IMAGE", 1),
        ];
        assert_eq!(found, expected.map(|(name, long)| (name.to_owned(), long)));
    }

    #[test]
    fn abbreviations_differ_from_each_other_and_from_short_names() {
        let found = shorts(&[
            "autobo~1.txt",
            "autoboot-old.txt",
            "autoboot-new.txt",
            "bcm2712-rpi-5-b.dtb",
            ".hidden",
            "\u{e4}.b.c",
        ]);
        let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "AUTOBO~1.TXT",
                "AUTOBO~2.TXT",
                "AUTOBO~3.TXT",
                "BCM271~1.DTB",
                "HIDDEN~1",
                "_B~1.C"
            ]
        );
        assert_eq!(found[3].1, 2, "19 letters need two entries");
    }

    #[test]
    fn names_that_fat_cannot_hold_are_refused() {
        for name in ["", "a:b", "a.", "a ", "..", "a\nb", &"x".repeat(256)] {
            assert!(check(name).is_err(), "{name:?}");
        }
        for name in ["a b.c", "\u{e4}", &"x".repeat(255)] {
            assert!(check(name).is_ok(), "{name:?}");
        }
        assert!(label("KOS-BOOT").is_ok());
        for text in ["", "kos", "A.B", "KOS-BOOT-XYZ"] {
            assert!(label(text).is_err(), "{text:?}");
        }
    }
}
