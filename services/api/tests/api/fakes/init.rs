//! A PID 1 that supervises nothing: `org.kos.Init1`, peer to peer on a Unix socket.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kos_sdk::control::{
    BootRecord, Holdings, LogBatch, LogCursor, LogEntry, LogPage, LogPart, PhaseRecord,
    ReloadReport, ServiceStatus, SystemStatus,
};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

/// Lines that a fake log keeps; small, so that tests can overrun it.
pub const RING: usize = 200;

/// The kernel's id of the fake's first boot.
const BOOT: &str = "01234567-89ab-4cde-8f01-23456789abcd";

/// The fake, to be set up and changed by a test while it serves.
#[derive(Clone)]
pub struct FakeInit {
    world: Arc<Mutex<World>>,
    generation: watch::Sender<u64>,
    lines: watch::Sender<u64>,
}

struct World {
    started: Instant,
    boot: String,
    hostname: String,
    services: Vec<ServiceStatus>,
    manifests: HashMap<String, String>,
    logs: HashMap<String, Ring>,
    calls: Vec<String>,
    data: Data,
    setup_problem: String,
}

/// What the fake says of its data disk.
#[derive(Clone)]
pub struct Data {
    pub kind: &'static str,
    pub detail: &'static str,
    pub problem: &'static str,
    pub advice: &'static str,
    pub free: u64,
}

/// A disk that is well.
pub const GOOD: Data = Data {
    kind: "disk",
    detail: "/dev/vda2 (ext4).",
    problem: "",
    advice: "",
    free: 5_400_000_000,
};

#[derive(Default)]
struct Ring {
    entries: VecDeque<LogEntry>,
    next: u64,
}

#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.kos.Init1.Error")]
enum InitError {
    #[zbus(error)]
    ZBus(zbus::Error),
    NoSuchService(String),
    NotAllowed(String),
    Busy(String),
    InvalidManifest(String),
}

impl FakeInit {
    /// Serves at `socket` from now on, as a task of the current runtime.
    pub fn start(socket: &Path) -> Self {
        let fake = FakeInit {
            world: Arc::new(Mutex::new(World {
                started: Instant::now(),
                boot: BOOT.to_owned(),
                hostname: "attic".to_owned(),
                services: ["api", "infer", "net"].map(service).to_vec(),
                manifests: HashMap::new(),
                logs: ["init", "kernel", "api", "infer", "net"]
                    .map(|name| (name.to_owned(), Ring::default()))
                    .into(),
                calls: Vec::new(),
                data: GOOD,
                setup_problem: String::new(),
            })),
            generation: watch::Sender::new(1),
            lines: watch::Sender::new(0),
        };
        let listener = UnixListener::bind(socket).unwrap();
        let served = fake.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let served = served.clone();
                tokio::spawn(async move { served.serve(stream).await });
            }
        });
        fake
    }

    async fn serve(self, stream: UnixStream) {
        let connection = zbus::connection::Builder::unix_stream(stream.into_std().unwrap())
            .server(zbus::Guid::generate())
            .p2p()
            .serve_at("/org/kos/Init1", self)
            .serve_at(FACTS_PATH, FakeFacts)
            .build()
            .await;
        if let Ok(connection) = connection {
            // Lives until the client closes it.
            let mut messages = zbus::MessageStream::from(connection);
            while let Some(Ok(_)) = futures_util::StreamExt::next(&mut messages).await {}
        }
    }

    /// Changes a service and tells those who wait.
    pub fn change(&self, name: &str, change: impl FnOnce(&mut ServiceStatus)) {
        let mut world = self.world.lock().unwrap();
        let service = world.services.iter_mut().find(|s| s.name == name).unwrap();
        change(service);
        drop(world);
        self.generation.send_modify(|generation| *generation += 1);
    }

    /// Adds this many services, and tells those who wait.
    pub fn grow(&self, count: usize) {
        let mut world = self.world.lock().unwrap();
        for index in 0..count {
            let name = format!("agent-{index}");
            world.services.push(service(&name));
            world.logs.insert(name, Ring::default());
        }
        drop(world);
        self.generation.send_modify(|generation| *generation += 1);
    }

    /// Puts a service into a state.
    pub fn set_state(&self, name: &str, state: &str, reason: &str) {
        self.change(name, |service| {
            service.state = state.to_owned();
            service.reason = reason.to_owned();
        });
    }

    /// Changes what it says of the machine, and tells those who wait.
    pub fn set_machine(&self, data: Data, setup_problem: &str) {
        let mut world = self.world.lock().unwrap();
        world.data = data;
        setup_problem.clone_into(&mut world.setup_problem);
        drop(world);
        self.generation.send_modify(|generation| *generation += 1);
    }

    /// Writes a line into a log.
    pub fn log(&self, name: &str, level: u8, message: &str) {
        let mut world = self.world.lock().unwrap();
        let ring = world.logs.get_mut(name).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        ring.entries.push_back(LogEntry {
            cursor: ring.next,
            time_unix_ms: u64::try_from(now.as_millis()).unwrap(),
            level,
            message: message.to_owned(),
        });
        ring.next += 1;
        if ring.entries.len() > RING {
            ring.entries.pop_front();
        }
        drop(world);
        self.lines.send_modify(|lines| *lines += 1);
    }

    /// Another boot: all rings are empty, and their cursors begin again.
    pub fn reboot_as(&self, boot: &str) {
        let mut world = self.world.lock().unwrap();
        boot.clone_into(&mut world.boot);
        for ring in world.logs.values_mut() {
            *ring = Ring::default();
        }
        drop(world);
        self.lines.send_modify(|lines| *lines += 1);
    }

    /// What was asked of it so far, such as `start infer`.
    pub fn calls(&self) -> Vec<String> {
        self.world.lock().unwrap().calls.clone()
    }

    fn act(&self, call: &str, name: &str) -> Result<(), InitError> {
        let mut world = self.world.lock().unwrap();
        let Some(service) = world.services.iter().find(|s| s.name == name) else {
            let known: Vec<_> = world.services.iter().map(|s| s.name.as_str()).collect();
            let known = known.join(", ");
            let message = format!("no service '{name}'; there are {known}");
            return Err(InitError::NoSuchService(message));
        };
        if name == "net" {
            let message = "the manifest of api does not let it touch net".to_owned();
            return Err(InitError::NotAllowed(message));
        }
        if service.state == "stopping" {
            return Err(InitError::Busy(format!("{name} is stopping")));
        }
        world.calls.push(call.to_owned());
        Ok(())
    }
}

#[zbus::interface(name = "org.kos.Init1")]
impl FakeInit {
    fn services(&self) -> Vec<ServiceStatus> {
        self.world.lock().unwrap().services.clone()
    }

    fn service(&self, name: &str) -> Result<ServiceStatus, InitError> {
        let world = self.world.lock().unwrap();
        let found = world.services.iter().find(|service| service.name == name);
        found
            .cloned()
            .ok_or_else(|| InitError::NoSuchService(format!("no service '{name}'")))
    }

    #[zbus(name = "Start")]
    fn start_service(&self, name: &str) -> Result<(), InitError> {
        self.act(&format!("start {name}"), name)?;
        self.set_state(name, "ready", "");
        Ok(())
    }

    fn stop(&self, name: &str) -> Result<(), InitError> {
        self.act(&format!("stop {name}"), name)?;
        self.change(name, |service| {
            service.state = "stopped".to_owned();
            service.reason = "stopped by an operator".to_owned();
            service.pid = 0;
            service.memory = 0;
            service.status_text = String::new();
        });
        Ok(())
    }

    fn restart(&self, name: &str) -> Result<(), InitError> {
        self.act(&format!("restart {name}"), name)?;
        self.set_state(name, "ready", "");
        Ok(())
    }

    fn kill(&self, name: &str, signal: i32) -> Result<(), InitError> {
        self.act(&format!("kill {name} {signal}"), name)?;
        self.set_state(name, "backoff", &format!("killed by signal {signal}"));
        Ok(())
    }

    fn get_service(&self, name: &str) -> Result<zbus::OwnedObjectPath, InitError> {
        self.service(name)?;
        Ok(zbus::OwnedObjectPath::try_from(FACTS_PATH).unwrap())
    }

    fn freeze(&self, name: &str) -> Result<(), InitError> {
        self.act(&format!("freeze {name}"), name)?;
        self.set_state(name, "frozen", "frozen by the operator");
        Ok(())
    }

    fn thaw(&self, name: &str) -> Result<(), InitError> {
        self.act(&format!("thaw {name}"), name)?;
        self.set_state(name, "ready", "thawed");
        Ok(())
    }

    fn quarantine(&self, name: &str, reason: &str) -> Result<(), InitError> {
        self.act(&format!("quarantine {name} {reason}"), name)?;
        self.set_state(name, "quarantined", &format!("quarantined: {reason}"));
        Ok(())
    }

    fn release(&self, name: &str) -> Result<(), InitError> {
        self.act(&format!("release {name}"), name)?;
        self.set_state(name, "stopped", "released");
        Ok(())
    }

    fn manifest(&self, name: &str) -> Result<String, InitError> {
        self.service(name)?;
        let world = self.world.lock().unwrap();
        Ok(world
            .manifests
            .get(name)
            .cloned()
            .unwrap_or_else(|| manifest_of(name)))
    }

    fn set_manifest(&self, name: &str, text: &str) -> Result<ReloadReport, InitError> {
        if let Some(line) = text.lines().position(|line| line.contains("lots")) {
            return Err(InitError::InvalidManifest(format!(
                "{name}.toml:{}:10: limits.memory: found 'lots', allowed: a size such as 64K, 512M, 4G, or none",
                line + 1
            )));
        }
        let mut world = self.world.lock().unwrap();
        let is_new = !world.services.iter().any(|service| service.name == name);
        if is_new {
            world.services.push(service(name));
            world.logs.insert(name.to_owned(), Ring::default());
        }
        world.manifests.insert(name.to_owned(), text.to_owned());
        world.calls.push(format!("set manifest {name}"));
        let count = world.services.len();
        drop(world);
        self.generation.send_modify(|generation| *generation += 1);
        let names = vec![name.to_owned()];
        let (added, restarted) = if is_new {
            (names, Vec::new())
        } else {
            (Vec::new(), names)
        };
        Ok(ReloadReport {
            added,
            restarted,
            unchanged: u32::try_from(count - 1).unwrap(),
            ..ReloadReport::default()
        })
    }

    fn remove_manifest(&self, name: &str) -> Result<ReloadReport, InitError> {
        let mut world = self.world.lock().unwrap();
        if world.manifests.remove(name).is_none() {
            return Err(InitError::Busy(format!(
                "{name} has no manifest of the owner's"
            )));
        }
        world.services.retain(|service| service.name != name);
        Ok(ReloadReport {
            removed: vec![name.to_owned()],
            unchanged: u32::try_from(world.services.len()).unwrap(),
            ..ReloadReport::default()
        })
    }

    fn reload(&self) -> ReloadReport {
        let mut world = self.world.lock().unwrap();
        world.calls.push("reload".to_owned());
        ReloadReport {
            unchanged: u32::try_from(world.services.len()).unwrap(),
            ..ReloadReport::default()
        }
    }

    fn boots(&self) -> Vec<BootRecord> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now = u64::try_from(since.as_millis()).unwrap();
        super::boots::boots(now, &self.system().phases)
    }

    fn system(&self) -> SystemStatus {
        let world = self.world.lock().unwrap();
        let uptime = u64::try_from(world.started.elapsed().as_millis()).unwrap() + 4_000;
        let phase = |name: &str, started_ms: u64, took_usec: u64| PhaseRecord {
            name: name.to_owned(),
            started_ms,
            took_usec,
            error: String::new(),
        };
        SystemStatus {
            hostname: world.hostname.clone(),
            version: "0.1.0".to_owned(),
            uptime_ms: uptime,
            board: "pc-x86_64".to_owned(),
            board_description: "PCs, mini PCs and servers with UEFI".to_owned(),
            boot_disk: "/dev/vda, QEMU HARDDISK, 8.0 GB".to_owned(),
            data_kind: world.data.kind.to_owned(),
            data_detail: world.data.detail.to_owned(),
            data_problem: world.data.problem.to_owned(),
            data_advice: world.data.advice.to_owned(),
            data_bytes: 7_800_000_000,
            data_free: world.data.free,
            setup_problem: world.setup_problem.clone(),
            processes: 9,
            zombies: 0,
            orphans_reaped: 3,
            init_memory: 3_400_000,
            ready_ms: 2_480,
            phases: vec![
                phase("mounts", 1_310, 9_200),
                phase("cgroups", 1_320, 4_100),
                phase("data", 1_325, 212_000),
                phase("manifests", 1_538, 31_000),
                phase("control", 1_570, 12_500),
            ],
            boot_id: "5f0c1d5e-7a52-4c3f-9d1a-0f6b8f0f2a11".to_owned(),
            watchdog: "iTCO_wdt".to_owned(),
            watchdog_timeout_ms: 30_000,
            watchdog_problem: String::new(),
            holdings: Holdings {
                resident: 4_200_000,
                descriptors: 61,
                mounts: 14,
                groups: 9,
            },
        }
    }

    async fn read_log(
        &self,
        name: &str,
        cursor: u64,
        max: u32,
        wait_ms: u32,
    ) -> Result<LogPage, InitError> {
        let mut lines = self.lines.subscribe();
        let until = tokio::time::Instant::now() + Duration::from_millis(wait_ms.into());
        loop {
            let page = {
                let world = self.world.lock().unwrap();
                let ring = world
                    .logs
                    .get(name)
                    .ok_or_else(|| InitError::NoSuchService(format!("no log of '{name}'")))?;
                ring.page(cursor, max)
            };
            let is_over = tokio::time::Instant::now() >= until;
            if !page.entries.is_empty() || is_over {
                return Ok(page);
            }
            let _ = tokio::time::timeout_at(until, lines.changed()).await;
        }
    }

    async fn read_logs(
        &self,
        boot: &str,
        cursors: Vec<LogCursor>,
        max: u32,
        wait_ms: u32,
    ) -> LogBatch {
        let mut lines = self.lines.subscribe();
        let until = tokio::time::Instant::now() + Duration::from_millis(wait_ms.into());
        loop {
            let batch = self.world.lock().unwrap().batch(boot, &cursors, max);
            if !batch.logs.is_empty() || tokio::time::Instant::now() >= until {
                return batch;
            }
            let _ = tokio::time::timeout_at(until, lines.changed()).await;
        }
    }

    async fn wait_change(&self, generation: u64, wait_ms: u32) -> u64 {
        let mut generations = self.generation.subscribe();
        let wait = Duration::from_millis(wait_ms.into());
        let changed = generations.wait_for(|now| *now != generation);
        let _ = tokio::time::timeout(wait, changed).await;
        *self.generation.borrow()
    }

    fn reboot(&self, _reason: &str) {
        self.world.lock().unwrap().calls.push("reboot".to_owned());
    }

    fn factory_reset(&self, reason: &str) {
        let call = format!("factory reset {reason}");
        self.world.lock().unwrap().calls.push(call);
    }

    fn power_off(&self, _reason: &str) {
        let call = "power off".to_owned();
        self.world.lock().unwrap().calls.push(call);
    }
}

impl World {
    fn batch(&self, boot: &str, cursors: &[LogCursor], max: u32) -> LogBatch {
        let parts = self.logs.iter().map(|(name, ring)| {
            let known = cursors
                .iter()
                .find(|cursor| cursor.name == *name && boot == self.boot);
            let page = ring.page(known.map_or(0, |cursor| cursor.cursor), max);
            LogPart {
                name: name.clone(),
                entries: page.entries,
                next: page.next,
                dropped: page.dropped,
            }
        });
        LogBatch {
            boot: self.boot.clone(),
            logs: parts.filter(|part| !part.entries.is_empty()).collect(),
        }
    }
}

/// Where every service's facts are: the fake has one set for all.
const FACTS_PATH: &str = "/org/kos/Init1/service/any";

/// What a service is and may.
struct FakeFacts;

#[zbus::interface(name = "org.kos.Init1.Service")]
impl FakeFacts {
    #[zbus(property)]
    fn origin(&self) -> &str {
        "owner"
    }
    #[zbus(property)]
    fn program(&self) -> &str {
        "/bin/kos-infer"
    }
    #[zbus(property)]
    fn uid(&self) -> u32 {
        1002
    }
    #[zbus(property)]
    fn network(&self) -> &str {
        "none"
    }
    #[zbus(property)]
    fn restart_policy(&self) -> &str {
        "always"
    }
    #[zbus(property)]
    fn after(&self) -> Vec<String> {
        vec!["net".to_owned()]
    }
    #[zbus(property)]
    fn memory_max(&self) -> u64 {
        64 << 20
    }
    #[zbus(property)]
    fn memory_high(&self) -> u64 {
        56 << 20
    }
    #[zbus(property)]
    fn cpu_max(&self) -> u32 {
        1500
    }
    #[zbus(property)]
    fn cpu_weight(&self) -> u32 {
        100
    }
    #[zbus(property)]
    fn io_weight(&self) -> u32 {
        100
    }
    #[zbus(property)]
    fn tasks_max(&self) -> u32 {
        64
    }
    #[zbus(property)]
    fn disk_max(&self) -> u64 {
        u64::MAX
    }
    #[zbus(property)]
    fn oom_kills(&self) -> u64 {
        2
    }
    #[zbus(property)]
    fn memory_pressure(&self) -> (f64, f64) {
        (12.5, 3.0)
    }
}

fn manifest_of(name: &str) -> String {
    format!(
        "name = \"{name}\"\ndescription = \"Test\"\nprogram = \"/bin/kos-{name}\"\nuid = 1002\n\n[limits]\nmemory = \"64M\"\npids = 64\n"
    )
}

impl Ring {
    fn page(&self, cursor: u64, max: u32) -> LogPage {
        let oldest = self.entries.front().map_or(self.next, |entry| entry.cursor);
        let from = cursor.max(oldest);
        let entries: Vec<LogEntry> = self
            .entries
            .iter()
            .filter(|entry| entry.cursor >= from)
            .take(max as usize)
            .cloned()
            .collect();
        LogPage {
            next: entries.last().map_or(self.next, |entry| entry.cursor + 1),
            entries,
            dropped: oldest.saturating_sub(cursor),
        }
    }
}

fn service(name: &str) -> ServiceStatus {
    let description = match name {
        "api" => "HTTP API and console",
        "infer" => "runs language models",
        _ => "addresses, DNS and time",
    };
    ServiceStatus {
        name: name.to_owned(),
        description: description.to_owned(),
        state: "ready".to_owned(),
        reason: String::new(),
        status_text: String::new(),
        since_ms: 2_000,
        uptime_ms: 65_000,
        pid: 30,
        restarts: 0,
        last_failure: String::new(),
        memory: 9_400_000,
        memory_max: 64 << 20,
        cpu_usec: 400_000,
        tasks: 3,
        essential: false,
    }
}
