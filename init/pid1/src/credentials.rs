//! What PID 1 hands to services: each file exists only for the service whose manifest names it, and
//! only it can read it.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::path::Path;

use anyhow::{Context, Result};
use kos_manifest::box_settings::BoxSettings;
use kos_manifest::service::{Service, ServiceSet};

use crate::spec;

/// Texts by the names that manifests call them. What there is nothing of is not in it, and its
/// file does not exist.
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

/// Puts what each service's manifest names where only it can read it.
///
/// # Errors
/// The first file that cannot be written.
pub fn hand_out(services: &ServiceSet, credentials: &Credentials) -> Result<()> {
    for service in services
        .iter()
        .filter(|service| !service.credentials.is_empty())
    {
        let directory = spec::credentials_directory(&service.name);
        hand_to(service, credentials, &directory)
            .with_context(|| format!("credentials of {}", service.name))?;
    }
    Ok(())
}

fn hand_to(service: &Service, credentials: &Credentials, directory: &Path) -> Result<()> {
    match std::fs::create_dir_all(directory) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error.into()),
        _ => {}
    }
    for name in &service.credentials {
        let Some(text) = credentials.texts.get(name.as_str()) else {
            continue;
        };
        let path = directory.join(name);
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o400)
            .open(&path)?;
        file.write_all(text.as_bytes())?;
        chown(&path, Some(service.uid), Some(service.uid))?;
    }
    chown(directory, Some(service.uid), Some(service.uid))?;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o500))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use kos_manifest::box_settings::NetworkSettings;
    use kos_manifest::seccomp::SyscallSets;

    use super::*;

    #[test]
    fn a_service_gets_what_it_names_of_what_there_is() {
        let set = "name = \"default\"\ndescription = \"d\"\nsyscalls = [\"read\"]\n";
        let sets = SyscallSets::parse([("default.toml".to_owned(), set.to_owned())]).unwrap();
        let manifest = "name = \"net\"\ndescription = \"d\"\nprogram = \"/bin/net\"\nuid = 1001\n\
                        credentials = [\"network-settings\", \"wifi-settings\"]\n";
        let services =
            ServiceSet::parse([("net.toml".to_owned(), manifest.to_owned())], &sets).unwrap();
        let settings = "[network]\naddress = \"10.0.0.2/24\"\n";
        let settings = BoxSettings::parse("kos-box.toml", settings).unwrap();
        let credentials = Credentials::new("ABCD-1234".to_owned(), &settings);
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("net");
        match hand_to(services.get("net").unwrap(), &credentials, &directory) {
            Ok(()) => {}
            Err(error) => return eprintln!("skipped: files cannot be given away: {error}"),
        }
        let names: Vec<_> = std::fs::read_dir(&directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["network-settings"]);
        let text = std::fs::read_to_string(directory.join("network-settings")).unwrap();
        let network = NetworkSettings::parse("credential", &text).unwrap();
        assert_eq!(Some(network), settings.network);
    }
}
