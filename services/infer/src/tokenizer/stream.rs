//! Tokens are cut between bytes, clients want characters: holds an unfinished one back.

/// Collects bytes and gives out whole characters.
#[derive(Debug, Default)]
pub struct Utf8Stream {
    held: Vec<u8>,
}

impl Utf8Stream {
    /// Takes bytes; returns all characters that are whole. What can never become a character
    /// is U+FFFD.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.held.extend_from_slice(bytes);
        let mut text = String::new();
        let mut whole = 0;
        for chunk in self.held.utf8_chunks() {
            text.push_str(chunk.valid());
            whole += chunk.valid().len();
            let invalid = chunk.invalid();
            let at_end = whole + invalid.len() == self.held.len();
            let held = at_end && could_go_on(invalid);
            if !invalid.is_empty() && !held {
                text.push(char::REPLACEMENT_CHARACTER);
                whole += invalid.len();
            }
        }
        self.held.drain(..whole);
        text
    }

    /// Gives out what was held back, at the end.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.held)).into_owned()
    }
}

/// Whether more bytes could make these a character.
fn could_go_on(bytes: &[u8]) -> bool {
    match std::str::from_utf8(bytes) {
        Ok(_) => false,
        Err(error) => error.error_len().is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_in_pieces_comes_out_whole() {
        let mut stream = Utf8Stream::default();
        let bytes = "a€b".as_bytes();
        let parts: Vec<_> = bytes.iter().map(|&byte| stream.push(&[byte])).collect();
        assert_eq!(parts, ["a", "", "", "€", "b"]);
        assert_eq!(stream.finish(), "");
    }

    #[test]
    fn broken_bytes_are_replaced_and_an_end_is_not_lost() {
        let mut stream = Utf8Stream::default();
        assert_eq!(stream.push(&[0xFF, b'x']), "\u{FFFD}x");
        assert_eq!(stream.push(&[0xE2, 0x82]), "");
        assert_eq!(stream.push(b"y"), "\u{FFFD}y");
        assert_eq!(stream.push(&[0xF0, 0x9F]), "");
        assert_eq!(stream.finish(), "\u{FFFD}");
    }
}
