//! What PID 1 keeps for a service while its processes come and go: listening sockets, in which
//! clients wait while nobody answers; and what each new process is given beside them.

use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use kos_manifest::service::{Address, ListenSocket, Service};
use kos_sys::listen;

use crate::credentials::Credentials;

/// Opens a service's sockets, in the order of its manifest.
///
/// # Errors
/// The first one that cannot be opened, by its name.
pub fn open(service: &Service) -> Result<Vec<OwnedFd>> {
    service
        .sockets
        .iter()
        .map(|socket| {
            open_one(socket, service.uid).with_context(|| format!("socket {}", socket.name))
        })
        .collect()
}

fn open_one(socket: &ListenSocket, owner: u32) -> Result<OwnedFd> {
    let opened = match &socket.address {
        Address::Tcp(address) => listen::tcp(*address, socket.backlog),
        Address::Udp(address) => listen::udp(*address),
        Address::Unix(path) => listen::unix(path, owner, socket.backlog),
    };
    Ok(opened?)
}

/// A service's secrets as sealed memory files, with their names, for one process. What there is
/// nothing of is left out.
///
/// # Errors
/// No memory or no descriptors.
pub fn secrets(service: &Service, credentials: &Credentials) -> Result<Vec<(String, OwnedFd)>> {
    service
        .credentials
        .iter()
        .filter_map(|name| Some((name, credentials.text(name)?)))
        .map(|(name, text)| {
            let file = kos_sys::sockets::memfd_sealed(name, text.as_bytes())?;
            Ok((name.clone(), file))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use kos_manifest::box_settings::BoxSettings;
    use kos_manifest::seccomp::SyscallSets;
    use kos_manifest::service::ServiceSet;

    use super::*;

    #[test]
    fn secrets_are_what_the_manifest_names_of_what_there_is() {
        let set = "name = \"default\"\ndescription = \"d\"\nsyscalls = [\"read\"]\n";
        let sets = SyscallSets::parse([("default.toml".to_owned(), set.to_owned())]).unwrap();
        let manifest = "name = \"net\"\ndescription = \"d\"\nprogram = \"/bin/net\"\nuid = 1001\n\
                        credentials = [\"owner-key\", \"pairing-code\"]\n";
        let services =
            ServiceSet::parse([("net.toml".to_owned(), manifest.to_owned())], &sets).unwrap();
        let credentials = Credentials::new("ABCD-1234".to_owned(), &BoxSettings::default());
        let secrets = secrets(services.get("net").unwrap(), &credentials).unwrap();
        assert_eq!(secrets.len(), 1);
        let (name, file) = &secrets[0];
        let bytes = kos_sys::sockets::read_whole(file.as_fd(), 64).unwrap();
        assert_eq!(
            (name.as_str(), bytes.as_slice()),
            ("pairing-code", b"ABCD-1234".as_slice())
        );
    }

    #[test]
    fn a_socket_that_cannot_be_opened_is_named() {
        let socket = ListenSocket {
            name: "door".to_owned(),
            address: Address::Unix("/nonexistent/door".into()),
            backlog: 1,
        };
        assert!(open_one(&socket, 0).is_err());
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Tcp(taken.local_addr().unwrap());
        assert!(open_one(&ListenSocket { address, ..socket }, 0).is_err());
    }
}
