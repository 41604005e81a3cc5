//! All that PID 1 tells of one service: the properties of its object.

use std::collections::HashMap;

use serde::Serialize;
use zbus::OwnedVariant;

use crate::control::Init1Proxy;

/// The name of the interface that a service's object has.
pub const SERVICE_INTERFACE: &str = "org.kos.Init1.Service";

/// A service's limits, each with `None` for no limit.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Limits {
    /// Bytes of memory that it can never exceed.
    pub memory: Option<u64>,
    /// Bytes beyond which it is slowed down.
    pub memory_high: Option<u64>,
    /// Bytes of swap.
    pub memory_swap: Option<u64>,
    /// Thousandths of a processor.
    pub cpu_millis: Option<u64>,
    /// Share of the processors under contention.
    pub cpu_weight: u64,
    /// Share of disk time under contention.
    pub io_weight: u64,
    /// Processes and threads.
    pub tasks: Option<u64>,
    /// Bytes in its state and cache directories.
    pub disk: Option<u64>,
    /// Open descriptors per process.
    pub open_files: Option<u64>,
}

/// How much it has waited for something of late, in percent of the last ten seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Waiting {
    /// Any of its threads.
    pub some: f64,
    /// All of them.
    pub full: f64,
}

/// See the head of this file. What PID 1 does not tell is empty.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ServiceFacts {
    /// `image` or `owner`: who brought the manifest.
    pub origin: String,
    /// The template's name of an instance; else empty.
    pub template: String,
    /// Path of its program.
    pub program: String,
    /// User and group id.
    pub uid: u64,
    /// `none`, `own` or `host`.
    pub network: String,
    /// What it may ask of PID 1.
    pub control: String,
    /// `always`, `on-failure` or `never`.
    pub restart_policy: String,
    /// Whether it is started at boot.
    pub enabled: bool,
    /// Services that are started first.
    pub after: Vec<String>,
    /// Services without which it does not start.
    pub requires: Vec<String>,
    /// Services that are started with it.
    pub wants: Vec<String>,
    /// What it may use.
    pub limits: Limits,
    /// Processes of it that were killed for memory.
    pub oom_kills: u64,
    /// Waiting for memory.
    pub memory_pressure: Waiting,
    /// Waiting for a processor.
    pub cpu_pressure: Waiting,
    /// Waiting for a disk.
    pub io_pressure: Waiting,
}

/// Asks PID 1.
///
/// # Errors
/// When there is no such service, or PID 1 does not answer.
pub async fn of(proxy: &Init1Proxy<'_>, name: &str) -> zbus::Result<ServiceFacts> {
    let path = proxy.get_service(name).await?;
    let answer = proxy
        .inner()
        .connection()
        .call_method(
            None::<&str>,
            &path,
            Some("org.freedesktop.DBus.Properties"),
            "GetAll",
            &SERVICE_INTERFACE,
        )
        .await?;
    let body = answer.body();
    Ok(ServiceFacts::from(Properties(body.deserialize()?)))
}

struct Properties(HashMap<String, OwnedVariant>);

impl Properties {
    fn get<T>(&self, name: &str) -> Option<T>
    where
        T: TryFrom<OwnedVariant>,
    {
        T::try_from(self.0.get(name)?.try_clone().ok()?).ok()
    }

    fn text(&self, name: &str) -> String {
        self.get(name).unwrap_or_default()
    }

    fn words(&self, name: &str) -> Vec<String> {
        self.get(name).unwrap_or_default()
    }

    /// A number of either width; `None` for the greatest, which means no limit.
    fn limit(&self, name: &str) -> Option<u64> {
        if let Some(number) = self.get::<u64>(name) {
            return Some(number).filter(|number| *number != u64::MAX);
        }
        let number = self.get::<u32>(name)?;
        Some(u64::from(number)).filter(|_| number != u32::MAX)
    }

    fn number(&self, name: &str) -> u64 {
        self.limit(name).unwrap_or_default()
    }

    fn waiting(&self, name: &str) -> Waiting {
        let (some, full) = self.get(name).unwrap_or_default();
        Waiting { some, full }
    }
}

impl From<Properties> for ServiceFacts {
    fn from(properties: Properties) -> Self {
        ServiceFacts {
            origin: properties.text("Origin"),
            template: properties.text("Template"),
            program: properties.text("Program"),
            uid: properties.number("Uid"),
            network: properties.text("Network"),
            control: properties.text("Control"),
            restart_policy: properties.text("RestartPolicy"),
            enabled: properties.get("Enabled").unwrap_or_default(),
            after: properties.words("After"),
            requires: properties.words("Requires"),
            wants: properties.words("Wants"),
            limits: Limits {
                memory: properties.limit("MemoryMax"),
                memory_high: properties.limit("MemoryHigh"),
                memory_swap: properties.limit("MemorySwapMax"),
                cpu_millis: properties.limit("CpuMax"),
                cpu_weight: properties.number("CpuWeight"),
                io_weight: properties.number("IoWeight"),
                tasks: properties.limit("TasksMax"),
                disk: properties.limit("DiskMax"),
                open_files: properties.limit("OpenFilesMax"),
            },
            oom_kills: properties.number("OomKills"),
            memory_pressure: properties.waiting("MemoryPressure"),
            cpu_pressure: properties.waiting("CpuPressure"),
            io_pressure: properties.waiting("IoPressure"),
        }
    }
}
