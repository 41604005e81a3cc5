//! The values of the owner's settings: each is checked once, when it is made from text, and its
//! error says what was found and what is allowed.

use core::net::IpAddr;
use std::fmt;
use std::str::FromStr;

/// Longest label of a host name (RFC 1035).
const MAX_LABEL: usize = 63;
/// Longest name of a network interface: `IFNAMSIZ` without its end.
const MAX_INTERFACE: usize = 15;
/// Longest name of a wireless network (IEEE 802.11).
const MAX_SSID: usize = 32;
/// Lengths of a passphrase of WPA.
const PASSPHRASE: std::ops::RangeInclusive<usize> = 8..=63;
/// Longer comments than this say nothing more about a key.
const MAX_COMMENT: usize = 200;
/// The kind of key that an owner may have: the one that every OpenSSH makes by default.
const KEY_KIND: &str = "ssh-ed25519";
/// How much of a wrong value an error shows.
const SHOWN: usize = 80;

/// What was found (shortened, without control characters) and what is allowed.
fn refuse(found: &str, allowed: &str) -> String {
    let shown: String = found
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .take(SHOWN)
        .collect();
    format!("found '{shown}', allowed: {allowed}")
}

/// Gives a value that is text inside its reading and writing.
macro_rules! text_value {
    ($name:ident) => {
        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

/// A host name: one label of RFC 1123.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName(String);
text_value!(HostName);

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let letters = text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let edges = !text.starts_with('-') && !text.ends_with('-');
        if letters && edges && (1..=MAX_LABEL).contains(&text.len()) {
            return Ok(HostName(text.to_owned()));
        }
        Err(refuse(
            text,
            "1 to 63 letters, digits and dashes, no dash at an end",
        ))
    }
}

/// The name of a network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceName(String);
text_value!(InterfaceName);

impl FromStr for InterfaceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let letters = text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if letters
            && (1..=MAX_INTERFACE).contains(&text.len())
            && !text.starts_with('.')
            && text != "lo"
        {
            return Ok(InterfaceName(text.to_owned()));
        }
        Err(refuse(
            text,
            "the name of an interface, such as eth0: at most 15 letters, digits, dashes, dots and \
             underscores",
        ))
    }
}

/// An address together with the length of its network's prefix: `192.168.1.20/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrefixAddress {
    /// The address.
    pub address: IpAddr,
    /// Bits of it that name the network.
    pub prefix: u8,
}

impl PrefixAddress {
    /// Whether another address is in the same network.
    pub fn contains(&self, other: IpAddr) -> bool {
        match (self.address, other) {
            (IpAddr::V4(ours), IpAddr::V4(other)) => {
                let host = 32 - u32::from(self.prefix.min(32));
                (u32::from(ours) ^ u32::from(other))
                    .checked_shr(host)
                    .unwrap_or(0)
                    == 0
            }
            (IpAddr::V6(ours), IpAddr::V6(other)) => {
                let host = 128 - u32::from(self.prefix.min(128));
                (u128::from(ours) ^ u128::from(other))
                    .checked_shr(host)
                    .unwrap_or(0)
                    == 0
            }
            _ => false,
        }
    }

    /// Whether the address is one that a machine can have in this network: in IPv4 the first and
    /// the last name the network and everybody in it.
    fn is_a_machine(&self) -> bool {
        let IpAddr::V4(address) = self.address else {
            return true;
        };
        let hosts = u32::MAX
            .checked_shr(u32::from(self.prefix))
            .unwrap_or_default();
        let host = u32::from(address) & hosts;
        hosts <= 1 || (host != 0 && host != hosts)
    }
}

impl fmt::Display for PrefixAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for PrefixAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (address, prefix) = text.split_once('/')?;
            let address = unicast(address).ok()?;
            let digits = prefix.bytes().all(|byte| byte.is_ascii_digit());
            let prefix: u8 = digits.then(|| prefix.parse().ok())??;
            let bits = if address.is_ipv4() { 32 } else { 128 };
            let parsed = PrefixAddress { address, prefix };
            ((1..=bits).contains(&prefix) && parsed.is_a_machine()).then_some(parsed)
        };
        parse().ok_or_else(|| {
            refuse(
                text,
                "the address of one machine and the length of its network's prefix, such as \
                 192.168.1.20/24 or fd00::20/64",
            )
        })
    }
}

/// The address of one other machine: a gateway, a name server.
///
/// # Errors
/// It is no address, or one that no machine has (unspecified, loopback, multicast, broadcast).
pub fn unicast(text: &str) -> Result<IpAddr, String> {
    let parsed: Option<IpAddr> = text.parse().ok().filter(|address: &IpAddr| {
        let everybody = matches!(address, IpAddr::V4(address) if address.is_broadcast());
        !everybody && !address.is_unspecified() && !address.is_loopback() && !address.is_multicast()
    });
    parsed.ok_or_else(|| refuse(text, "the IPv4 or IPv6 address of one machine"))
}

/// The name of a wireless network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ssid(String);
text_value!(Ssid);

impl FromStr for Ssid {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if (1..=MAX_SSID).contains(&text.len()) && !text.chars().any(char::is_control) {
            return Ok(Ssid(text.to_owned()));
        }
        Err(refuse(
            text,
            "the name of a wireless network: 1 to 32 bytes, no control characters",
        ))
    }
}

/// The passphrase of a wireless network. It is shown nowhere, not even by an error.
#[derive(Clone, PartialEq, Eq)]
pub struct Passphrase(String);

impl Passphrase {
    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("(a passphrase)")
    }
}

impl FromStr for Passphrase {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if printable && PASSPHRASE.contains(&text.len()) {
            return Ok(Passphrase(text.to_owned()));
        }
        Err(format!(
            "found {} characters{}, allowed: 8 to 63 printable ASCII characters",
            text.chars().count(),
            if printable {
                ""
            } else {
                ", some of them not printable ASCII"
            }
        ))
    }
}

/// The country whose rules for radio hold: two capital letters of ISO 3166.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Country(String);
text_value!(Country);

impl FromStr for Country {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Ok(Country(text.to_owned()));
        }
        Err(refuse(text, "a country's two capital letters, such as DE"))
    }
}

/// The owner's public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerKey {
    key: [u8; 32],
    line: String,
}

impl OwnerKey {
    /// The key itself, as Ed25519 (RFC 8032) has it.
    pub fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// The line as OpenSSH writes it, its comment included.
    pub fn line(&self) -> &str {
        &self.line
    }
}

impl fmt::Display for OwnerKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.line)
    }
}

impl FromStr for OwnerKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let line = text.trim();
        let parse = || {
            let (kind, rest) = line.split_once(' ')?;
            let (base64, comment) = rest.split_once(' ').unwrap_or((rest, ""));
            let plain = comment.len() <= MAX_COMMENT && !comment.chars().any(char::is_control);
            (kind == KEY_KIND && plain).then(|| ed25519_blob(base64))?
        };
        match parse() {
            Some(key) => Ok(OwnerKey {
                key,
                line: line.to_owned(),
            }),
            None => Err(refuse(
                line,
                "the one line of a public key of OpenSSH of the kind Ed25519 \
                 (the file id_ed25519.pub): ssh-ed25519, the key, a comment",
            )),
        }
    }
}

/// The key in OpenSSH's form: the kind and the key, each after its length.
fn ed25519_blob(base64: &str) -> Option<[u8; 32]> {
    let blob = base64_bytes(base64)?;
    let rest = blob.strip_prefix(&[0, 0, 0, 11])?;
    let rest = rest.strip_prefix(KEY_KIND.as_bytes())?;
    let key = rest.strip_prefix(&[0, 0, 0, 32])?;
    key.try_into().ok()
}

/// The 51 bytes of such a key, which fill 68 letters of base 64 with nothing left over.
fn base64_bytes(text: &str) -> Option<[u8; 51]> {
    if text.len() != 68 {
        return None;
    }
    let mut bytes = [0; 51];
    for (letters, out) in text
        .as_bytes()
        .chunks_exact(4)
        .zip(bytes.chunks_exact_mut(3))
    {
        let mut group = 0u32;
        for letter in letters {
            let value = match letter {
                b'A'..=b'Z' => letter - b'A',
                b'a'..=b'z' => letter - b'a' + 26,
                b'0'..=b'9' => letter - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            group = group << 6 | u32::from(value);
        }
        out.copy_from_slice(&group.to_be_bytes()[1..]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `ssh-keygen -t ed25519` for this test; its private half is gone.
    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0Hkm5ZHcXvUGmAFMUbKSB/3sXAt7cv5kkBcQL0WfdM me@desk";

    #[test]
    fn host_names() {
        assert!("kos".parse::<HostName>().is_ok());
        assert!("box-7".parse::<HostName>().is_ok());
        for bad in ["", "-a", "a-", "a.b", "a b", "ä", "x\ny", &"a".repeat(64)] {
            let error = bad.parse::<HostName>().unwrap_err();
            assert!(error.contains("allowed") && !error.contains('\n'), "{bad}");
        }
    }

    #[test]
    fn addresses_with_their_networks() {
        let address: PrefixAddress = "192.168.1.20/24".parse().unwrap();
        assert_eq!(address.to_string(), "192.168.1.20/24");
        assert!(address.contains("192.168.1.1".parse().unwrap()));
        assert!(!address.contains("192.168.2.1".parse().unwrap()));
        assert!(!address.contains("fd00::1".parse().unwrap()));
        let six: PrefixAddress = "fd00::20/64".parse().unwrap();
        assert!(six.contains("fd00::1".parse().unwrap()));
        assert!(!six.contains("fd00:0:0:1::1".parse().unwrap()));
        for good in ["10.0.0.0/31", "10.0.0.1/32", "fe80::1/128", "1.2.3.4/1"] {
            assert!(good.parse::<PrefixAddress>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "192.168.1.20",
            "192.168.1.20/",
            "192.168.1.20/33",
            "192.168.1.20/+24",
            "192.168.1.20/0",
            "192.168.1.0/24",
            "192.168.1.255/24",
            "127.0.0.1/8",
            "224.0.0.1/4",
            "0.0.0.0/8",
            "fd00::20/129",
            "::/64",
            "fe80::1%eth0/64",
            "kos/24",
        ] {
            assert!(bad.parse::<PrefixAddress>().is_err(), "{bad}");
        }
        assert!(unicast("255.255.255.255").is_err() && unicast("ff02::1").is_err());
    }

    #[test]
    fn interfaces_networks_and_countries() {
        assert!("enp0s31f6".parse::<InterfaceName>().is_ok());
        for bad in ["", "lo", "..", "a/b", "a b", "sixteen-letters-"] {
            assert!(bad.parse::<InterfaceName>().is_err(), "{bad}");
        }
        assert!("Café 5 GHz".parse::<Ssid>().is_ok());
        for bad in ["", "a\nb", &"x".repeat(33), &"é".repeat(17)] {
            assert!(bad.parse::<Ssid>().is_err(), "{bad}");
        }
        assert!("DE".parse::<Country>().is_ok());
        for bad in ["", "de", "D", "DEU", "D1"] {
            assert!(bad.parse::<Country>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_passphrase_is_never_shown() {
        let secret: Passphrase = "correct horse".parse().unwrap();
        assert_eq!(secret.reveal(), "correct horse");
        assert!(!format!("{secret:?}").contains("horse"));
        for bad in [
            "1234567",
            &"x".repeat(64),
            "geheim\u{e4}nis",
            "tab\tbed tab",
        ] {
            let error = bad.parse::<Passphrase>().unwrap_err();
            assert!(error.contains("8 to 63") && !error.contains(bad), "{error}");
        }
    }

    #[test]
    fn an_owners_key_is_the_line_of_openssh() {
        let key: OwnerKey = format!("{KEY}\n").parse().unwrap();
        assert_eq!(key.line(), KEY);
        assert_eq!((key.key()[0], key.key()[31]), (0x9d, 0x4c));
        let bare = KEY.rsplit_once(' ').unwrap().0;
        assert!(bare.parse::<OwnerKey>().is_ok());
        for bad in [
            "",
            "ssh-ed25519",
            "ssh-ed25519 AAAA",
            &KEY.replace("ssh-ed25519 ", "ssh-rsa "),
            &KEY.replace("NTE5", "NTE4"),
            &KEY.replace("AAAAIJ", "AAAAHJ"),
            &KEY.replace("5kkB", "5k=="),
            &format!("{KEY}\nssh-ed25519 {KEY}"),
            &format!("restrict {KEY}"),
        ] {
            assert!(bad.parse::<OwnerKey>().is_err(), "{bad}");
        }
    }
}
