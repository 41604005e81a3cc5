//! What the owner wrote into `kos-box.toml` about the network, and which link it is for.
//!
//! Nothing here can take the box off its network: links that the settings are not for use DHCP, so
//! that a wrong name costs the fixed address only.

use std::net::IpAddr;

use anyhow::{Context, Result};
use kos_manifest::box_settings::NetworkSettings;

use crate::fixed::Fixed;
use crate::netlink::Link;

/// Names of links that a sentence lists at most.
const MAX_NAMES: usize = 8;

/// The settings, and the link that has them.
#[derive(Debug, Default)]
pub struct OwnerSettings {
    network: NetworkSettings,
    has_wifi: bool,
    /// The link that the fixed address is for, once it is there.
    link: Option<u32>,
}

impl OwnerSettings {
    /// The settings that PID 1 handed over. What is wrong with them is told, and they are left out.
    pub fn read(errors: &mut Vec<String>) -> Self {
        let network = read_network().unwrap_or_else(|error| {
            errors.push(format!("{error:#}"));
            NetworkSettings::default()
        });
        // Whether there are any is all that can be used of them.
        let wifi = kos_sdk::credentials::read_optional("wifi-settings");
        OwnerSettings::new(network, !matches!(wifi, Ok(None)))
    }

    fn new(network: NetworkSettings, has_wifi: bool) -> Self {
        OwnerSettings {
            network,
            has_wifi,
            link: None,
        }
    }

    /// The owner's name servers; when there are any, no others are used.
    pub fn dns(&self) -> &[IpAddr] {
        &self.network.dns
    }

    /// A link was found: the fixed address, when it is for this one.
    pub fn claim(&mut self, link: &Link) -> Option<Fixed> {
        let address = self.network.address?;
        let is_named = match &self.network.interface {
            Some(name) => name.as_str() == link.name,
            // The first one found.
            None => true,
        };
        if self.link.is_some() || !is_named {
            return None;
        }
        self.link = Some(link.index);
        Some(Fixed {
            address,
            gateway: self.network.gateway,
        })
    }

    /// A link is gone. The next one that fits has its address.
    pub fn release(&mut self, index: u32) {
        if self.link == Some(index) {
            self.link = None;
        }
    }

    /// What to say while the link of the fixed address is not there, given those that are.
    pub fn missing<'a>(&self, links: impl Iterator<Item = &'a str>) -> Option<String> {
        let name = self.network.interface.as_ref()?;
        if self.network.address.is_none() || self.link.is_some() {
            return None;
        }
        let links: Vec<&str> = links.take(MAX_NAMES).collect();
        let instead = if links.is_empty() {
            "there is no wired interface at all".to_owned()
        } else {
            format!("there is {}, which uses DHCP", links.join(", "))
        };
        Some(format!(
            "network.interface: no interface '{name}'; {instead}"
        ))
    }

    /// What to say about settings for Wi-Fi: kOS has neither drivers nor a supplicant yet.
    pub fn wifi(&self) -> Option<&'static str> {
        self.has_wifi
            .then_some("Wi-Fi settings found; this image cannot use Wi-Fi")
    }
}

fn read_network() -> Result<NetworkSettings> {
    let Some(text) = kos_sdk::credentials::read_optional("network-settings")? else {
        return Ok(NetworkSettings::default());
    };
    NetworkSettings::parse("network-settings", &text).context("the network settings are not used")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(text: &str) -> OwnerSettings {
        OwnerSettings::new(NetworkSettings::parse("test", text).unwrap(), false)
    }

    fn link(index: u32, name: &str) -> Link {
        Link {
            index,
            name: name.to_owned(),
            mac: [2, 0, 0, 0, 0, 1],
            up: true,
            carrier: true,
            is_virtual: false,
        }
    }

    #[test]
    fn without_a_name_the_first_link_has_the_address() {
        let text = "address = '192.168.1.20/24'\ngateway = '192.168.1.1'\ndns = ['192.168.1.1']";
        let mut owner = owner(text);
        let fixed = owner.claim(&link(2, "eth0")).unwrap();
        assert_eq!(fixed.address.to_string(), "192.168.1.20/24");
        assert_eq!(fixed.gateway_v4(), Some([192, 168, 1, 1].into()));
        assert!(fixed.is_ipv4());
        assert_eq!(owner.claim(&link(3, "eth1")), None);
        assert_eq!(owner.missing(["eth0", "eth1"].into_iter()), None);
        owner.release(3);
        assert_eq!(owner.claim(&link(4, "eth2")), None);
        owner.release(2);
        assert!(owner.claim(&link(5, "eth0")).is_some());
    }

    #[test]
    fn a_named_link_alone_has_the_address_and_is_missed() {
        let mut owner = owner("interface = 'eth7'\naddress = 'fd00::20/64'");
        assert_eq!(owner.claim(&link(2, "eth0")), None);
        let told = "network.interface: no interface 'eth7'; there is eth0, which uses DHCP";
        assert_eq!(owner.missing(["eth0"].into_iter()).as_deref(), Some(told));
        let none = owner.missing([].into_iter()).unwrap();
        assert!(none.ends_with("no wired interface at all"), "{none}");
        let fixed = owner.claim(&link(3, "eth7")).unwrap();
        assert!(!fixed.is_ipv4() && fixed.gateway_v4().is_none());
        assert_eq!(owner.missing(["eth0", "eth7"].into_iter()), None);
    }

    #[test]
    fn without_an_address_every_link_uses_dhcp() {
        let mut owner = owner("interface = 'eth7'\ndns = ['9.9.9.9']");
        assert_eq!(owner.claim(&link(3, "eth7")), None);
        assert_eq!(owner.missing([].into_iter()), None);
        assert_eq!(owner.dns(), ["9.9.9.9".parse::<IpAddr>().unwrap()]);
    }
}
