//! The owner's key: an Ed25519 key of OpenSSH, whose public half PID 1 found in `kos-box.toml`.
//!
//! A signature is what `ssh-keygen -Y sign -n kos-owner` writes (the armoured `SSHSIG` of OpenSSH's
//! PROTOCOL.sshsig). The namespace keeps signatures apart: one over a mail or a git commit, made
//! with the same key, opens no box.

use ssh_key::{HashAlg, PublicKey, SshSig};

/// The namespace that the owner signs in.
pub const NAMESPACE: &str = "kos-owner";
/// The kind of key that every OpenSSH of today makes by default.
const KIND: &str = "ssh-ed25519";
/// How much of a wrong text an error repeats.
const SHOWN: usize = 80;
/// Longest armoured signature: one by an Ed25519 key has about 300 bytes.
const MAX_SIGNATURE: usize = 4096;

/// The public half.
pub struct OwnerKey(PublicKey);

/// Why a text is no owner's key, or a signature not the owner's.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// The line is no public key.
    #[error("owner-key: found what is no public key of OpenSSH ({0}); allowed: '{KIND} AAAA…'")]
    NoKey(ssh_key::Error),
    /// It is one of another kind.
    #[error("owner-key: found a key of the kind '{0}'; allowed: {KIND}")]
    OtherKind(String),
    /// The signature cannot be read.
    #[error(
        "that is no signature of ssh-keygen; allowed: the lines from '-----BEGIN SSH SIGNATURE-----' \
         to '-----END SSH SIGNATURE-----'"
    )]
    NoSignature,
    /// It is far too long to be one.
    #[error("that is no signature of ssh-keygen: it has {0} bytes; allowed: {MAX_SIGNATURE}")]
    TooLong(usize),
    /// It says something about another matter.
    #[error("the signature is for the namespace '{0}'; allowed: '{NAMESPACE}'")]
    OtherNamespace(String),
    /// Someone else signed.
    #[error("the signature is by the key {0}, which is not the owner's")]
    OtherKey(ssh_key::Fingerprint),
    /// It belongs to another nonce, or it was made up.
    #[error("the signature does not belong to this nonce")]
    Wrong,
}

impl OwnerKey {
    /// The key in a line as `~/.ssh/id_ed25519.pub` has it.
    ///
    /// # Errors
    /// When it is none, or none that is taken.
    pub fn parse(line: &str) -> Result<Self, OwnerError> {
        let kind = line.split_whitespace().next().unwrap_or_default();
        if kind != KIND {
            let kind = kind.escape_default().take(SHOWN).collect();
            return Err(OwnerError::OtherKind(kind));
        }
        let key = PublicKey::from_openssh(line.trim()).map_err(OwnerError::NoKey)?;
        Ok(OwnerKey(key))
    }

    /// `SHA256:…`, as `ssh-keygen -l` shows it.
    pub fn fingerprint(&self) -> String {
        self.0.fingerprint(HashAlg::Sha256).to_string()
    }

    /// Checks an armoured signature over a nonce, or over the nonce and a line's end, which `echo`
    /// and an editor add.
    ///
    /// # Errors
    /// When it is not the owner's.
    pub fn check(&self, nonce: &str, signature: &str) -> Result<(), OwnerError> {
        if signature.len() > MAX_SIGNATURE {
            return Err(OwnerError::TooLong(signature.len()));
        }
        // A form sends its lines with CR LF.
        let armoured = signature.trim().replace("\r\n", "\n");
        let signature = SshSig::from_pem(armoured).map_err(|_| OwnerError::NoSignature)?;
        if signature.public_key() != self.0.key_data() {
            let other = signature.public_key().fingerprint(HashAlg::Sha256);
            return Err(OwnerError::OtherKey(other));
        }
        if signature.namespace() != NAMESPACE {
            let namespace = signature.namespace().escape_default();
            return Err(OwnerError::OtherNamespace(namespace.take(SHOWN).collect()));
        }
        let line = format!("{nonce}\n");
        [nonce, &line]
            .into_iter()
            .any(|text| {
                self.0
                    .verify(NAMESPACE, text.as_bytes(), &signature)
                    .is_ok()
            })
            .then_some(())
            .ok_or(OwnerError::Wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made once with `ssh-keygen -t ed25519` and `ssh-keygen -Y sign`; the private halves are gone.
    const NONCE: &str = "nonce-of-the-tests";
    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMEQC4xA2kqmycoMVhE8J7esG1pAsOt73mmvqHTrkZ8x owner of a test box";
    const OTHER_KIND: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBOSc/3w6hlercXanvwji9vNfBIDdS03bEQCOmQ0X2WGgioFCVbxAi4lhAyuwwFpud8utg4YNj1xqEEZ47UsOzhs= ec";
    /// Over the nonce.
    const PLAIN: &str = "\
-----BEGIN SSH SIGNATURE-----
U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAgwRALjEDaSqbJygxWETwnt6wbWk
Cw63veaa+odOuRnzEAAAAJa29zLW93bmVyAAAAAAAAAAZzaGE1MTIAAABTAAAAC3NzaC1l
ZDI1NTE5AAAAQDXEWccqDhpdEZvVaVlqCzrVejDNOMBP6MKdRHLKs5XaQHbnFxzyiL2jgv
TnIHfLsI5wocNIYcj+RewcKPdhvQI=
-----END SSH SIGNATURE-----
";
    /// Over the nonce and a line's end.
    const LINE: &str = "\
-----BEGIN SSH SIGNATURE-----
U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAgwRALjEDaSqbJygxWETwnt6wbWk
Cw63veaa+odOuRnzEAAAAJa29zLW93bmVyAAAAAAAAAAZzaGE1MTIAAABTAAAAC3NzaC1l
ZDI1NTE5AAAAQJIFQaczb46ewnRbQbJblGTb/V7gA+H/AHJYxknxlTHg1cfy5ZbTywFk3k
G0IP/oJVdCFxEt7CIdyMUHdV2ysgo=
-----END SSH SIGNATURE-----
";
    /// Over the nonce, for the namespace `file`.
    const FILE: &str = "\
-----BEGIN SSH SIGNATURE-----
U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAgwRALjEDaSqbJygxWETwnt6wbWk
Cw63veaa+odOuRnzEAAAAEZmlsZQAAAAAAAAAGc2hhNTEyAAAAUwAAAAtzc2gtZWQyNTUx
OQAAAEDUI+qt+6De8Msq6UABl3no/PJSAcAnxTyH3MBCx/qp5BI8ETzqb8FhAwT8WFMUtf
Tw6Xosb3K5u45oGGAwayAG
-----END SSH SIGNATURE-----
";
    /// Over the nonce, by another key.
    const OTHER: &str = "\
-----BEGIN SSH SIGNATURE-----
U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAgvk3Z35nzeUSIdtZIaDr9gn0sOz
3PVHR6OkWAt4i5OF8AAAAJa29zLW93bmVyAAAAAAAAAAZzaGE1MTIAAABTAAAAC3NzaC1l
ZDI1NTE5AAAAQO8Fh8yNmSbJA5V8jHzu51/iHbOaFFLiUqHgmoD5uMenDC4hSYo5adD1iK
XbvzEMO8ByTNeWGPI0YB4A7OxKSwA=
-----END SSH SIGNATURE-----
";

    fn refusal(nonce: &str, signature: &str) -> String {
        let key = OwnerKey::parse(KEY).unwrap();
        key.check(nonce, signature).unwrap_err().to_string()
    }

    #[test]
    fn what_the_owner_signed_is_taken() {
        let key = OwnerKey::parse(KEY).unwrap();
        assert_eq!(
            key.fingerprint(),
            "SHA256:9CxHmgVXbAUVQV4YPStzNMrqFAg012urhILPbnCSbEQ"
        );
        key.check(NONCE, PLAIN).unwrap();
        key.check(NONCE, LINE).unwrap();
        // As a form sends it.
        key.check(NONCE, &format!(" {}", PLAIN.replace('\n', "\r\n")))
            .unwrap();
    }

    #[test]
    fn anything_else_is_refused_with_its_reason() {
        let wrong = "the signature does not belong to this nonce";
        assert_eq!(refusal("nonce-of-the-test", PLAIN), wrong);
        assert_eq!(refusal(&format!("{NONCE}\n\n"), PLAIN), wrong);
        assert!(refusal(NONCE, FILE).contains("namespace 'file'; allowed: 'kos-owner'"));
        assert!(refusal(NONCE, OTHER).contains("by the key SHA256:"));
        // The last bytes are of the signature itself, not of the key or the namespace.
        let forged = PLAIN.replace("hvQI=", "hvRI=");
        assert_ne!(forged, PLAIN);
        assert_eq!(refusal(NONCE, &forged), wrong);
        let none = "no signature of ssh-keygen";
        for text in [
            "",
            "AB12-CD34",
            &PLAIN[..200],
            &PLAIN.replace("U1NI", "U1NJ"),
        ] {
            assert!(refusal(NONCE, text).contains(none), "{text}");
        }
        assert!(refusal(NONCE, &"A".repeat(5000)).contains("5000 bytes"));
    }

    #[test]
    fn only_an_ed25519_key_is_one() {
        let error = |line: &str| OwnerKey::parse(line).err().unwrap().to_string();
        let kind = "found a key of the kind 'ecdsa-sha2-nistp256'; allowed: ssh-ed25519";
        assert!(error(OTHER_KIND).contains(kind), "{}", error(OTHER_KIND));
        assert!(error("").contains("the kind ''"));
        let disguised = OTHER_KIND.replace("ecdsa-sha2-nistp256 ", "ssh-ed25519 ");
        for line in ["ssh-ed25519", "ssh-ed25519 AAAA", &disguised] {
            assert!(
                error(line).contains("allowed: 'ssh-ed25519 AAAA…'"),
                "{line}"
            );
        }
    }
}
