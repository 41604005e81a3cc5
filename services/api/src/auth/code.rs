//! The pairing code: eight letters of Crockford's base 32, made by PID 1 at each boot.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Letters of a code, without its dash.
const LETTERS: usize = 8;

/// The code of this boot. Only its digest is kept, so that comparing takes the same time for
/// every guess, and so that the code is in no memory dump of this service.
pub struct PairingCode([u8; 32]);

impl PairingCode {
    /// The code as PID 1 wrote it; `None` when that is no code.
    pub fn new(text: &str) -> Option<Self> {
        normalise(text).map(|code| PairingCode(digest(&code)))
    }

    /// Whether `guess` is this code, however it was typed.
    pub fn matches(&self, guess: &str) -> bool {
        // A guess that is no code is compared as well: what takes time tells nothing.
        let guess = normalise(guess).unwrap_or_default();
        self.0.ct_eq(&digest(&guess)).into()
    }
}

fn digest(code: &str) -> [u8; 32] {
    Sha256::digest(code.as_bytes()).into()
}

/// A code as it is compared: upper case, no dash or space, and the letters that Crockford's
/// base 32 leaves out read as the digits they look like.
fn normalise(text: &str) -> Option<String> {
    let code: String = text
        .chars()
        .filter(|letter| !matches!(letter, '-' | '_' | ' '))
        // Longer than any code is no code; a long text is not copied whole.
        .take(LETTERS + 1)
        .map(|letter| match letter.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            letter => letter,
        })
        .collect();
    let fits = code.len() == LETTERS
        && code.chars().all(|letter| {
            letter.is_ascii_digit() || (letter.is_ascii_uppercase() && letter != 'U')
        });
    fits.then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_recognised_however_it_was_typed() {
        let code = PairingCode::new("A0B1-C2D3").unwrap();
        for typed in ["A0B1-C2D3", "a0b1c2d3", " aObl-c2 d3 ", "AoBI_C2D3"] {
            assert!(code.matches(typed), "{typed}");
        }
        for wrong in ["", "A0B1-C2D4", "A0B1-C2D", "A0B1-C2D33", "A0B1-C2Dé"] {
            assert!(!code.matches(wrong), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_code_makes_none() {
        for text in ["", "SHORT", "U0B1-C2D3", "A0B1-C2D3-E4"] {
            assert!(PairingCode::new(text).is_none(), "{text}");
        }
    }
}
