//! What the service is told: arguments, the time servers in its state directory, and the owner's
//! settings.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::clock::TimeServer;
use crate::manager::Options;
use crate::owner::OwnerSettings;

const HELP: &str = "\
kos-net: addresses by DHCP and router advertisements, DNS, host name, clock

Usage: kos-net [--ntp ADDRESS]... [--any-link] [--run-dir DIR] [--state-dir DIR]

  --ntp ADDRESS    ask this time server (an IP address, or address:port) and no other;
                   without it: the lines of ntp in the state directory, else the servers that
                   DHCP names, else the router once
  --any-link       also handle links that are made of software (veth, bridges): for tests
  --run-dir DIR    where state.json and resolv.conf go (default: /run/kos/net)
  --state-dir DIR  where ntp is (default: /data/net)

The credentials 'network-settings' (the keys of [network] in kos-box.toml) and 'wifi-settings' may
be there ($CREDENTIALS_DIRECTORY). A fixed address takes the place of DHCP on its interface only.
";

/// Largest file of time servers that is read: some lines, no document.
const MAX_BYTES: u64 = 16 * 1024;
/// More time servers than anyone asks; further ones are left out.
const MAX_TIME_SERVERS: usize = 8;

/// Reads arguments and files; `None` when only help was wanted.
pub fn read(mut arguments: lexopt::Parser) -> Result<Option<Options>> {
    use lexopt::prelude::*;
    let mut directory = PathBuf::from("/run/kos/net");
    let mut state_directory = PathBuf::from("/data/net");
    let mut time_servers = Vec::new();
    let mut any_link = false;
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("ntp") => {
                let text = arguments.value()?.string()?;
                let Some(server) = TimeServer::parse(&text) else {
                    bail!("--ntp: found '{text}', allowed: an IP address, or address:port");
                };
                time_servers.push(server);
            }
            Long("any-link") => any_link = true,
            Long("run-dir") => directory = arguments.value()?.into(),
            Long("state-dir") => state_directory = arguments.value()?.into(),
            Long("help") | Short('h') => {
                print!("{HELP}");
                return Ok(None);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    let mut errors = Vec::new();
    if time_servers.is_empty() {
        let path = state_directory.join("ntp");
        match read_bounded(&path) {
            Ok(text) => time_servers = parse_time_servers(&text, &mut errors),
            Err(error) => errors.push(format!("{error:#}")),
        }
    }
    time_servers.truncate(MAX_TIME_SERVERS);
    let owner = OwnerSettings::read(&mut errors);
    Ok(Some(Options {
        directory,
        time_servers,
        owner,
        any_link,
        errors,
    }))
}

/// The file's text; a file that is not there is empty.
fn read_bounded(path: &Path) -> Result<String> {
    let size = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    if size > MAX_BYTES {
        bail!("{} has {size} bytes, allowed: {MAX_BYTES}", path.display());
    }
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// One server a line; `#` starts a comment. What is none is told and left out.
fn parse_time_servers(text: &str, errors: &mut Vec<String>) -> Vec<TimeServer> {
    let mut servers = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        match TimeServer::parse(line) {
            Some(server) if !servers.contains(&server) => servers.push(server),
            Some(_) => {}
            None if errors.len() < MAX_TIME_SERVERS => errors.push(format!(
                "ntp, line {}: found '{}', allowed: an IP address, or address:port",
                number + 1,
                line.escape_default().take(80).collect::<String>()
            )),
            None => {}
        }
    }
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_servers_are_read_and_the_rest_is_told() {
        let mut errors = Vec::new();
        let text = "# ours\n10.0.2.2 # the router\n\npool.ntp.org\n[::1]:1123\n10.0.2.2\n\u{1}\n";
        let servers = parse_time_servers(text, &mut errors);
        let names: Vec<String> = servers.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["10.0.2.2", "[::1]:1123"]);
        assert_eq!(errors.len(), 2);
        assert!(
            errors[0].starts_with("ntp, line 4: found 'pool.ntp.org'"),
            "{errors:?}"
        );
    }

    #[test]
    fn the_state_directory_may_be_empty() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().as_os_str().to_owned();
        let arguments = [std::ffi::OsString::from("--state-dir"), path];
        let options = read(lexopt::Parser::from_args(arguments)).unwrap().unwrap();
        assert!(options.time_servers.is_empty() && options.errors.is_empty());
        assert_eq!(options.directory, Path::new("/run/kos/net"));
    }

    #[test]
    fn a_huge_or_odd_file_is_told_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ntp");
        std::fs::write(&path, vec![b'1'; 20_000]).unwrap();
        assert!(
            read_bounded(&path)
                .unwrap_err()
                .to_string()
                .contains("allowed: 16384")
        );
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(read_bounded(&path).is_err());
    }
}
