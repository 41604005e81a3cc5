//! What others may know: `state.json` for the API, `resolv.conf` for whoever resolves names.
//!
//! Both are replaced as a whole: a reader sees the old file or the new one, never a half.

use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::clock::Source;
use crate::hostname::{DomainName, Hostname};

/// resolv.conf takes more lines than anyone asks; this keeps it readable.
const MAX_NAME_SERVERS: usize = 6;

/// The whole state.
#[derive(Debug, Default, Serialize)]
pub struct State {
    /// The name that DHCP gave the machine, once it is set.
    pub hostname: Option<Hostname>,
    /// Every link that is handled, in the kernel's order.
    pub interfaces: Vec<Interface>,
    /// Name servers of all links, in order, without repeats.
    pub dns: Vec<IpAddr>,
    /// Domains to search, of all links.
    pub search: Vec<DomainName>,
    /// The clock.
    pub ntp: Ntp,
    /// What went wrong outside of a link, in words.
    pub errors: Vec<String>,
}

/// One link.
#[derive(Debug, Serialize)]
pub struct Interface {
    /// Its name, such as `eth0`.
    pub name: String,
    /// Its hardware address.
    pub mac: String,
    /// How it is.
    pub state: InterfaceState,
    /// Where its IPv4 address comes from.
    pub method: Method,
    /// IPv4 addresses with prefix, such as `10.0.2.15/24`.
    pub ipv4: Vec<String>,
    /// IPv6 addresses with prefix.
    pub ipv6: Vec<String>,
    /// Router of the IPv4 default route.
    pub gateway: Option<IpAddr>,
    /// Routers of IPv6 default routes: those that advertise themselves, and the owner's.
    pub ipv6_routers: Vec<IpAddr>,
    /// Name servers of this link.
    pub dns: Vec<IpAddr>,
    /// The name that its DHCP server has for this machine.
    pub hostname: Option<Hostname>,
    /// The DHCP lease.
    pub lease: Option<LeaseState>,
    /// What is wrong, in words.
    pub error: Option<String>,
}

/// How a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum InterfaceState {
    /// Not set up.
    Down,
    /// No cable.
    NoCarrier,
    /// Looking for an address.
    Configuring,
    /// It has an address.
    Configured,
}

/// Where an IPv4 address comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// A DHCP server.
    Dhcp,
    /// The owner's settings.
    Static,
}

/// A lease; times are Unix seconds by the clock as it is now.
#[derive(Debug, Serialize)]
pub struct LeaseState {
    /// Who granted it.
    pub server: IpAddr,
    /// When it was granted or last renewed.
    pub obtained_at: u64,
    /// How long it is valid, in seconds; null is for ever.
    pub lifetime_s: Option<u64>,
    /// When it is to be renewed.
    pub renew_at: u64,
    /// When any server is asked to renew it.
    pub rebind_at: u64,
    /// When it ends; null is never.
    pub expires_at: Option<u64>,
}

/// The clock.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Ntp {
    /// Who told the time last.
    pub server: Option<String>,
    /// Who named that server.
    pub source: Option<Source>,
    /// How much the clock was behind, in milliseconds.
    pub offset_ms: Option<f64>,
    /// The clock was set by that answer.
    pub stepped: bool,
    /// When that was, in Unix seconds.
    pub synced_at: Option<u64>,
    /// In words.
    pub status: String,
}

/// The directory where the files are.
pub struct Files {
    directory: PathBuf,
    state: String,
    resolv_conf: String,
}

impl Files {
    /// Files in a directory that exists.
    pub fn new(directory: PathBuf) -> Self {
        Files {
            directory,
            state: String::new(),
            resolv_conf: String::new(),
        }
    }

    /// Writes what has changed since the last call.
    pub fn write(&mut self, state: &State) -> io::Result<()> {
        let resolv_conf = resolv_conf(&state.dns, &state.search);
        if resolv_conf != self.resolv_conf {
            replace(&self.directory.join("resolv.conf"), &resolv_conf)?;
            self.resolv_conf = resolv_conf;
        }
        let mut json = serde_json::to_string_pretty(state).map_err(io::Error::other)?;
        json.push('\n');
        if json != self.state {
            replace(&self.directory.join("state.json"), &json)?;
            self.state = json;
        }
        Ok(())
    }
}

/// Puts a file in the place of another in one step. Not synced: the directory is in memory.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, text)?;
    std::fs::rename(&fresh, path)
}

fn resolv_conf(dns: &[IpAddr], search: &[DomainName]) -> String {
    let mut text = String::from("# by kos-net\n");
    if !search.is_empty() {
        text.push_str("search");
        for domain in search {
            let _ = write!(text, " {domain}");
        }
        text.push('\n');
    }
    for server in dns.iter().take(MAX_NAME_SERVERS) {
        let _ = writeln!(text, "nameserver {server}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_has_its_format() {
        let dns = ["10.0.2.3".parse().unwrap(), "fec0::3".parse().unwrap()];
        let search = [DomainName::parse("home.arpa").unwrap()];
        assert_eq!(
            resolv_conf(&dns, &search),
            "# by kos-net\nsearch home.arpa\nnameserver 10.0.2.3\nnameserver fec0::3\n"
        );
        assert_eq!(resolv_conf(&[], &[]), "# by kos-net\n");
    }

    #[test]
    fn files_are_replaced_when_they_change() {
        let directory = tempfile::tempdir().unwrap();
        let mut files = Files::new(directory.path().to_owned());
        let mut state = State::default();
        files.write(&state).unwrap();
        let path = directory.path().join("state.json");
        let first = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        files.write(&state).unwrap();
        assert!(!path.exists());
        state.dns.push("10.0.2.3".parse().unwrap());
        files.write(&state).unwrap();
        assert_ne!(std::fs::read_to_string(&path).unwrap(), first);
        let conf = std::fs::read_to_string(directory.path().join("resolv.conf")).unwrap();
        assert!(conf.contains("nameserver 10.0.2.3\n"));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
