//! Where services listen: addresses as they are written, and the sockets that PID 1 keeps.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use toml::Spanned;

use super::parse::is_plain;
use super::{Address, ListenSocket, Sandbox};
use crate::error::ManifestError;
use crate::raw::RawSocket;
use crate::source::Source;

/// More sockets than this are more than one service; each is a descriptor in PID 1.
const MAX_SOCKETS: usize = 16;
/// Longest path of a Unix socket, in bytes: `sun_path` without its NUL.
const MAX_UNIX_PATH: usize = 107;

pub(super) fn parse(
    source: &Source<'_>,
    list: &[RawSocket],
    service: &str,
    sandbox: &Sandbox,
) -> Result<Vec<ListenSocket>, ManifestError> {
    source.few("sockets", list, MAX_SOCKETS, |raw| raw.name.span())?;
    let mut sockets: Vec<ListenSocket> = Vec::new();
    for raw in list {
        let allowed = "at most 32 lower-case letters, digits and dashes";
        let name = source.word("sockets.name", &raw.name, allowed, |name| {
            is_plain(name, 32)
        })?;
        if sockets.iter().any(|other| other.name == name) {
            let message = format!("found '{name}' a second time, allowed: a name of its own");
            return Err(source.error("sockets.name", &raw.name, message));
        }
        let address = listen(source, &raw.listen, service, sandbox)?;
        if let (Address::Udp(_), Some(backlog)) = (&address, &raw.backlog) {
            let message = format!("found {}, allowed: none for udp", backlog.get_ref());
            return Err(source.error("sockets.backlog", backlog, message));
        }
        sockets.push(ListenSocket {
            name,
            address,
            backlog: source.in_range("sockets.backlog", raw.backlog.as_ref(), 128, 1..=4096)?,
        });
    }
    Ok(sockets)
}

/// Where a kept socket listens.
fn listen(
    source: &Source<'_>,
    raw: &Spanned<String>,
    service: &str,
    sandbox: &Sandbox,
) -> Result<Address, ManifestError> {
    let key = "sockets.listen";
    let machine = |text: &str| text.parse().ok().filter(|at: &SocketAddr| at.port() != 0);
    let address = match raw.get_ref().split_once(':') {
        Some(("tcp", text)) => machine(text).map(Address::Tcp),
        Some(("udp", text)) => machine(text).map(Address::Udp),
        Some(("unix", text)) => {
            let path = unix(source, key, raw, text, service, sandbox)?;
            // PID 1 makes the socket before the program can have made a directory for it.
            if path.parent() != Some(&runtime_directory(service)) {
                let message = format!(
                    "found '{text}', allowed: directly in {}",
                    runtime_directory(service).display()
                );
                return Err(source.error(key, raw, message));
            }
            Some(Address::Unix(path))
        }
        _ => None,
    };
    address.ok_or_else(|| {
        let message = format!(
            "found {:?}, allowed: 'tcp:ADDRESS:PORT', 'udp:ADDRESS:PORT' (such as 0.0.0.0:80 or \
             [::1]:80) or 'unix:PATH'",
            raw.get_ref()
        );
        source.error(key, raw, message)
    })
}

/// Where a service is asked whether it is ready.
pub(super) fn readiness_address(
    source: &Source<'_>,
    raw: &Spanned<String>,
    service: &str,
    sandbox: &Sandbox,
    sockets: &[ListenSocket],
) -> Result<Address, ManifestError> {
    let key = "readiness.address";
    match raw.get_ref().split_once(':') {
        Some(("tcp", text)) => {
            let plain = text.bytes().all(|b| b.is_ascii_digit());
            let port = text.parse().ok().filter(|port: &u16| plain && *port != 0);
            let Some(port) = port else {
                let message = format!("found {text:?}, allowed: a port, 1 to 65535");
                return Err(source.error(key, raw, message));
            };
            let kept = sockets
                .iter()
                .any(|socket| matches!(&socket.address, Address::Tcp(at) if at.port() == port));
            let own = sandbox.network == super::Network::Host && sandbox.listen.contains(&port);
            if !kept && !own {
                let message = format!(
                    "found 'tcp:{port}', allowed: a port of 'sandbox.listen' with the network \
                     \"host\", or for the kind 'http' one of its 'sockets'"
                );
                return Err(source.error(key, raw, message));
            }
            let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
            Ok(Address::Tcp(SocketAddr::new(loopback, port)))
        }
        Some(("unix", text)) => unix(source, key, raw, text, service, sandbox).map(Address::Unix),
        _ => {
            let message = format!(
                "found {:?}, allowed: 'tcp:PORT' or 'unix:PATH'",
                raw.get_ref()
            );
            Err(source.error(key, raw, message))
        }
    }
}

/// A socket below the service's runtime directory, which it must have.
fn unix(
    source: &Source<'_>,
    key: &str,
    raw: &Spanned<String>,
    text: &str,
    service: &str,
    sandbox: &Sandbox,
) -> Result<PathBuf, ManifestError> {
    if !sandbox.runtime {
        let message = "found a Unix socket, allowed: only with 'runtime = true' in [sandbox]";
        return Err(source.error(key, raw, message.to_owned()));
    }
    let path = source.path(key, &Spanned::new(raw.span(), text.to_owned()))?;
    let directory = runtime_directory(service);
    if path.starts_with(&directory) && path != directory && text.len() <= MAX_UNIX_PATH {
        return Ok(path);
    }
    let message = format!(
        "found '{text}', allowed: a path of at most {MAX_UNIX_PATH} bytes below {}",
        directory.display()
    );
    Err(source.error(key, raw, message))
}

fn runtime_directory(service: &str) -> PathBuf {
    Path::new("/run/kos").join(service)
}

/// Whether two sockets cannot both be bound.
pub(super) fn collide(one: &Address, other: &Address) -> bool {
    match (one, other) {
        (Address::Tcp(one), Address::Tcp(other)) | (Address::Udp(one), Address::Udp(other)) => {
            one.port() == other.port()
                && (one.ip() == other.ip()
                    || one.ip().is_unspecified()
                    || other.ip().is_unspecified())
        }
        (one, other) => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_takes_the_port_of_every_address() {
        let tcp = |text: &str| Address::Tcp(text.parse().unwrap());
        assert!(collide(&tcp("0.0.0.0:80"), &tcp("127.0.0.1:80")));
        assert!(collide(&tcp("[::]:80"), &tcp("127.0.0.1:80")));
        assert!(!collide(&tcp("127.0.0.1:80"), &tcp("127.0.0.2:80")));
        assert!(!collide(&tcp("0.0.0.0:80"), &tcp("0.0.0.0:81")));
        assert!(!collide(
            &tcp("0.0.0.0:80"),
            &Address::Udp("0.0.0.0:80".parse().unwrap())
        ));
    }
}
