//! PID 1's control surface: `org.kos.Init1` and its services' objects, D-Bus peer to peer without
//! a broker.
//!
//! Who asks is what `SO_PEERCRED` says; what it may ask is what its service's manifest grants. The
//! interfaces are tables (`interface.rs`, `manager.rs`, `service.rs`, `standard.rs`); no object is
//! kept for a service or a connection, a call finds what it names. A client costs PID 1 what its
//! uid has earned (`account.rs`) and a bounded buffer (`connection.rs`), whatever it does.
//! `docs/dbus.md` is the reference.

mod account;
mod call;
mod connection;
mod error;
mod frame;
mod handshake;
mod interface;
mod manager;
mod path;
pub mod pid1;
mod realm;
mod service;
mod signals;
mod standard;

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kos_manifest::control::SOCKET;
use tokio::net::{UnixListener, UnixStream};

use crate::control::account::{Accounts, Refused};
use crate::control::connection::Connection;
use crate::control::realm::Realm;

/// What a new connection costs its uid, in units of work: accepting, a task, a handshake.
const CONNECTION_COST: f64 = 5.0;

/// When somebody connects faster than its uid has earned, accepting slows to one in this time: the
/// others wait in the kernel's queue behind it for as long, and PID 1 keeps its processor.
const PAUSE_AFTER_FLOOD: Duration = Duration::from_millis(1);

/// When there are no descriptors left, some come back in this time.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(1);

/// Listens, and lets the services that may come in.
///
/// # Errors
/// When the socket cannot be made.
pub fn listen() -> Result<UnixListener> {
    let listener =
        UnixListener::bind(SOCKET).with_context(|| format!("cannot listen on {SOCKET}"))?;
    // Anyone who can see the socket may knock; the grant is looked up by the peer's uid.
    std::fs::set_permissions(SOCKET, std::fs::Permissions::from_mode(0o666))
        .with_context(|| format!("cannot open {SOCKET} to services"))?;
    Ok(listener)
}

/// Serves for ever.
pub async fn serve(listener: UnixListener, realm: Arc<impl Realm>) {
    let accounts = Accounts::default();
    // A name for this server, which the handshake asks for; it lives as long as PID 1.
    let guid = zbus::Guid::generate().to_string();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if let Err(Refused::Spent) = admit(stream, &realm, &accounts, &guid) {
                    tokio::time::sleep(PAUSE_AFTER_FLOOD).await;
                }
            }
            Err(error) => {
                realm.say(3, &format!("control: cannot accept: {error}"));
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
}

/// Begins a connection, or drops it: a client of no service, or one too many.
fn admit(
    stream: UnixStream,
    realm: &Arc<impl Realm>,
    accounts: &Accounts,
    guid: &str,
) -> Result<(), Refused> {
    let uid = stream.peer_cred().map(|peer| peer.uid());
    let Some(uid) = uid.ok().filter(|uid| realm.grant_of(*uid).is_some()) else {
        return Err(Refused::Spent);
    };
    let place = accounts.admit(uid, CONNECTION_COST, Instant::now())?;
    let connection = Connection::new(stream, realm.clone(), place);
    tokio::spawn(connection.run(guid.to_owned()));
    Ok(())
}

#[cfg(test)]
mod tests;
