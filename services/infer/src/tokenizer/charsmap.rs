//! SentencePiece's compiled table of characters and what they are replaced by: a trie in a double
//! array (darts-clone's packing), then replacement texts that end with a zero byte.
//!
//! It comes with a file from anywhere: every index is checked, and a table that leads nowhere
//! replaces nothing.

/// A table.
pub(super) struct Charsmap {
    units: Vec<u32>,
    texts: Vec<u8>,
}

impl Charsmap {
    /// Takes a table apart; `None` when it is no table.
    pub(super) fn parse(table: &[u8]) -> Option<Self> {
        let (length, rest) = table.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length) as usize;
        if !length.is_multiple_of(4) || length > rest.len() {
            return None;
        }
        let (units, texts) = rest.split_at(length);
        let units = units.chunks_exact(4);
        Some(Self {
            units: units
                .map(|unit| u32::from_le_bytes(unit.try_into().expect("chunks are 4 bytes")))
                .collect(),
            texts: texts.to_vec(),
        })
    }

    /// The longest beginning of `text` that is replaced: its length, and by what.
    pub(super) fn replacement(&self, text: &str) -> Option<(usize, &str)> {
        let base = |unit: u32| ((unit >> 10) << ((unit & (1 << 9)) >> 6)) as usize;
        let mut node = base(*self.units.first()?);
        let mut longest = None;
        for (place, byte) in text.bytes().enumerate().take_while(|(_, byte)| *byte != 0) {
            node ^= usize::from(byte);
            let Some(&unit) = self.units.get(node) else {
                break;
            };
            if unit & ((1 << 31) | 0xFF) != u32::from(byte) {
                break;
            }
            node ^= base(unit);
            if (unit >> 8) & 1 == 1
                && let Some(&leaf) = self.units.get(node)
            {
                longest = Some((place + 1, leaf & !(1 << 31)));
            }
        }
        let (length, start) = longest?;
        let texts = self.texts.get(start as usize..)?;
        let end = texts.iter().position(|&byte| byte == 0)?;
        // The end may lie in a character when the table is damaged.
        let whole = text.is_char_boundary(length);
        Some((length, std::str::from_utf8(&texts[..end]).ok()?)).filter(|_| whole)
    }
}
