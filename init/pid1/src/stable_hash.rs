//! Numbers made from bytes that are the same after each boot and each update: FNV-1a, 64 bits.
//!
//! The standard library's hasher may change with the compiler, and a fleet's timers with it. Not for
//! what somebody could choose to collide.

/// What is hashed of nothing.
const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// The hash of some pieces, as if they were one.
pub fn hash<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    pieces.into_iter().flatten().fold(BASIS, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(PRIME)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_published_one() {
        // From the test suite of its authors (Fowler, Noll, Vo).
        let none: [&[u8]; 0] = [];
        assert_eq!(hash(none), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash([b"a".as_slice()]), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(hash([b"foo".as_slice(), b"bar"]), 0x8594_4171_f739_67e8);
    }
}
