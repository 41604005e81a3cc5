//! The client of PID 1's control interface, `org.kos.Init1`.

pub use kos_manifest::control::{
    BootRecord, DataProblem, DownCause, DownRecord, Holdings, KilledService, LogBatch, LogCursor,
    LogEntry, LogPage, LogPart, MAX_MANIFEST, MAX_REASON, MAX_RESET_REASON, PhaseRecord,
    ReloadReport, SOCKET, ServiceStatus, State, SystemStatus,
};

/// PID 1's manager object. Every method may fail with `org.kos.Init1.Error.NotAllowed` when the
/// calling service's manifest does not grant it; `docs/dbus.md` has them all.
#[zbus::proxy(
    interface = "org.kos.Init1",
    default_path = "/org/kos/Init1",
    default_service = "org.kos.Init1"
)]
pub trait Init1 {
    /// Every service, in the order of their names.
    fn services(&self) -> zbus::Result<Vec<ServiceStatus>>;
    /// One service.
    fn service(&self, name: &str) -> zbus::Result<ServiceStatus>;
    /// The path of a service's object.
    fn get_service(&self, name: &str) -> zbus::Result<zbus::OwnedObjectPath>;
    /// Starts a service and what it requires; returns at once, the state tells the rest.
    fn start(&self, name: &str) -> zbus::Result<()>;
    /// Stops a service; it stays stopped until it is started again.
    fn stop(&self, name: &str) -> zbus::Result<()>;
    /// Stops a service and starts it again.
    fn restart(&self, name: &str) -> zbus::Result<()>;
    /// Sends a signal (number) to the service's program.
    fn kill(&self, name: &str, signal: i32) -> zbus::Result<()>;
    /// The machine.
    fn system(&self) -> zbus::Result<SystemStatus>;
    /// What is kept of each boot, newest first; the first is the one that runs.
    fn boots(&self) -> zbus::Result<Vec<BootRecord>>;
    /// A piece of a log: `name` is a service, `init` or `kernel`. Entries from `cursor` on, at most
    /// `max`; `cursor` 0 starts at the oldest. When there are none yet, the answer waits for up to
    /// `wait_ms` (at most 30,000).
    fn read_log(&self, name: &str, cursor: u64, max: u32, wait_ms: u32) -> zbus::Result<LogPage>;
    /// What all logs have from `cursors` on, at most `max` lines in all; a log that is not among the
    /// cursors is read from its beginning. `boot` is the boot that the cursors are of ([`LogBatch`]
    /// says which this is); with another one's, every log is read from its beginning. When there is
    /// nothing yet, the answer waits for up to `wait_ms` (at most 30,000). An answer has a bound of
    /// bytes as well: ask again from where it ends.
    fn read_logs(
        &self,
        boot: &str,
        cursors: &[LogCursor],
        max: u32,
        wait_ms: u32,
    ) -> zbus::Result<LogBatch>;
    /// Waits for up to `wait_ms` (at most 30,000) until something about any service or the machine
    /// has changed since `generation`; returns the generation now. Start with 0.
    fn wait_change(&self, generation: u64, wait_ms: u32) -> zbus::Result<u64>;
    /// Freezes a service that is ready.
    fn freeze(&self, name: &str) -> zbus::Result<()>;
    /// Lets a frozen service go on.
    fn thaw(&self, name: &str) -> zbus::Result<()>;
    /// Stops a service and keeps it from running; `reason` is at most [`MAX_REASON`] bytes.
    fn quarantine(&self, name: &str, reason: &str) -> zbus::Result<()>;
    /// Lets a quarantined service be started again.
    fn release(&self, name: &str) -> zbus::Result<()>;
    /// Reads the manifests again and applies what has changed.
    fn reload(&self) -> zbus::Result<ReloadReport>;
    /// Writes an owner's manifest of at most [`MAX_MANIFEST`] bytes, and applies it.
    fn set_manifest(&self, name: &str, text: &str) -> zbus::Result<ReloadReport>;
    /// Removes an owner's manifest, and applies that.
    fn remove_manifest(&self, name: &str) -> zbus::Result<ReloadReport>;
    /// The text of the manifest in force.
    fn manifest(&self, name: &str) -> zbus::Result<String>;
    /// Stops everything in order and restarts the machine; `reason` is for the log and the boot's
    /// record: at most [`MAX_REASON`] bytes.
    fn reboot(&self, reason: &str) -> zbus::Result<()>;
    /// Stops everything in order and turns the machine off; `reason` as for `reboot`.
    fn power_off(&self, reason: &str) -> zbus::Result<()>;
    /// Stops everything in order, marks the data partition to be made anew, and restarts the
    /// machine. Everything on the data partition is lost, and nothing else is. `reason` is for the
    /// log and the machine's console: at most [`MAX_RESET_REASON`] bytes.
    fn factory_reset(&self, reason: &str) -> zbus::Result<()>;
    /// Sets the machine's host name.
    fn set_hostname(&self, name: &str) -> zbus::Result<()>;
}

/// Connects to PID 1, peer to peer: there is no broker.
///
/// # Errors
/// When PID 1 does not listen there, or refuses.
pub async fn connect() -> zbus::Result<Init1Proxy<'static>> {
    connect_to(SOCKET).await
}

/// Connects to the control socket at another path (tests).
///
/// # Errors
/// As [`connect`].
pub async fn connect_to(path: &str) -> zbus::Result<Init1Proxy<'static>> {
    let stream = tokio::net::UnixStream::connect(path).await?.into_std()?;
    let connection = zbus::connection::Builder::unix_stream(stream)
        .p2p()
        .build()
        .await?;
    Init1Proxy::builder(&connection)
        .cache_properties(zbus::proxy::CacheProperties::No)
        .build()
        .await
}
