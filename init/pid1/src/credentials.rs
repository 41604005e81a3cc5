//! The secrets that services are handed: each only to the service whose manifest names it, as a
//! memory file that nobody can change (`kept.rs`).

use std::collections::BTreeMap;

use kos_manifest::box_settings::BoxSettings;

/// Texts by the names that manifests call them. What there is nothing of is not in it.
#[derive(Default)]
pub struct Credentials {
    texts: BTreeMap<&'static str, String>,
}

impl Credentials {
    /// The code of this boot, and of the owner's settings the parts that concern services.
    pub fn new(pairing_code: String, settings: &BoxSettings) -> Self {
        let mut texts = BTreeMap::from([("pairing-code", pairing_code)]);
        if let Some(key) = &settings.owner_key {
            texts.insert("owner-key", key.line().to_owned());
        }
        if let Some(network) = &settings.network {
            texts.insert("network-settings", network.to_toml());
        }
        if let Some(wifi) = &settings.wifi {
            texts.insert("wifi-settings", wifi.to_toml());
        }
        Credentials { texts }
    }
}

impl Credentials {
    /// The secret of this name, if there is one.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.texts.get(name).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use kos_manifest::box_settings::NetworkSettings;

    use super::*;

    #[test]
    fn of_the_owners_settings_each_part_is_its_own_secret() {
        let settings = "[network]\naddress = \"10.0.0.2/24\"\n";
        let settings = BoxSettings::parse("kos-box.toml", settings).unwrap();
        let credentials = Credentials::new("ABCD-1234".to_owned(), &settings);
        assert_eq!(credentials.text("pairing-code"), Some("ABCD-1234"));
        assert_eq!(credentials.text("wifi-settings"), None);
        let text = credentials.text("network-settings").unwrap();
        let network = NetworkSettings::parse("credential", text).unwrap();
        assert_eq!(Some(network), settings.network);
    }
}
