//! Host names: what a DHCP server offers becomes a [`Hostname`] only if it could be one.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

/// Longest name that the kernel takes (`__NEW_UTS_LEN`).
const MAX_NAME: usize = 64;
/// Longest label of a domain name (RFC 1035, 2.3.4).
const MAX_LABEL: usize = 63;
/// Longest domain name as text (RFC 1035, 2.3.4).
const MAX_DOMAIN: usize = 253;
/// PID 1 answers from memory; more than this means that it does not answer.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(5);

/// A valid host name: letters, digits and hyphens in labels joined by dots (RFC 1123, 2.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Hostname(String);

/// A valid domain name, for `search` in resolv.conf; the same letters, but longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct DomainName(String);

impl Hostname {
    /// The name if it is one that means this machine; `localhost` and digits alone do not.
    pub fn parse(text: &str) -> Option<Self> {
        let name = text.trim_end_matches('\0');
        let named = name.len() <= MAX_NAME
            && labels_are_valid(name)
            && !name.eq_ignore_ascii_case("localhost")
            && !name
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'.');
        named.then(|| Hostname(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl DomainName {
    /// The name without the root's dot, if it is valid.
    pub fn parse(text: &str) -> Option<Self> {
        let name = text.trim_end_matches('\0');
        let name = name.strip_suffix('.').unwrap_or(name);
        (name.len() <= MAX_DOMAIN && labels_are_valid(name)).then(|| DomainName(name.to_owned()))
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

fn labels_are_valid(name: &str) -> bool {
    name.split('.').all(|label| {
        !label.is_empty()
            && label.len() <= MAX_LABEL
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    })
}

/// The name that the kernel had for this machine when the service was started.
pub fn current() -> Option<Hostname> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Hostname::parse(name.trim())
}

/// Asks PID 1 to give the machine this name: the service has a UTS namespace of its own.
pub async fn apply(name: &Hostname) -> Result<()> {
    let set = async {
        kos_sdk::control::connect()
            .await
            .context("cannot reach PID 1")?
            .set_hostname(name.as_str())
            .await
            .context("PID 1 refuses the host name")
    };
    tokio::time::timeout(CONTROL_TIMEOUT, set)
        .await
        .context("PID 1 does not answer")?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_are_taken() {
        for name in ["kos", "kos-1", "box.home.arpa", "1and1", "KOS"] {
            assert_eq!(Hostname::parse(name).unwrap().as_str(), name);
        }
        assert_eq!(Hostname::parse("kos\0").unwrap().as_str(), "kos");
        assert_eq!(
            DomainName::parse("home.arpa.").unwrap().to_string(),
            "home.arpa"
        );
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "a".repeat(65);
        let label = format!("{}.b", "a".repeat(64));
        for name in [
            "",
            ".",
            "-a",
            "a-",
            "a..b",
            "a b",
            "a\nsearch evil",
            "a;b",
            "ä",
            "a\0b",
            "localhost",
            "10.0.2.15",
            "42",
            "$(x)",
            "(none)",
            &long,
            &label,
        ] {
            assert!(Hostname::parse(name).is_none(), "{name:?}");
        }
        assert!(DomainName::parse("a\nnameserver 1.2.3.4").is_none());
        assert!(DomainName::parse(&"a.".repeat(200)).is_none());
    }
}
