//! A realm that remembers what it was asked, and has as many services as a test wants.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kos_manifest::control::{
    BootRecord, Holdings, LogBatch, LogCursor, LogPage, ReloadReport, ServiceStatus, SystemStatus,
};
use kos_manifest::seccomp::SyscallSets;
use kos_manifest::service::{ControlGrant, Service, ServiceSet};
use tokio::sync::{broadcast, watch};

use crate::control::error::ControlError;
use crate::control::realm::{Act, Down, Realm, ServiceFacts};
use crate::logs::Logs;
use crate::news::{News, Newsroom};
use crate::task::ServiceView;

/// Uids that the realm grants something to.
pub const OBSERVER: u32 = 1002;
pub const NAMER: u32 = 1003;
pub const OPERATOR: u32 = 1004;
pub const NOTHING: u32 = 1005;

pub struct TestRealm {
    services: Mutex<BTreeMap<String, Service>>,
    calls: Mutex<Vec<String>>,
    said: Mutex<Vec<String>>,
    pub newsroom: Newsroom,
    pub generation: watch::Sender<u64>,
    logs: Logs,
}

impl TestRealm {
    pub fn new() -> Self {
        let realm = TestRealm {
            services: Mutex::default(),
            calls: Mutex::default(),
            said: Mutex::default(),
            newsroom: Newsroom::default(),
            generation: watch::Sender::new(7),
            logs: Logs::default(),
        };
        realm.add("camera@garage");
        realm.add("my-agent");
        realm
    }

    pub fn add(&self, name: &str) {
        let text = "name = \"a\"\ndescription = \"d\"\nprogram = \"/bin/a\"\nuid = 1001\n";
        let sets = "name = \"default\"\ndescription = \"d\"\nsyscalls = [\"read\"]\n";
        let sets = SyscallSets::parse([("default.toml".to_owned(), sets.to_owned())]).unwrap();
        let set = ServiceSet::parse([("a.toml".to_owned(), text.to_owned())], &sets).unwrap();
        let mut service = set.get("a").unwrap().clone();
        name.clone_into(&mut service.name);
        self.services
            .lock()
            .unwrap()
            .insert(name.to_owned(), service);
    }

    pub fn remove(&self, name: &str) {
        self.services.lock().unwrap().remove(name);
    }

    /// What was asked so far.
    pub fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    /// What the interface said of its clients.
    pub fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    /// Tells that a service has another view.
    pub fn change(&self, name: &str, change: impl FnOnce(&mut ServiceView)) {
        let was = ServiceView::initial(true);
        let mut now = was.clone();
        change(&mut now);
        let name = name.to_owned();
        self.newsroom.tell(|| News::Changed { name, was, now });
    }

    fn note(&self, call: String) {
        self.calls.lock().unwrap().push(call);
    }
}

impl Realm for TestRealm {
    fn grant_of(&self, uid: u32) -> Option<ControlGrant> {
        match uid {
            0 | OPERATOR => Some(ControlGrant::Operate),
            OBSERVER => Some(ControlGrant::Observe),
            NAMER => Some(ControlGrant::Name),
            NOTHING => Some(ControlGrant::None),
            _ => None,
        }
    }

    fn names(&self) -> Vec<String> {
        self.services.lock().unwrap().keys().cloned().collect()
    }

    fn status(&self, name: &str) -> Result<ServiceStatus, ControlError> {
        if !self.services.lock().unwrap().contains_key(name) {
            return Err(ControlError::NoSuchService(format!("no '{name}'")));
        }
        Ok(ServiceStatus {
            name: name.to_owned(),
            description: "d".to_owned(),
            state: "ready".to_owned(),
            reason: "said that it is ready".to_owned(),
            status_text: String::new(),
            since_ms: 1,
            uptime_ms: 2,
            pid: 30,
            restarts: 0,
            last_failure: String::new(),
            memory: 4096,
            memory_max: 1 << 20,
            cpu_usec: 3,
            tasks: 4,
            essential: false,
        })
    }

    fn facts(&self, name: &str) -> Result<ServiceFacts, ControlError> {
        Ok(ServiceFacts {
            status: self.status(name)?,
            manifest: self.services.lock().unwrap()[name].clone(),
            oom_kills: 0,
            pressure: [(1.5, 0.5); 3],
        })
    }

    fn system(&self) -> SystemStatus {
        SystemStatus {
            hostname: "attic".to_owned(),
            version: "0.1.0".to_owned(),
            uptime_ms: 1,
            board: String::new(),
            board_description: String::new(),
            boot_disk: String::new(),
            data_kind: "disk".to_owned(),
            data_detail: String::new(),
            data_problem: String::new(),
            data_advice: String::new(),
            data_bytes: 0,
            data_free: 0,
            setup_problem: String::new(),
            processes: 0,
            zombies: 0,
            orphans_reaped: 0,
            init_memory: 0,
            ready_ms: 0,
            phases: Vec::new(),
            boot_id: String::new(),
            watchdog: String::new(),
            watchdog_timeout_ms: 0,
            watchdog_problem: String::new(),
            holdings: Holdings::default(),
        }
    }

    fn generation(&self) -> u64 {
        *self.generation.borrow()
    }

    async fn wait_change(&self, generation: u64, wait: Duration) -> u64 {
        let mut changes = self.generation.subscribe();
        let changed = changes.wait_for(|now| *now != generation);
        let _ = tokio::time::timeout(wait, changed).await;
        *self.generation.borrow()
    }

    async fn read_log(
        &self,
        name: &str,
        cursor: u64,
        max: usize,
        wait: Duration,
    ) -> Result<LogPage, ControlError> {
        Ok(self.logs.open(name).read(cursor, max, wait).await)
    }

    async fn read_logs(
        &self,
        boot: &str,
        cursors: &[LogCursor],
        max: usize,
        wait: Duration,
    ) -> LogBatch {
        self.logs.read(boot, cursors, max, wait).await
    }

    async fn act(&self, name: &str, act: Act) -> Result<(), ControlError> {
        self.note(format!("{name} {act:?}"));
        self.status(name).map(|_| ())
    }

    fn boots(&self) -> Vec<BootRecord> {
        vec![BootRecord::default()]
    }

    fn go_down(&self, down: Down, _uid: u32, reason: String) -> Result<(), ControlError> {
        self.note(format!("{down:?} {reason}"));
        Ok(())
    }

    fn set_hostname(&self, name: &str, by_operator: bool) -> Result<(), ControlError> {
        self.note(format!("hostname {name} {by_operator}"));
        Ok(())
    }

    async fn reload(&self) -> Result<ReloadReport, ControlError> {
        self.note("reload".to_owned());
        Ok(ReloadReport::default())
    }

    async fn set_manifest(&self, name: &str, text: String) -> Result<ReloadReport, ControlError> {
        self.note(format!("set {name} {}", text.len()));
        if text.contains("wrong") {
            let words = format!("{name}.toml:1:1: memory: found wrong, allowed: 1M");
            return Err(ControlError::InvalidManifest(words));
        }
        Ok(ReloadReport {
            added: vec![name.to_owned()],
            unchanged: 2,
            ..ReloadReport::default()
        })
    }

    async fn remove_manifest(&self, name: &str) -> Result<ReloadReport, ControlError> {
        self.note(format!("remove {name}"));
        Ok(ReloadReport::default())
    }

    async fn manifest(&self, name: &str) -> Result<String, ControlError> {
        self.status(name)?;
        Ok(format!("name = \"{name}\"\n"))
    }

    fn news(&self) -> broadcast::Receiver<Arc<News>> {
        self.newsroom.listen()
    }

    fn say(&self, _level: u8, message: &str) {
        self.said.lock().unwrap().push(message.to_owned());
    }
}
