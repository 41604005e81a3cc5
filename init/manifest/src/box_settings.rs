//! `kos-box.toml`, the owner's settings of one box: its name, its network, who owns it. It stands
//! on the first partition of the disk, where a person with any computer can write it, and `cargo
//! xtask flash` does.
//!
//! Everything in it is optional. A file in which one value is wrong counts as none: half of an
//! address is worse than the default.

pub mod values;

use core::net::IpAddr;
use std::str::FromStr;

use serde::Deserialize;
use toml::Spanned;

use crate::error::{ManifestError, parse_toml};
use crate::source::Source;
use values::{
    Country, HostName, InterfaceName, OwnerKey, Passphrase, PrefixAddress, Ssid, unicast,
};

/// Largest file, in bytes: many times what all keys together need.
pub const MAX_SETTINGS_BYTES: usize = 64 * 1024;
/// A resolver asks one after the other; more than these are never asked.
const MAX_DNS: usize = 8;

/// The settings, validated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BoxSettings {
    /// The box's name in its network.
    pub hostname: Option<HostName>,
    /// Who may claim the box without its pairing code.
    pub owner_key: Option<OwnerKey>,
    /// The wired network; DHCP when there is none.
    pub network: Option<NetworkSettings>,
    /// The wireless network.
    pub wifi: Option<WifiSettings>,
}

/// `[network]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkSettings {
    /// Which interface; the first wired one when there is none.
    pub interface: Option<InterfaceName>,
    /// The box's address; DHCP when there is none.
    pub address: Option<PrefixAddress>,
    /// The way out of that address's network.
    pub gateway: Option<IpAddr>,
    /// Name servers, the first one asked first.
    pub dns: Vec<IpAddr>,
}

/// `[wifi]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WifiSettings {
    /// Whose rules for radio hold.
    pub country: Country,
    /// The network's name.
    pub ssid: Ssid,
    /// The network's secret.
    pub passphrase: Passphrase,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawBoxSettings {
    hostname: Option<Spanned<String>>,
    owner_key: Option<Spanned<String>>,
    network: Option<RawNetwork>,
    wifi: Option<RawWifi>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawNetwork {
    interface: Option<Spanned<String>>,
    address: Option<Spanned<String>>,
    gateway: Option<Spanned<String>>,
    #[serde(default)]
    dns: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawWifi {
    country: Spanned<String>,
    ssid: Spanned<String>,
    passphrase: Spanned<String>,
}

impl BoxSettings {
    /// Parses a `kos-box.toml`.
    ///
    /// # Errors
    /// The first thing that is wrong: bad syntax, an unknown key, a value out of bounds, a gateway
    /// that cannot be reached from the address.
    pub fn parse(file: &str, text: &str) -> Result<Self, ManifestError> {
        let source = Source { file, text };
        source.at_most(MAX_SETTINGS_BYTES)?;
        let raw: RawBoxSettings = parse_toml(file, text)?;
        Ok(BoxSettings {
            hostname: optional(&source, "hostname", raw.hostname.as_ref())?,
            owner_key: optional(&source, "owner-key", raw.owner_key.as_ref())?,
            network: raw
                .network
                .map(|raw| NetworkSettings::from_raw(&source, "network.", &raw))
                .transpose()?,
            wifi: raw
                .wifi
                .map(|raw| WifiSettings::from_raw(&source, "wifi.", &raw))
                .transpose()?,
        })
    }

    /// The text of the file, which parses to the same settings.
    pub fn to_toml(&self) -> String {
        let mut text = String::from("# Settings of this kOS box. They are read at each boot.\n");
        if let Some(name) = &self.hostname {
            line(&mut text, "hostname", name.as_str());
        }
        if let Some(key) = &self.owner_key {
            line(&mut text, "owner-key", key.line());
        }
        if let Some(network) = &self.network {
            text.push_str("\n[network]\n");
            text.push_str(&network.to_toml());
        }
        if let Some(wifi) = &self.wifi {
            text.push_str("\n[wifi]\n");
            text.push_str(&wifi.to_toml());
        }
        text
    }
}

impl NetworkSettings {
    /// Parses the keys of `[network]` by themselves: what PID 1 hands to the network's service.
    ///
    /// # Errors
    /// As [`BoxSettings::parse`].
    pub fn parse(file: &str, text: &str) -> Result<Self, ManifestError> {
        let source = Source { file, text };
        source.at_most(MAX_SETTINGS_BYTES)?;
        Self::from_raw(&source, "", &parse_toml(file, text)?)
    }

    /// The keys of `[network]` by themselves.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        if let Some(interface) = &self.interface {
            line(&mut text, "interface", interface.as_str());
        }
        if let Some(address) = &self.address {
            line(&mut text, "address", &address.to_string());
        }
        if let Some(gateway) = &self.gateway {
            line(&mut text, "gateway", &gateway.to_string());
        }
        if !self.dns.is_empty() {
            let servers = self.dns.iter().map(|server| quoted(&server.to_string()));
            let servers = servers.collect::<Vec<_>>().join(", ");
            text.push_str(&format!("dns = [{servers}]\n"));
        }
        text
    }

    fn from_raw(
        source: &Source<'_>,
        prefix: &str,
        raw: &RawNetwork,
    ) -> Result<Self, ManifestError> {
        let key = |name: &str| format!("{prefix}{name}");
        let address: Option<PrefixAddress> =
            optional(source, &key("address"), raw.address.as_ref())?;
        let mut gateway = None;
        if let Some(text) = &raw.gateway {
            let at = key("gateway");
            let found = unicast(text.get_ref()).map_err(|m| source.error(&at, text, m))?;
            reachable(address, found).map_err(|m| source.error(&at, text, m))?;
            gateway = Some(found);
        }
        let mut dns = Vec::new();
        for text in &raw.dns {
            let server = unicast(text.get_ref());
            dns.push(server.map_err(|message| source.error(&key("dns"), text, message))?);
        }
        if let Some(beyond) = raw.dns.get(MAX_DNS) {
            let message = format!("found {} servers, allowed: {MAX_DNS}", raw.dns.len());
            return Err(source.error(&key("dns"), beyond, message));
        }
        Ok(NetworkSettings {
            interface: optional(source, &key("interface"), raw.interface.as_ref())?,
            address,
            gateway,
            dns,
        })
    }
}

/// Whether a gateway can be reached from an address. A slip here would take the box off its
/// network, where nobody could mend it.
fn reachable(address: Option<PrefixAddress>, gateway: IpAddr) -> Result<(), String> {
    let Some(address) = address else {
        return Err(format!(
            "found '{gateway}' without an address, allowed: together with network.address"
        ));
    };
    let on_the_link = matches!(gateway, IpAddr::V6(six) if six.is_unicast_link_local());
    if on_the_link && address.address.is_ipv6() {
        return Ok(());
    }
    if !address.contains(gateway) || gateway == address.address {
        return Err(format!(
            "found '{gateway}', allowed: another address in the network of {address}"
        ));
    }
    Ok(())
}

impl WifiSettings {
    /// Parses the keys of `[wifi]` by themselves: what PID 1 hands to the network's service.
    ///
    /// # Errors
    /// As [`BoxSettings::parse`].
    pub fn parse(file: &str, text: &str) -> Result<Self, ManifestError> {
        let source = Source { file, text };
        source.at_most(MAX_SETTINGS_BYTES)?;
        Self::from_raw(&source, "", &parse_toml(file, text)?)
    }

    /// The keys of `[wifi]` by themselves.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        line(&mut text, "country", self.country.as_str());
        line(&mut text, "ssid", self.ssid.as_str());
        line(&mut text, "passphrase", self.passphrase.reveal());
        text
    }

    fn from_raw(source: &Source<'_>, prefix: &str, raw: &RawWifi) -> Result<Self, ManifestError> {
        Ok(WifiSettings {
            country: value(source, &format!("{prefix}country"), &raw.country)?,
            ssid: value(source, &format!("{prefix}ssid"), &raw.ssid)?,
            passphrase: value(source, &format!("{prefix}passphrase"), &raw.passphrase)?,
        })
    }
}

fn value<T: FromStr<Err = String>>(
    source: &Source<'_>,
    key: &str,
    raw: &Spanned<String>,
) -> Result<T, ManifestError> {
    raw.get_ref()
        .parse()
        .map_err(|message| source.error(key, raw, message))
}

fn optional<T: FromStr<Err = String>>(
    source: &Source<'_>,
    key: &str,
    raw: Option<&Spanned<String>>,
) -> Result<Option<T>, ManifestError> {
    raw.map(|raw| value(source, key, raw)).transpose()
}

fn line(text: &mut String, key: &str, value: &str) {
    text.push_str(&format!("{key} = {}\n", quoted(value)));
}

/// A string of TOML, whatever is in it.
fn quoted(value: &str) -> String {
    toml::Value::String(value.to_owned()).to_string()
}

#[cfg(test)]
mod tests;
