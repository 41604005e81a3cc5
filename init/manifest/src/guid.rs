//! GUIDs as partition tables and UEFI hold them: the first three fields little-endian.

use std::fmt;
use std::str::FromStr;

/// A GUID, in the byte order that stands on the disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Guid([u8; 16]);

/// Which byte on the disk each byte of the text is.
const TEXT_ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];

/// Positions in the text before which a dash stands, counted in bytes.
const DASHES: [usize; 4] = [4, 6, 8, 10];

impl Guid {
    /// The GUID that marks an unused entry.
    pub const ZERO: Guid = Guid([0; 16]);

    /// From the sixteen bytes on the disk.
    pub const fn from_disk(bytes: [u8; 16]) -> Self {
        Guid(bytes)
    }

    /// The sixteen bytes on the disk.
    pub const fn to_disk(self) -> [u8; 16] {
        self.0
    }

    /// A random GUID (RFC 9562, version 4) from sixteen random bytes.
    pub const fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[7] = bytes[7] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Guid(bytes)
    }

    /// A GUID of this source, written as in a text: `0xC12A7328_F81F_11D2_BA4B_00A0C93EC93B`.
    pub const fn from_number(number: u128) -> Self {
        let text = number.to_be_bytes();
        let mut bytes = [0; 16];
        let mut index = 0;
        while index < 16 {
            bytes[TEXT_ORDER[index]] = text[index];
            index += 1;
        }
        Guid(bytes)
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, at) in TEXT_ORDER.iter().enumerate() {
            if DASHES.contains(&index) {
                formatter.write_str("-")?;
            }
            write!(formatter, "{:02x}", self.0[*at])?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A text that is not a GUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("allowed: a GUID of 32 hexadecimal digits in groups of 8-4-4-4-12")]
pub struct NotAGuid;

impl FromStr for Guid {
    type Err = NotAGuid;

    fn from_str(text: &str) -> Result<Self, NotAGuid> {
        let mut bytes = [0; 16];
        let mut rest = text;
        for (index, at) in TEXT_ORDER.into_iter().enumerate() {
            if DASHES.contains(&index) {
                rest = rest.strip_prefix('-').ok_or(NotAGuid)?;
            }
            let (digits, tail) = rest.split_at_checked(2).ok_or(NotAGuid)?;
            // A sign would pass as a number.
            if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(NotAGuid);
            }
            bytes[at] = u8::from_str_radix(digits, 16).map_err(|_| NotAGuid)?;
            rest = tail;
        }
        if rest.is_empty() {
            Ok(Guid(bytes))
        } else {
            Err(NotAGuid)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_disk_order_are_each_other() {
        // The bytes of an EFI system partition's type as every partition table has them.
        let bytes = [
            0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e,
            0xc9, 0x3b,
        ];
        let guid: Guid = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B".parse().unwrap();
        assert_eq!(guid.to_disk(), bytes);
        assert_eq!(guid.to_string(), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
        assert_eq!(
            Guid::from_number(0xC12A7328_F81F_11D2_BA4B_00A0C93EC93B),
            guid
        );
        let random = Guid::from_random([0xff; 16]).to_string();
        assert_eq!(random, "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }

    #[test]
    fn what_is_no_guid_is_refused() {
        for bad in [
            "",
            "C12A7328",
            "C12A7328-F81F-11D2-BA4B-00A0C93EC93",
            "C12A7328-F81F-11D2-BA4B-00A0C93EC93B0",
            "C12A7328-F81F-11D2-BA4B00-A0C93EC93B",
            "+12A7328-F81F-11D2-BA4B-00A0C93EC93B",
            "C12A732é-F81F-11D2-BA4B-00A0C93EC93B",
        ] {
            assert_eq!(bad.parse::<Guid>(), Err(NotAGuid), "{bad}");
        }
    }
}
