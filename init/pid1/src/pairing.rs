//! The pairing code: made anew at each boot, printed on the machine's own console, and handed to
//! the one service whose manifest asks for it.

use anyhow::Result;

use crate::reset::random;

/// Crockford's base 32: no letter looks like another one.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Makes a code of 40 random bits, as `XXXX-XXXX`. With the API's limit of tries per minute that
/// is tens of thousands of years of guessing.
///
/// # Errors
/// When the kernel has no random numbers.
pub fn make_code() -> Result<String> {
    Ok(spell(random()?))
}

fn spell(bytes: [u8; 8]) -> String {
    let mut code = String::with_capacity(9);
    for (index, byte) in bytes.iter().enumerate() {
        if index == 4 {
            code.push('-');
        }
        // 256 is a multiple of 32, so every letter is as likely as any other.
        code.push(char::from(ALPHABET[usize::from(byte % 32)]));
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_two_groups_of_letters_that_look_like_no_other() {
        assert_eq!(spell([0, 31, 32, 255, 10, 18, 20, 25]), "0Z0Z-AJMS");
        let code = make_code().unwrap();
        assert_eq!((code.len(), code.as_bytes()[4]), (9, b'-'));
        assert_ne!(code, make_code().unwrap());
    }
}
