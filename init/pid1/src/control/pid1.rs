//! The realm of the box itself: what the control interface may ask of PID 1's other parts.

use std::sync::Arc;
use std::time::Duration;

use kos_manifest::control::{
    BootRecord, LogBatch, LogCursor, LogPage, ReloadReport, ServiceStatus, SystemStatus,
};
use kos_manifest::service::ControlGrant;
use tokio::sync::broadcast;

use crate::control::error::ControlError;
use crate::control::realm::{Act, Down, Realm, ServiceFacts};
use crate::news::News;
use crate::record::Reason;
use crate::shutdown::End;
use crate::supervisor::Supervisor;
use crate::system::System;
use crate::task::Request;

/// The services and the machine.
pub struct Pid1 {
    /// The services.
    pub supervisor: Arc<Supervisor>,
    /// The machine.
    pub system: Arc<System>,
}

impl Realm for Pid1 {
    fn grant_of(&self, uid: u32) -> Option<ControlGrant> {
        if uid == 0 {
            return Some(ControlGrant::Operate);
        }
        self.supervisor.grant_of(uid)
    }

    fn names(&self) -> Vec<String> {
        self.supervisor.names()
    }

    fn status(&self, name: &str) -> Result<ServiceStatus, ControlError> {
        Ok(self.supervisor.status(name)?)
    }

    fn facts(&self, name: &str) -> Result<ServiceFacts, ControlError> {
        let group = self.supervisor.group(name);
        // A group that is gone, or a kernel without the files, has nothing to tell.
        let pressure = ["memory", "cpu", "io"].map(|resource| {
            group
                .pressure(resource)
                .map_or((0.0, 0.0), |now| (now.some, now.full))
        });
        Ok(ServiceFacts {
            status: self.supervisor.status(name)?,
            manifest: self.supervisor.service(name)?.as_ref().clone(),
            oom_kills: group.memory_events().map_or(0, |events| events.oom_kill),
            pressure,
        })
    }

    fn system(&self) -> SystemStatus {
        self.system.status()
    }

    fn generation(&self) -> u64 {
        *self.supervisor.shared().changes.borrow()
    }

    async fn wait_change(&self, generation: u64, wait: Duration) -> u64 {
        self.supervisor.wait_change(generation, wait).await
    }

    async fn read_log(
        &self,
        name: &str,
        cursor: u64,
        max: usize,
        wait: Duration,
    ) -> Result<LogPage, ControlError> {
        let log = match name {
            "init" => self.supervisor.shared().console.log().clone(),
            "kernel" => self.system.kernel_log().clone(),
            _ => self.supervisor.log(name)?.clone(),
        };
        Ok(log.read(cursor, max, wait).await)
    }

    async fn read_logs(
        &self,
        boot: &str,
        cursors: &[LogCursor],
        max: usize,
        wait: Duration,
    ) -> LogBatch {
        let logs = self.supervisor.shared().console.logs();
        logs.read(boot, cursors, max, wait).await
    }

    async fn act(&self, name: &str, act: Act) -> Result<(), ControlError> {
        let request = match act {
            Act::Start => return Ok(self.supervisor.start(name).await?),
            Act::Kill(signal) if name == "init" => {
                return self
                    .system
                    .signal_self(signal)
                    .map_err(ControlError::InvalidArgument);
            }
            Act::Stop => Request::Stop("stopped by the operator".to_owned()),
            Act::Restart => Request::Restart,
            Act::Kill(signal) => Request::Kill(signal),
            Act::Freeze => Request::Freeze,
            Act::Thaw => Request::Thaw,
            Act::Quarantine(reason) => Request::Quarantine(reason),
            Act::Release => Request::Release,
        };
        Ok(self.supervisor.ask(name, request).await?)
    }

    fn boots(&self) -> Vec<BootRecord> {
        self.system.records.list()
    }

    fn go_down(&self, down: Down, uid: u32, reason: String) -> Result<(), ControlError> {
        let by = self.supervisor.name_of(uid);
        let (end, reason) = match down {
            Down::Reboot => (End::Reboot, Reason::operator(by, asked_for(reason))),
            Down::PowerOff => (End::PowerOff, Reason::operator(by, asked_for(reason))),
            Down::FactoryReset => {
                let target = self.system.reset_target().map_err(ControlError::Busy)?;
                let detail = format!("factory reset: {reason}");
                (End::FactoryReset(target), Reason::factory_reset(by, detail))
            }
        };
        let first = self.supervisor.shared().shutdown.request(end, reason);
        // Who asks for what is happening has what it wants, unless it asked for more.
        if first || down != Down::FactoryReset {
            return Ok(());
        }
        Err(ControlError::Busy(
            "the box is going down already".to_owned(),
        ))
    }

    fn set_hostname(&self, name: &str, by_operator: bool) -> Result<(), ControlError> {
        self.system
            .set_hostname(name, by_operator)
            .map_err(ControlError::InvalidArgument)
    }

    async fn reload(&self) -> Result<ReloadReport, ControlError> {
        Ok(self.supervisor.reload().await?)
    }

    async fn set_manifest(&self, name: &str, text: String) -> Result<ReloadReport, ControlError> {
        Ok(self.supervisor.set_manifest(name, text).await?)
    }

    async fn remove_manifest(&self, name: &str) -> Result<ReloadReport, ControlError> {
        Ok(self.supervisor.remove_manifest(name).await?)
    }

    async fn manifest(&self, name: &str) -> Result<String, ControlError> {
        Ok(self.supervisor.manifest(name).await?)
    }

    fn news(&self) -> broadcast::Receiver<Arc<News>> {
        self.supervisor.shared().news.listen()
    }

    fn say(&self, level: u8, message: &str) {
        self.supervisor.shared().console.say(level, message);
    }
}

fn asked_for(reason: String) -> String {
    if reason.is_empty() {
        return "asked for".to_owned();
    }
    reason
}
