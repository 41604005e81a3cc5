//! The two checksums that stand on disks: CRC-32 in partition tables, CRC-32C in ext4.

/// CRC-32 as in Ethernet and GPT.
pub fn crc32(bytes: &[u8]) -> u32 {
    !update(&CRC32, u32::MAX, bytes)
}

/// CRC-32C (Castagnoli) as ext4 uses it: begun with `seed`, and not inverted at the end.
pub fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    update(&CRC32C, seed, bytes)
}

/// Both polynomials with their bits in reverse, as a byte's lowest bit comes first.
static CRC32: [u32; 256] = table(0xedb8_8320);
static CRC32C: [u32; 256] = table(0x82f6_3b78);

fn update(table: &[u32; 256], start: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(start, |sum, byte| {
        let [low, ..] = sum.to_le_bytes();
        table[usize::from(low ^ byte)] ^ (sum >> 8)
    })
}

const fn table(polynomial: u32) -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    let mut byte = 0u32;
    while index < 256 {
        let mut sum = byte;
        let mut bit = 0;
        while bit < 8 {
            sum = (sum >> 1) ^ (polynomial * (sum & 1));
            bit += 1;
        }
        table[index] = sum;
        index += 1;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check values of both sums in the catalogue of parametrised CRC algorithms.
    #[test]
    fn the_check_values() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(!crc32c(u32::MAX, b"123456789"), 0xe306_9283);
        assert_eq!(crc32(b""), 0);
    }
}
