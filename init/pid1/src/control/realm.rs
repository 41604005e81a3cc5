//! What the control interface speaks for: the services and the machine, as one trait, so that the
//! interface can be tested without either.

use std::sync::Arc;
use std::time::Duration;

use kos_manifest::control::{
    BootRecord, LogBatch, LogCursor, LogPage, ReloadReport, ServiceStatus, SystemStatus,
};
use kos_manifest::service::{ControlGrant, Service};
use tokio::sync::broadcast;

use crate::control::error::ControlError;
use crate::news::News;

/// Something to be done to a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Run, and first what it requires.
    Start,
    /// End, and stay so.
    Stop,
    /// End and run again.
    Restart,
    /// Send the program this signal.
    Kill(i32),
    /// Stand still.
    Freeze,
    /// Go on.
    Thaw,
    /// End, and be kept from running; why.
    Quarantine(String),
    /// Be allowed to run.
    Release,
}

/// How the box goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Down {
    /// It restarts.
    Reboot,
    /// It turns off.
    PowerOff,
    /// It restarts with an empty data partition.
    FactoryReset,
}

/// All that is known of a service.
#[derive(Debug, Clone)]
pub struct ServiceFacts {
    /// How it is.
    pub status: ServiceStatus,
    /// What it is.
    pub manifest: Service,
    /// Out-of-memory kills in its cgroup since that was made.
    pub oom_kills: u64,
    /// Share of the last ten seconds in which it waited for memory, processor and disk, in percent:
    /// any of its threads, all of them.
    pub pressure: [(f64, f64); 3],
}

/// See the head of this file. Waiting answers are futures; everything else is at hand.
pub trait Realm: Send + Sync + 'static {
    /// What a user may ask for; `None` when it is nobody.
    fn grant_of(&self, uid: u32) -> Option<ControlGrant>;
    /// The services' names, sorted.
    fn names(&self) -> Vec<String>;
    /// How a service is.
    fn status(&self, name: &str) -> Result<ServiceStatus, ControlError>;
    /// All that is known of a service.
    fn facts(&self, name: &str) -> Result<ServiceFacts, ControlError>;
    /// The machine.
    fn system(&self) -> SystemStatus;
    /// How often anything has changed.
    fn generation(&self) -> u64;
    /// Waits for a change after `generation`, for up to `wait`; gives the generation now.
    fn wait_change(&self, generation: u64, wait: Duration) -> impl Future<Output = u64> + Send;
    /// Lines of a log from `cursor` on, at most `max`; waits for up to `wait` when there are none.
    fn read_log(
        &self,
        name: &str,
        cursor: u64,
        max: usize,
        wait: Duration,
    ) -> impl Future<Output = Result<LogPage, ControlError>> + Send;
    /// Lines of all logs since `cursors`, at most `max`; waits for up to `wait` when there are none.
    fn read_logs(
        &self,
        boot: &str,
        cursors: &[LogCursor],
        max: usize,
        wait: Duration,
    ) -> impl Future<Output = LogBatch> + Send;
    /// Does something to a service; done when the service has taken it.
    fn act(&self, name: &str, act: Act) -> impl Future<Output = Result<(), ControlError>> + Send;
    /// What is kept of each boot, newest first.
    fn boots(&self) -> Vec<BootRecord>;
    /// Asks for the end of this boot; the user `uid` does.
    fn go_down(&self, down: Down, uid: u32, reason: String) -> Result<(), ControlError>;
    /// Sets the host name.
    fn set_hostname(&self, name: &str, by_operator: bool) -> Result<(), ControlError>;
    /// Reads the manifests again and applies what has changed.
    fn reload(&self) -> impl Future<Output = Result<ReloadReport, ControlError>> + Send;
    /// Writes an owner's manifest, and applies it.
    fn set_manifest(
        &self,
        name: &str,
        text: String,
    ) -> impl Future<Output = Result<ReloadReport, ControlError>> + Send;
    /// Removes an owner's manifest, and applies that.
    fn remove_manifest(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<ReloadReport, ControlError>> + Send;
    /// The text of the manifest in force.
    fn manifest(&self, name: &str) -> impl Future<Output = Result<String, ControlError>> + Send;
    /// What happens from now on.
    fn news(&self) -> broadcast::Receiver<Arc<News>>;
    /// Says something about the interface itself in PID 1's log.
    fn say(&self, level: u8, message: &str);
}
