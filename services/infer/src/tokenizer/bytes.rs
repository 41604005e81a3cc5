//! GPT-2's way to write any byte as a letter: printable ones as themselves, the rest from
//! U+0100 on, in order.

/// The letter of a byte.
pub(super) fn letter(byte: u8) -> char {
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&other| !printable(other)).count() as u32;
    char::from_u32(256 + before).expect("256 + 67 at most is a letter")
}

fn printable(byte: u8) -> bool {
    matches!(byte, 33..=126 | 161..=172 | 174..=255)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_and_newline_are_the_known_letters() {
        assert_eq!(letter(b' '), '\u{120}');
        assert_eq!(letter(b'\n'), '\u{10A}');
        assert_eq!(letter(b'a'), 'a');
    }

    #[test]
    fn every_byte_has_a_letter_of_its_own() {
        let letters: std::collections::HashSet<_> = (0..=255).map(letter).collect();
        assert_eq!(letters.len(), 256);
    }
}
