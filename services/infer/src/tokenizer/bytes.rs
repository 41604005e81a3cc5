//! Two ways to write bytes as text. GPT-2's: printable bytes as themselves, the rest as letters from
//! U+0100 on, in order. SentencePiece's: `<0x0A>`.

use std::collections::HashMap;
use std::sync::LazyLock;

static LETTERS: LazyLock<[char; 256]> = LazyLock::new(|| {
    let mut letters = ['\0'; 256];
    let mut next = 0x100;
    for byte in 0..=255_u8 {
        letters[usize::from(byte)] = if matches!(byte, 33..=126 | 161..=172 | 174..=255) {
            char::from(byte)
        } else {
            next += 1;
            char::from_u32(next - 1).expect("U+0100 + 67 at most is a letter")
        };
    }
    letters
});

static BYTES: LazyLock<HashMap<char, u8>> =
    LazyLock::new(|| (0..=255).map(|byte| (letter(byte), byte)).collect());

/// GPT-2's letter of a byte.
pub(super) fn letter(byte: u8) -> char {
    LETTERS[usize::from(byte)]
}

/// The bytes that GPT-2's letters stand for; other letters stand for themselves.
pub(super) fn of_letters(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for letter in text.chars() {
        match BYTES.get(&letter) {
            Some(&byte) => bytes.push(byte),
            None => bytes.extend(letter.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

/// SentencePiece's name of a byte.
pub(super) fn name(byte: u8) -> String {
    format!("<0x{byte:02X}>")
}

/// The byte of such a name.
pub(super) fn of_name(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    // `from_str_radix` would take a sign, too.
    let two = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    two.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_and_newline_are_the_known_letters() {
        assert_eq!(letter(b' '), '\u{120}');
        assert_eq!(letter(b'\n'), '\u{10A}');
        assert_eq!(letter(b'a'), 'a');
        assert_eq!(of_letters("\u{120}a\u{10A}€"), " a\n€".as_bytes());
    }

    #[test]
    fn every_byte_has_a_letter_and_a_name_of_its_own() {
        let letters: std::collections::HashSet<_> = (0..=255).map(letter).collect();
        assert_eq!(letters.len(), 256);
        assert!((0..=255).all(|byte| of_name(&name(byte)) == Some(byte)));
        assert_eq!(of_name("<0x+A>"), None);
    }
}
