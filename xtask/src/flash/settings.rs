//! What a user gives a box on its way: settings and a profile, checked as the box checks them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use kos_manifest::box_settings::{BoxSettings, MAX_SETTINGS_BYTES, NetworkSettings, WifiSettings};
use kos_manifest::disk::{PROFILE_FILES, SETTINGS_FILE};

/// As much as PID 1 takes.
const MAX_PROFILE_BYTES: usize = 256 * 1024;

/// Settings for the box's first partition.
#[derive(Debug, Clone, Default, Args)]
pub struct SettingsArgs {
    /// The box's name in its network.
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// A fixed address instead of DHCP, such as 192.168.1.20/24.
    #[arg(long, value_name = "CIDR")]
    address: Option<String>,
    /// The router, with --address.
    #[arg(long, value_name = "ADDRESS")]
    gateway: Option<String>,
    /// A name server; may be given several times.
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<String>,
    /// The wired interface; otherwise the first one.
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// A wireless network's name.
    #[arg(long, value_name = "NAME", requires_all = ["wifi_passphrase_file", "wifi_country"])]
    wifi_ssid: Option<String>,
    /// A file with the wireless network's passphrase.
    #[arg(long, value_name = "FILE", requires = "wifi_ssid")]
    wifi_passphrase_file: Option<PathBuf>,
    /// The country whose rules for radio hold, such as DE.
    #[arg(long, value_name = "COUNTRY", requires = "wifi_ssid")]
    wifi_country: Option<String>,
    /// The owner's public SSH key (ssh-ed25519): who has the private one can pair without the
    /// pairing code.
    #[arg(long, value_name = "FILE")]
    owner_key: Option<PathBuf>,
    /// A kos-box.toml to start from; the options above override what it says.
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// A profile (.yaml, .json, .toml or .ini) for the box.
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
}

/// Files for the first partition, valid.
#[derive(Debug, Default)]
pub struct Settings {
    /// Names and contents.
    pub files: Vec<(String, Vec<u8>)>,
    /// What they say, for the last words of `flash`.
    pub values: BoxSettings,
}

impl SettingsArgs {
    /// Reads and checks everything before any disk is touched.
    pub fn read(&self) -> Result<Settings> {
        let mut files = Vec::new();
        let values = self.values()?;
        if values != BoxSettings::default() {
            files.push((SETTINGS_FILE.to_owned(), values.to_toml().into_bytes()));
        }
        if let Some(path) = &self.profile {
            files.push(profile(path)?);
        }
        Ok(Settings { files, values })
    }

    fn values(&self) -> Result<BoxSettings> {
        let mut values = match &self.settings {
            None => BoxSettings::default(),
            Some(path) => {
                let text = read_text(path, MAX_SETTINGS_BYTES)?;
                BoxSettings::parse(&path.display().to_string(), &text)?
            }
        };
        if let Some(name) = &self.hostname {
            values.hostname = Some(parse("--hostname", name)?);
        }
        if let Some(path) = &self.owner_key {
            values.owner_key = Some(parse("--owner-key", &owner_key(path)?)?);
        }
        let network = [&self.address, &self.gateway, &self.interface];
        if network.iter().any(|value| value.is_some()) || !self.dns.is_empty() {
            values.network = Some(self.network(values.network.take().unwrap_or_default())?);
        }
        if let (Some(ssid), Some(file), Some(country)) = (
            &self.wifi_ssid,
            &self.wifi_passphrase_file,
            &self.wifi_country,
        ) {
            let passphrase = read_text(file, MAX_SETTINGS_BYTES)?;
            values.wifi = Some(WifiSettings {
                country: parse("--wifi-country", country)?,
                ssid: parse("--wifi-ssid", ssid)?,
                // An editor ends the file with a line's end, which is not part of it.
                passphrase: parse(
                    "--wifi-passphrase-file",
                    passphrase.trim_end_matches(['\n', '\r']),
                )?,
            });
        }
        // Once more as a whole, as the box will do: a gateway outside of the network is wrong
        // only together with the address.
        Ok(BoxSettings::parse(SETTINGS_FILE, &values.to_toml())?)
    }

    fn network(&self, mut network: NetworkSettings) -> Result<NetworkSettings> {
        if let Some(interface) = &self.interface {
            network.interface = Some(parse("--interface", interface)?);
        }
        if let Some(address) = &self.address {
            network.address = Some(parse("--address", address)?);
        }
        let address = |option: &str, text: &str| {
            kos_manifest::box_settings::values::unicast(text)
                .map_err(|message| anyhow::anyhow!("{option}: {message}"))
        };
        if let Some(gateway) = &self.gateway {
            network.gateway = Some(address("--gateway", gateway)?);
        }
        if !self.dns.is_empty() {
            let servers = self.dns.iter().map(|server| address("--dns", server));
            network.dns = servers.collect::<Result<_>>()?;
        }
        Ok(network)
    }
}

fn parse<T: std::str::FromStr<Err = String>>(option: &str, text: &str) -> Result<T> {
    text.parse()
        .map_err(|message| anyhow::anyhow!("{option}: {message}"))
}

/// The public half of a key pair: a private one must not end up on a card.
fn owner_key(path: &Path) -> Result<String> {
    let text = read_text(path, MAX_SETTINGS_BYTES)?;
    ensure!(
        !text.contains("PRIVATE KEY"),
        "--owner-key {}: it is a private key, which stays here; give its public half, {}.pub",
        path.display(),
        path.display()
    );
    Ok(text)
}

/// A profile under the name that the box looks for. Its own rules are checked by the box.
fn profile(path: &Path) -> Result<(String, Vec<u8>)> {
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    let name = format!("kos.{}", extension.to_lowercase().replace("yml", "yaml"));
    if !PROFILE_FILES.contains(&name.as_str()) {
        bail!(
            "--profile {}: found the ending \"{extension}\", allowed: {}",
            path.display(),
            PROFILE_FILES
                .map(|name| name.trim_start_matches("kos."))
                .join(", ")
        );
    }
    let text = read_text(path, MAX_PROFILE_BYTES)?;
    let about = || format!("--profile {}", path.display());
    match name.as_str() {
        "kos.json" => drop(serde_json::from_str::<serde_json::Value>(&text).with_context(about)?),
        "kos.toml" => drop(text.parse::<toml::Table>().with_context(about)?),
        _ => ensure!(!text.trim().is_empty(), "{}: it is empty", about()),
    }
    Ok((name, text.into_bytes()))
}

fn read_text(path: &Path, most: usize) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    ensure!(
        bytes.len() <= most,
        "{}: found {} bytes, allowed: {most}",
        path.display(),
        bytes.len()
    );
    String::from_utf8(bytes).with_context(|| format!("{}: it is no UTF-8", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    const KEY: &str = "ssh-ed25519 \
        AAAAC3NzaC1lZDI1NTE5AAAAIGyjUuz3JDi85oQx3KXZbR7AQ7Lld0cE5jEG5Uc9dTqS me@home\n";

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        settings: SettingsArgs,
    }

    fn read(arguments: &[&str]) -> Result<Settings> {
        let line = Line::try_parse_from([&["flash"], arguments].concat())?;
        line.settings.read()
    }

    fn file(directory: &Path, name: &str, text: &str) -> String {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    }

    #[test]
    fn options_become_the_files_that_the_box_reads() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str, text: &str| file(directory.path(), name, text);
        let passphrase = at("wifi", "correct horse\n");
        let key = at("id.pub", KEY);
        let base = at(
            "base.toml",
            "hostname = \"old\"\n[network]\ndns = [\"9.9.9.9\"]\n",
        );
        let profile = at("home.yml", "agents: []\n");
        let settings = read(&[
            "--hostname=kitchen",
            "--address=192.168.1.20/24",
            "--gateway=192.168.1.1",
            "--interface=eth0",
            "--wifi-ssid=home",
            &format!("--wifi-passphrase-file={passphrase}"),
            "--wifi-country=DE",
            &format!("--owner-key={key}"),
            &format!("--settings={base}"),
            &format!("--profile={profile}"),
        ])
        .unwrap();
        let [(name, text), profile] = settings.files.as_slice() else {
            panic!("{settings:?}");
        };
        assert_eq!(name, "kos-box.toml");
        assert_eq!(*profile, ("kos.yaml".to_owned(), b"agents: []\n".to_vec()));
        let read = BoxSettings::parse("test", std::str::from_utf8(text).unwrap()).unwrap();
        assert_eq!(read, settings.values);
        assert_eq!(read.hostname.unwrap().as_str(), "kitchen");
        assert_eq!(read.owner_key.unwrap().line(), KEY.trim());
        let network = read.network.unwrap();
        assert_eq!(network.address.unwrap().to_string(), "192.168.1.20/24");
        assert_eq!(
            network.dns,
            ["9.9.9.9".parse::<std::net::IpAddr>().unwrap()]
        );
        assert_eq!(read.wifi.unwrap().passphrase.reveal(), "correct horse");
        assert!(
            super::SettingsArgs::default()
                .read()
                .unwrap()
                .files
                .is_empty()
        );
    }

    #[test]
    fn what_the_box_would_refuse_is_refused_here() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str, text: &str| file(directory.path(), name, text);
        let private = at("id", "-----BEGIN OPENSSH PRIVATE KEY-----\n");
        let rsa = at("rsa.pub", "ssh-rsa AAAA me\n");
        let settings = at("kos-box.toml", "hostname = \"a\"\nnosuch = 1\n");
        let broken = at("broken.json", "{");
        let odd = at("profile.xml", "<a/>");
        let large = at("large.yaml", &"x".repeat(MAX_PROFILE_BYTES + 1));
        for (arguments, complaint) in [
            (
                vec!["--hostname=my kitchen".to_owned()],
                "--hostname: found",
            ),
            (
                vec!["--address=192.168.1.20".to_owned()],
                "--address: found",
            ),
            (
                vec!["--gateway=192.168.1.1".to_owned()],
                "network.gateway: found",
            ),
            (
                vec![
                    "--address=10.0.0.2/24".to_owned(),
                    "--gateway=10.0.1.1".to_owned(),
                ],
                "network.gateway: found",
            ),
            (vec!["--dns=nine".to_owned()], "--dns: found"),
            (
                vec!["--wifi-ssid=home".to_owned()],
                "--wifi-passphrase-file",
            ),
            (
                vec![format!("--owner-key={private}")],
                "it is a private key",
            ),
            (vec![format!("--owner-key={rsa}")], "--owner-key: found"),
            (vec![format!("--settings={settings}")], "nosuch"),
            (vec![format!("--profile={broken}")], "broken.json"),
            (
                vec![format!("--profile={odd}")],
                "allowed: yaml, json, toml, ini",
            ),
            (vec![format!("--profile={large}")], "allowed: 262144"),
            (
                vec!["--profile=/no/such.yaml".to_owned()],
                "read /no/such.yaml",
            ),
        ] {
            let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
            let error = format!("{:#}", read(&arguments).map(drop).unwrap_err());
            assert!(error.contains(complaint), "{arguments:?}: {error}");
        }
    }
}
