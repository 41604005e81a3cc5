//! `org.kos.Init1`: PID 1's control surface, D-Bus peer to peer without a broker.
//!
//! Who asks is what `SO_PEERCRED` says, fixed when the connection is made; what it may ask is what
//! its manifest grants. Every wait has an end, every connection a place in a bounded number.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use kos_manifest::control::{
    LogBatch, LogCursor, LogPage, MAX_RESET_REASON, OBJECT_PATH, SOCKET, ServiceStatus,
    SystemStatus,
};
use kos_manifest::service::{ControlGrant, ServiceSet};
use tokio::net::{UnixListener, UnixStream};
use zbus::connection::Builder;

use crate::shutdown::End;
use crate::supervisor::{RequestError, Supervisor};
use crate::system::System;
use crate::task::Request;

/// Connections at once. A handful of services hold one each; the rest is room for people.
const MAX_CONNECTIONS: usize = 64;

/// Longest that a call may wait for news, so that a client that is gone is noticed.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// Longest that a client may take to introduce itself.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Most lines in one answer, whatever was asked for.
const MAX_LINES: u32 = 1000;

/// What a method says when it does not do it.
#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.kos.Init1.Error")]
pub enum ControlError {
    /// Something of D-Bus itself.
    #[zbus(error)]
    ZBus(zbus::Error),
    /// No service has that name.
    NoSuchService(String),
    /// The caller's manifest does not grant it.
    NotAllowed(String),
    /// It cannot be done now.
    Busy(String),
    /// An argument is wrong: what was found and what is allowed.
    InvalidArgument(String),
}

impl From<RequestError> for ControlError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::NoSuchService { .. } => ControlError::NoSuchService(error.to_string()),
            RequestError::NotNow(_) => ControlError::Busy(error.to_string()),
        }
    }
}

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
pub async fn serve(
    listener: UnixListener,
    supervisor: Arc<Supervisor>,
    system: Arc<System>,
    services: ServiceSet,
) {
    let connections = Arc::new(AtomicUsize::new(0));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely: wait for some to come back instead of spinning.
                supervisor
                    .shared()
                    .console
                    .say(3, &format!("control: cannot accept: {error}"));
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let Some(grant) = grant_of(&stream, &services) else {
            continue;
        };
        if connections.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
            connections.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let manager = Manager {
            supervisor: supervisor.clone(),
            system: system.clone(),
            grant,
        };
        let connections = connections.clone();
        tokio::spawn(async move {
            // A client that breaks off, or never introduces itself, is its own problem.
            let _ = converse(stream, manager).await;
            connections.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

async fn converse(stream: UnixStream, manager: Manager) -> Result<()> {
    let guid = zbus::Guid::generate();
    let connection = Builder::unix_stream(stream.into_std()?)
        .server(guid)
        .p2p()
        .serve_at(OBJECT_PATH, manager)
        .build();
    let connection = tokio::time::timeout(HANDSHAKE, connection).await??;
    connection.closed().await;
    Ok(())
}

/// What the peer may do; `None` when it is nobody.
fn grant_of(stream: &UnixStream, services: &ServiceSet) -> Option<ControlGrant> {
    let uid = stream.peer_cred().ok()?.uid();
    if uid == 0 {
        return Some(ControlGrant::Operate);
    }
    services
        .iter()
        .find(|service| service.uid == uid)
        .map(|service| service.sandbox.control)
}

/// The object that one connection talks to.
struct Manager {
    supervisor: Arc<Supervisor>,
    system: Arc<System>,
    grant: ControlGrant,
}

impl Manager {
    fn allow(&self, needed: ControlGrant) -> Result<(), ControlError> {
        if self.grant >= needed {
            return Ok(());
        }
        Err(ControlError::NotAllowed(format!(
            "the caller's manifest says sandbox.control = {:?}, needed: {needed:?}",
            self.grant
        )))
    }
}

#[zbus::interface(name = "org.kos.Init1")]
impl Manager {
    fn services(&self) -> Result<Vec<ServiceStatus>, ControlError> {
        self.allow(ControlGrant::Observe)?;
        Ok(self.supervisor.statuses())
    }

    fn service(&self, name: &str) -> Result<ServiceStatus, ControlError> {
        self.allow(ControlGrant::Observe)?;
        Ok(self.supervisor.status(name)?)
    }

    async fn start(&self, name: &str) -> Result<(), ControlError> {
        self.allow(ControlGrant::Operate)?;
        Ok(self.supervisor.start(name).await?)
    }

    async fn stop(&self, name: &str) -> Result<(), ControlError> {
        self.allow(ControlGrant::Operate)?;
        let request = Request::Stop("stopped by the operator".to_owned());
        Ok(self.supervisor.ask(name, request).await?)
    }

    async fn restart(&self, name: &str) -> Result<(), ControlError> {
        self.allow(ControlGrant::Operate)?;
        Ok(self.supervisor.ask(name, Request::Restart).await?)
    }

    async fn kill(&self, name: &str, signal: i32) -> Result<(), ControlError> {
        self.allow(ControlGrant::Operate)?;
        if name == "init" {
            return self
                .system
                .signal_self(signal)
                .map_err(ControlError::InvalidArgument);
        }
        Ok(self.supervisor.ask(name, Request::Kill(signal)).await?)
    }

    fn system(&self) -> Result<SystemStatus, ControlError> {
        self.allow(ControlGrant::Observe)?;
        Ok(self.system.status())
    }

    async fn read_log(
        &self,
        name: &str,
        cursor: u64,
        max: u32,
        wait_ms: u32,
    ) -> Result<LogPage, ControlError> {
        self.allow(ControlGrant::Observe)?;
        let log = match name {
            "init" => self.supervisor.shared().console.log(),
            "kernel" => self.system.kernel_log(),
            _ => self.supervisor.log(name)?,
        };
        let max = usize::try_from(max.clamp(1, MAX_LINES)).unwrap_or(1);
        Ok(log.read(cursor, max, bounded(wait_ms)).await)
    }

    async fn read_logs(
        &self,
        boot: &str,
        cursors: Vec<LogCursor>,
        max: u32,
        wait_ms: u32,
    ) -> Result<LogBatch, ControlError> {
        self.allow(ControlGrant::Observe)?;
        let logs = self.supervisor.shared().console.logs();
        let max = usize::try_from(max.clamp(1, MAX_LINES)).unwrap_or(1);
        Ok(logs.read(boot, &cursors, max, bounded(wait_ms)).await)
    }

    async fn wait_change(&self, generation: u64, wait_ms: u32) -> Result<u64, ControlError> {
        self.allow(ControlGrant::Observe)?;
        Ok(self
            .supervisor
            .wait_change(generation, bounded(wait_ms))
            .await)
    }

    fn reboot(&self) -> Result<(), ControlError> {
        self.allow(ControlGrant::Operate)?;
        self.go_down(End::Reboot, "asked for by the operator".to_owned());
        Ok(())
    }

    fn power_off(&self) -> Result<(), ControlError> {
        self.allow(ControlGrant::Operate)?;
        self.go_down(End::PowerOff, "asked for by the operator".to_owned());
        Ok(())
    }

    /// Stops everything, asks for an empty data partition, and restarts. The answer comes before:
    /// that there is a disk which can be reset.
    fn factory_reset(&self, reason: &str) -> Result<(), ControlError> {
        self.allow(ControlGrant::Operate)?;
        if reason.len() > MAX_RESET_REASON {
            return Err(ControlError::InvalidArgument(format!(
                "reason: found {} bytes, allowed: {MAX_RESET_REASON}",
                reason.len()
            )));
        }
        let target = self.system.reset_target().map_err(ControlError::Busy)?;
        let shown: String = reason.chars().filter(|c| !c.is_control()).collect();
        if self.go_down(End::FactoryReset(target), format!("factory reset: {shown}")) {
            return Ok(());
        }
        Err(ControlError::Busy(
            "the box is going down already".to_owned(),
        ))
    }

    fn set_hostname(&self, name: &str) -> Result<(), ControlError> {
        self.allow(ControlGrant::Name)?;
        self.system
            .set_hostname(name, self.grant >= ControlGrant::Operate)
            .map_err(ControlError::InvalidArgument)
    }
}

impl Manager {
    /// Whether this was the first to ask.
    fn go_down(&self, end: End, reason: String) -> bool {
        self.supervisor.shared().shutdown.request(end, reason)
    }
}

fn bounded(wait_ms: u32) -> Duration {
    Duration::from_millis(u64::from(wait_ms)).min(MAX_WAIT)
}
