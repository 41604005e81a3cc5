//! The pairing code: made anew at each boot, printed on the machine's own console, and handed to
//! the one service whose manifest asks for it.

use std::io::ErrorKind;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};

use anyhow::{Context, Result, anyhow};
use kos_manifest::service::{Service, ServiceSet};

use crate::spec;

/// Crockford's base 32: no letter looks like another one.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Makes a code of 40 random bits, as `XXXX-XXXX`. With the API's limit of tries per minute that
/// is tens of thousands of years of guessing.
///
/// # Errors
/// When the kernel has no random numbers.
pub fn make_code() -> Result<String> {
    let mut bytes = [0u8; 8];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("no random numbers: {error}"))?;
    Ok(spell(bytes))
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

/// Puts the secrets of each service where only it can read them.
///
/// # Errors
/// The first file that cannot be written.
pub fn hand_out(services: &ServiceSet, code: &str) -> Result<()> {
    for service in services
        .iter()
        .filter(|service| !service.credentials.is_empty())
    {
        hand_to(service, code).with_context(|| format!("credentials of {}", service.name))?;
    }
    Ok(())
}

fn hand_to(service: &Service, code: &str) -> Result<()> {
    use std::io::Write;
    let directory = spec::credentials_directory(&service.name);
    match std::fs::create_dir_all(&directory) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error.into()),
        _ => {}
    }
    for name in &service.credentials {
        let path = directory.join(name);
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o400)
            .open(&path)?;
        file.write_all(code.as_bytes())?;
        chown(&path, Some(service.uid), Some(service.uid))?;
    }
    chown(&directory, Some(service.uid), Some(service.uid))?;
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o500))?;
    Ok(())
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
