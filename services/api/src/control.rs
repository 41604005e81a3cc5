//! The connection to PID 1: made when first needed, and again after it broke.
//!
//! A call has a time limit of its own, so that a hanging PID 1 costs a request and not the service.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use axum::http::StatusCode;
use kos_sdk::control::{
    BootRecord, Init1Proxy, LogBatch, LogCursor, LogPage, ReloadReport, ServiceStatus, SystemStatus,
};
use kos_sdk::service_facts::{self, ServiceFacts};
use tokio::sync::Mutex;

/// Time that PID 1 has for an answer. It answers from memory; under emulation on a loaded host
/// a second is possible, ten are not.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// Time for a reload: the disk may be slow, and what is removed has its time to stop.
const RELOAD_LIMIT: Duration = Duration::from_secs(60);
/// PID 1's own bound for a call that waits.
const MAX_WAIT_MS: u32 = 30_000;

/// Why PID 1 did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ControlError {
    /// There is no service of that name.
    #[error("{0}")]
    NoSuchService(String),
    /// PID 1 does not let this service do that.
    #[error("{0}")]
    NotAllowed(String),
    /// Not now.
    #[error("{0}")]
    Busy(String),
    /// The arguments make no sense to it.
    #[error("{0}")]
    Invalid(String),
    /// A manifest is wrong; nothing was changed.
    #[error("{0}")]
    InvalidManifest(String),
    /// It cannot be reached, or it does not answer.
    #[error("PID 1 does not answer: {0}")]
    Away(String),
}

impl ControlError {
    /// The HTTP status that says it.
    pub fn status(&self) -> StatusCode {
        match self {
            ControlError::NoSuchService(_) => StatusCode::NOT_FOUND,
            ControlError::NotAllowed(_) => StatusCode::FORBIDDEN,
            ControlError::Busy(_) => StatusCode::CONFLICT,
            ControlError::Invalid(_) => StatusCode::BAD_REQUEST,
            ControlError::InvalidManifest(_) => StatusCode::UNPROCESSABLE_ENTITY,
            ControlError::Away(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl From<zbus::Error> for ControlError {
    fn from(error: zbus::Error) -> Self {
        let zbus::Error::MethodError(name, message, _) = &error else {
            return ControlError::Away(error.to_string());
        };
        let message = message.clone().unwrap_or_else(|| name.to_string());
        match name.as_str().rsplit('.').next().unwrap_or_default() {
            "NoSuchService" => ControlError::NoSuchService(message),
            "NotAllowed" | "AccessDenied" => ControlError::NotAllowed(message),
            "Busy" => ControlError::Busy(message),
            "InvalidManifest" => ControlError::InvalidManifest(message),
            "InvalidArgs" | "InvalidArgument" => ControlError::Invalid(message),
            _ => ControlError::Away(message),
        }
    }
}

/// PID 1, as far as this service needs it.
pub struct Control {
    socket: PathBuf,
    proxy: Mutex<Option<Init1Proxy<'static>>>,
}

/// What can be done to a service by name alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Start it and what it requires.
    Start,
    /// Stop it.
    Stop,
    /// Stop it and start it again.
    Restart,
    /// Let it stand still.
    Freeze,
    /// Let it go on.
    Thaw,
    /// Stop it and keep it from running.
    Quarantine,
    /// Let it be started again.
    Release,
}

impl Action {
    /// The names of all.
    pub const NAMES: &str = "start, stop, restart, freeze, thaw, quarantine, release";

    /// The action of that name, as in a path.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "start" => Some(Action::Start),
            "stop" => Some(Action::Stop),
            "restart" => Some(Action::Restart),
            "freeze" => Some(Action::Freeze),
            "thaw" => Some(Action::Thaw),
            "quarantine" => Some(Action::Quarantine),
            "release" => Some(Action::Release),
            _ => None,
        }
    }
}

/// What can be done to the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// Stop everything in order and start again.
    Reboot,
    /// Stop everything in order and turn off.
    Off,
}

impl Power {
    /// The act of that name, as in a path.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "reboot" => Some(Power::Reboot),
            "poweroff" => Some(Power::Off),
            _ => None,
        }
    }
}

impl Control {
    /// Connects later, when first asked.
    pub fn new(socket: PathBuf) -> Self {
        Control {
            socket,
            proxy: Mutex::new(None),
        }
    }

    /// Every service.
    pub async fn services(&self) -> Result<Vec<ServiceStatus>, ControlError> {
        self.call(CALL_LIMIT, async |proxy| proxy.services().await)
            .await
    }

    /// One service.
    pub async fn service(&self, name: &str) -> Result<ServiceStatus, ControlError> {
        self.call(CALL_LIMIT, async |proxy| proxy.service(name).await)
            .await
    }

    /// The machine.
    pub async fn system(&self) -> Result<SystemStatus, ControlError> {
        self.call(CALL_LIMIT, async |proxy| proxy.system().await)
            .await
    }

    /// What is kept of each boot, newest first.
    pub async fn boots(&self) -> Result<Vec<BootRecord>, ControlError> {
        self.call(CALL_LIMIT, async |proxy| proxy.boots().await)
            .await
    }

    /// Does something to a service; `reason` is for a quarantine.
    pub async fn act(&self, name: &str, action: Action, reason: &str) -> Result<(), ControlError> {
        self.call(CALL_LIMIT, async |proxy| match action {
            Action::Start => proxy.start(name).await,
            Action::Stop => proxy.stop(name).await,
            Action::Restart => proxy.restart(name).await,
            Action::Freeze => proxy.freeze(name).await,
            Action::Thaw => proxy.thaw(name).await,
            Action::Quarantine => proxy.quarantine(name, reason).await,
            Action::Release => proxy.release(name).await,
        })
        .await
    }

    /// All that is known of a service.
    pub async fn facts(&self, name: &str) -> Result<ServiceFacts, ControlError> {
        self.call(CALL_LIMIT, async |proxy| {
            service_facts::of(&proxy, name).await
        })
        .await
    }

    /// The text of a service's manifest.
    pub async fn manifest(&self, name: &str) -> Result<String, ControlError> {
        self.call(CALL_LIMIT, async |proxy| proxy.manifest(name).await)
            .await
    }

    /// Writes an owner's manifest, and applies it.
    pub async fn set_manifest(&self, name: &str, text: &str) -> Result<ReloadReport, ControlError> {
        self.call(RELOAD_LIMIT, async |proxy| {
            proxy.set_manifest(name, text).await
        })
        .await
    }

    /// Removes an owner's manifest, and applies that.
    pub async fn remove_manifest(&self, name: &str) -> Result<ReloadReport, ControlError> {
        self.call(RELOAD_LIMIT, async |proxy| {
            proxy.remove_manifest(name).await
        })
        .await
    }

    /// Reads the manifests again, and applies what has changed.
    pub async fn reload(&self) -> Result<ReloadReport, ControlError> {
        self.call(RELOAD_LIMIT, async |proxy| proxy.reload().await)
            .await
    }

    /// Sends a signal to a service's program.
    pub async fn kill(&self, name: &str, signal: i32) -> Result<(), ControlError> {
        self.call(CALL_LIMIT, async |proxy| proxy.kill(name, signal).await)
            .await
    }

    /// Restarts the machine or turns it off.
    pub async fn power(&self, power: Power) -> Result<(), ControlError> {
        self.call(CALL_LIMIT, async |proxy| match power {
            Power::Reboot => proxy.reboot("through the API").await,
            Power::Off => proxy.power_off("through the API").await,
        })
        .await
    }

    /// Restarts the machine with an empty data partition.
    pub async fn factory_reset(&self, reason: &str) -> Result<(), ControlError> {
        self.call(CALL_LIMIT, async |proxy| proxy.factory_reset(reason).await)
            .await
    }

    /// A piece of a log; waits for up to `wait_ms` when there is nothing yet.
    pub async fn read_log(
        &self,
        name: &str,
        cursor: u64,
        max: u32,
        wait_ms: u32,
    ) -> Result<LogPage, ControlError> {
        let wait_ms = wait_ms.min(MAX_WAIT_MS);
        let limit = CALL_LIMIT + Duration::from_millis(wait_ms.into());
        self.call(limit, async |proxy| {
            proxy.read_log(name, cursor, max, wait_ms).await
        })
        .await
    }

    /// What all logs have from `cursors` on; waits for up to `wait_ms` when there is nothing yet.
    pub async fn read_logs(
        &self,
        boot: &str,
        cursors: &[LogCursor],
        max: u32,
        wait_ms: u32,
    ) -> Result<LogBatch, ControlError> {
        let wait_ms = wait_ms.min(MAX_WAIT_MS);
        let limit = CALL_LIMIT + Duration::from_millis(wait_ms.into());
        self.call(limit, async |proxy| {
            proxy.read_logs(boot, cursors, max, wait_ms).await
        })
        .await
    }

    /// Waits for up to `wait_ms` until something has changed since `generation`.
    pub async fn wait_change(&self, generation: u64, wait_ms: u32) -> Result<u64, ControlError> {
        let wait_ms = wait_ms.min(MAX_WAIT_MS);
        let limit = CALL_LIMIT + Duration::from_millis(wait_ms.into());
        self.call(limit, async |proxy| {
            proxy.wait_change(generation, wait_ms).await
        })
        .await
    }

    async fn call<T, F>(
        &self,
        limit: Duration,
        act: impl FnOnce(Init1Proxy<'static>) -> F,
    ) -> Result<T, ControlError>
    where
        F: Future<Output = zbus::Result<T>>,
    {
        let called = tokio::time::timeout(limit, async {
            let proxy = self.proxy().await?;
            act(proxy).await
        })
        .await;
        let error = match called {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => ControlError::from(error),
            Err(_) => ControlError::Away(format!("no answer within {} s", limit.as_secs())),
        };
        if matches!(error, ControlError::Away(_)) {
            // The next call tries a connection of its own.
            *self.proxy.lock().await = None;
        }
        Err(error)
    }

    async fn proxy(&self) -> zbus::Result<Init1Proxy<'static>> {
        let mut slot = self.proxy.lock().await;
        if let Some(proxy) = slot.as_ref() {
            return Ok(proxy.clone());
        }
        let proxy = kos_sdk::control::connect_to(&self.socket.to_string_lossy()).await?;
        *slot = Some(proxy.clone());
        Ok(proxy)
    }
}
