//! JSON texts without a pattern: any characters, between a least and a most number of them. Counts
//! are kept in the position instead of in states, so that a bound of thousands costs nothing.

/// Where in a text a position is.
const QUOTE: u32 = 0;
const BODY: u32 = 1;
const ESCAPE: u32 = 2;
/// Continuation bytes left.
const ONE: u32 = 3;
const TWO: u32 = 4;
const THREE: u32 = 5;
/// After a lead byte whose second byte is bounded: no overlong forms, no surrogates, no more than
/// U+10FFFF.
const LEAD_E0: u32 = 6;
const LEAD_ED: u32 = 7;
const LEAD_F0: u32 = 8;
const LEAD_F4: u32 = 9;
/// Digits of `\u`: the first, the second of a surrogate's or anything's, then those left.
const HEX: u32 = 10;
const HEX_D: u32 = 11;
const HEX_3: u32 = 12;
const HEX_2: u32 = 13;
const HEX_1: u32 = 14;
/// A high surrogate must have its low one: `\uD83D\uDE00`.
const HIGH_2: u32 = 15;
const HIGH_1: u32 = 16;
const LOW_ESCAPE: u32 = 17;
const LOW_U: u32 = 18;
const LOW_D: u32 = 19;
const LOW_3: u32 = 20;

const PLACE_BITS: u32 = 5;
/// Most characters that are counted; a larger `maxLength` bounds nothing that a model can write.
pub(super) const MOST: u32 = (1 << (32 - PLACE_BITS)) - 1;

/// What a byte does.
pub(super) enum Step {
    /// Goes on at a position.
    To(u32),
    /// Ends the text.
    End,
    /// Is not allowed.
    No,
}

/// Bounds in characters; `most` is [`MOST`] for none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Text {
    pub(super) least: u32,
    pub(super) most: u32,
}

impl Text {
    pub(super) fn step(self, position: u32, byte: u8) -> Step {
        let (place, count) = (position & ((1 << PLACE_BITS) - 1), position >> PLACE_BITS);
        let at = |place| Step::To(place | count << PLACE_BITS);
        let done = || {
            // Without an upper bound, counting beyond the lower one would only make more states.
            let most = if self.most == MOST {
                self.least
            } else {
                self.most
            };
            Step::To(BODY | (count + 1).min(most) << PLACE_BITS)
        };
        let hex = byte.is_ascii_hexdigit();
        let more = self.most == MOST || count < self.most;
        match (place, byte) {
            (QUOTE, b'"') => at(BODY),
            (BODY, b'"') if count >= self.least => Step::End,
            (BODY, b'"') => Step::No,
            (BODY, _) if !more => Step::No,
            (BODY, b'\\') => at(ESCAPE),
            (BODY, 0x20..=0x7F) => done(),
            (BODY, 0xC2..=0xDF) => at(ONE),
            (BODY, 0xE0) => at(LEAD_E0),
            (BODY, 0xED) => at(LEAD_ED),
            (BODY, 0xE1..=0xEF) => at(TWO),
            (BODY, 0xF0) => at(LEAD_F0),
            (BODY, 0xF1..=0xF3) => at(THREE),
            (BODY, 0xF4) => at(LEAD_F4),
            (ONE, 0x80..=0xBF) => done(),
            (TWO, 0x80..=0xBF) | (LEAD_E0, 0xA0..=0xBF) | (LEAD_ED, 0x80..=0x9F) => at(ONE),
            (THREE, 0x80..=0xBF) | (LEAD_F0, 0x90..=0xBF) | (LEAD_F4, 0x80..=0x8F) => at(TWO),
            (ESCAPE, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => done(),
            (ESCAPE, b'u') => at(HEX),
            (HEX, b'd' | b'D') => at(HEX_D),
            (HEX, _) if hex => at(HEX_3),
            (HEX_D, b'0'..=b'7') => at(HEX_2),
            (HEX_D, b'8' | b'9' | b'a' | b'b' | b'A' | b'B') => at(HIGH_2),
            (HEX_3, _) if hex => at(HEX_2),
            (HEX_2, _) if hex => at(HEX_1),
            (HEX_1, _) if hex => done(),
            (HIGH_2, _) if hex => at(HIGH_1),
            (HIGH_1, _) if hex => at(LOW_ESCAPE),
            (LOW_ESCAPE, b'\\') => at(LOW_U),
            (LOW_U, b'u') => at(LOW_D),
            (LOW_D, b'd' | b'D') => at(LOW_3),
            (LOW_3, b'c'..=b'f' | b'C'..=b'F') => at(HEX_2),
            _ => Step::No,
        }
    }

    /// The next byte of a shortest way to the end.
    pub(super) fn towards_end(self, position: u32) -> u8 {
        let (place, count) = (position & ((1 << PLACE_BITS) - 1), position >> PLACE_BITS);
        match place {
            QUOTE => b'"',
            BODY if count >= self.least => b'"',
            BODY => b'a',
            ESCAPE => b'n',
            ONE | TWO | THREE | LEAD_ED | LEAD_F4 => 0x80,
            LEAD_E0 => 0xA0,
            LEAD_F0 => 0x90,
            LOW_ESCAPE => b'\\',
            LOW_U => b'u',
            LOW_D => b'd',
            LOW_3 => b'c',
            _ => b'0',
        }
    }

    /// Bytes of that way.
    pub(super) fn distance(self, position: u32) -> u32 {
        let (place, count) = (position & ((1 << PLACE_BITS) - 1), position >> PLACE_BITS);
        let characters = self.least.saturating_sub(count) + 1;
        // What is begun becomes one of the characters that are needed anyway.
        let begun = |left: u32| characters.saturating_sub(1).max(1) + left;
        match place {
            QUOTE => characters + 1,
            BODY => characters,
            ESCAPE | ONE | HEX_1 => begun(1),
            TWO | LEAD_E0 | LEAD_ED | HEX_2 => begun(2),
            THREE | LEAD_F0 | LEAD_F4 | HEX_3 | HEX_D | LOW_3 => begun(3),
            HEX | LOW_D => begun(4),
            LOW_U => begun(5),
            LOW_ESCAPE => begun(6),
            HIGH_1 => begun(7),
            _ => begun(8),
        }
    }

    /// How many characters may still come, where plain ones may; None elsewhere.
    pub(super) fn plain(self, position: u32) -> Option<u32> {
        let (place, count) = (position & ((1 << PLACE_BITS) - 1), position >> PLACE_BITS);
        match place {
            BODY if self.most == MOST => Some(u32::MAX),
            BODY => Some(self.most - count),
            _ => None,
        }
    }
}
