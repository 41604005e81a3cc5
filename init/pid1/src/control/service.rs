//! `org.kos.Init1.Service`: the interface of each service's object, `/org/kos/Init1/service/NAME`.

use std::time::Duration;

use kos_manifest::control::MAX_REASON;
use kos_manifest::service::ControlGrant::Operate;
use kos_manifest::service::{ControlGrant, Network, Origin, RestartPolicy};
use zbus::{Message, Variant};

use crate::control::call::{Call, arguments_of};
use crate::control::error::ControlError;
use crate::control::interface::{Argument, Emits, Interface, Method, arguments, property};
use crate::control::manager::{act, shown};
use crate::control::realm::{Act, Realm, ServiceFacts};
use crate::task::ServiceView;

/// The interface's name.
pub const SERVICE_INTERFACE: &str = "org.kos.Init1.Service";

const fn operation(name: &'static str, takes: &'static [Argument]) -> Method {
    Method {
        name,
        takes,
        gives: arguments![],
        grant: Operate,
        waits: true,
    }
}

/// The interface. First what the service does, then what its manifest says.
pub static SERVICE: Interface<ServiceFacts> = Interface {
    name: SERVICE_INTERFACE,
    methods: &[
        operation("Start", arguments![]),
        operation("Stop", arguments![]),
        operation("Restart", arguments![]),
        operation("Kill", arguments![signal: i32]),
        operation("Freeze", arguments![]),
        operation("Thaw", arguments![]),
        operation("Quarantine", arguments![reason: &str]),
        operation("Release", arguments![]),
    ],
    properties: &[
        property!("Name", Const, String, |facts| facts.status.name.clone()),
        property!("State", True, String, |facts| facts.status.state.clone()),
        property!("Reason", True, String, |facts| facts.status.reason.clone()),
        property!("StatusText", True, String, |facts| facts
            .status
            .status_text
            .clone()),
        property!("SinceMs", True, u64, |facts| facts.status.since_ms),
        property!("MainPid", True, u32, |facts| facts.status.pid),
        property!("Restarts", True, u32, |facts| facts.status.restarts),
        property!("LastFailure", True, String, |facts| facts
            .status
            .last_failure
            .clone()),
        property!("UptimeMs", False, u64, |facts| facts.status.uptime_ms),
        property!("Memory", False, u64, |facts| facts.status.memory),
        property!("CpuUsec", False, u64, |facts| facts.status.cpu_usec),
        property!("Tasks", False, u32, |facts| facts.status.tasks),
        property!("OomKills", False, u64, |facts| facts.oom_kills),
        property!("MemoryPressure", False, (f64, f64), |facts| facts.pressure
            [0]),
        property!("CpuPressure", False, (f64, f64), |facts| facts.pressure[1]),
        property!("IoPressure", False, (f64, f64), |facts| facts.pressure[2]),
        property!("Description", Invalidates, String, |facts| facts
            .manifest
            .description
            .clone()),
        property!("Origin", Invalidates, String, |facts| origin(
            facts.manifest.origin
        )
        .to_owned()),
        property!("Template", Invalidates, String, |facts| template(facts)),
        property!("Program", Invalidates, String, |facts| {
            facts.manifest.program.display().to_string()
        }),
        property!("Uid", Invalidates, u32, |facts| facts.manifest.uid),
        property!("Enabled", Invalidates, bool, |facts| facts.manifest.enabled),
        property!("Essential", Invalidates, bool, |facts| facts
            .manifest
            .essential),
        property!("After", Invalidates, Vec<String>, |facts| facts
            .manifest
            .after
            .clone()),
        property!("Requires", Invalidates, Vec<String>, |facts| facts
            .manifest
            .requires
            .clone()),
        property!("Wants", Invalidates, Vec<String>, |facts| facts
            .manifest
            .wants
            .clone()),
        property!("StopBefore", Invalidates, Vec<String>, |facts| {
            facts.manifest.stop_before.clone()
        }),
        property!("RestartPolicy", Invalidates, String, |facts| {
            policy(facts.manifest.restart.policy).to_owned()
        }),
        property!("WatchdogUsec", Invalidates, u64, |facts| {
            microseconds(facts.manifest.watchdog)
        }),
        property!("Network", Invalidates, String, |facts| {
            network(facts.manifest.sandbox.network).to_owned()
        }),
        property!("Control", Invalidates, String, |facts| {
            grant(facts.manifest.sandbox.control).to_owned()
        }),
        property!("MemoryMax", Invalidates, u64, |facts| {
            facts.manifest.limits.memory.unwrap_or(u64::MAX)
        }),
        property!("MemoryHigh", Invalidates, u64, |facts| {
            facts.manifest.limits.memory_high.unwrap_or(u64::MAX)
        }),
        property!("MemoryLow", Invalidates, u64, |facts| facts
            .manifest
            .limits
            .memory_low),
        property!("MemorySwapMax", Invalidates, u64, |facts| facts
            .manifest
            .limits
            .memory_swap),
        property!("OomGroup", Invalidates, bool, |facts| facts
            .manifest
            .limits
            .oom_group),
        property!("CpuMax", Invalidates, u32, |facts| {
            facts.manifest.limits.cpu_millis.unwrap_or(u32::MAX)
        }),
        property!("CpuWeight", Invalidates, u32, |facts| facts
            .manifest
            .limits
            .cpu_weight),
        property!("IoWeight", Invalidates, u32, |facts| facts
            .manifest
            .limits
            .io_weight),
        property!("IoReadMax", Invalidates, u64, |facts| {
            facts.manifest.limits.io_read.unwrap_or(u64::MAX)
        }),
        property!("IoWriteMax", Invalidates, u64, |facts| {
            facts.manifest.limits.io_write.unwrap_or(u64::MAX)
        }),
        property!("TasksMax", Invalidates, u32, |facts| facts
            .manifest
            .limits
            .pids),
        property!("DiskMax", Invalidates, u64, |facts| {
            facts.manifest.limits.disk.unwrap_or(u64::MAX)
        }),
        property!("DiskFilesMax", Invalidates, u32, |facts| facts
            .manifest
            .limits
            .disk_files),
        property!("OpenFilesMax", Invalidates, u32, |facts| facts
            .manifest
            .limits
            .open_files),
    ],
    signals: &[],
};

/// Answers a call of a method of [`SERVICE`]; grant and existence have been seen to.
pub async fn answer<R: Realm>(
    call: &Call<R>,
    name: &str,
    method: &str,
) -> Result<Message, ControlError> {
    let body = call.message.body();
    let wanted = match method {
        "Start" => Act::Start,
        "Stop" => Act::Stop,
        "Restart" => Act::Restart,
        "Kill" => Act::Kill(arguments_of(&body)?),
        "Freeze" => Act::Freeze,
        "Thaw" => Act::Thaw,
        "Quarantine" => Act::Quarantine(shown("reason", arguments_of(&body)?, MAX_REASON)?),
        "Release" => Act::Release,
        _ => {
            return Err(ControlError::UnknownMethod(format!(
                "{SERVICE_INTERFACE} has no {method}"
            )));
        }
    };
    act(call, name, wanted).await
}

/// The properties that have another value now, as `PropertiesChanged` tells them.
pub fn changed(was: &ServiceView, now: &ServiceView) -> Vec<(&'static str, Variant<'static>)> {
    let mut changed = Vec::new();
    let mut text = |name, was: &String, now: &String| {
        if was != now {
            changed.push((name, Variant::from(now.clone())));
        }
    };
    text("Reason", &was.reason, &now.reason);
    text("StatusText", &was.status_text, &now.status_text);
    text("LastFailure", &was.last_failure, &now.last_failure);
    if was.state != now.state {
        changed.push(("State", Variant::from(now.state.as_str().to_owned())));
    }
    if was.since_ms != now.since_ms {
        changed.push(("SinceMs", Variant::from(now.since_ms)));
    }
    if was.pid != now.pid {
        changed.push(("MainPid", Variant::from(now.pid)));
    }
    if was.restarts != now.restarts {
        changed.push(("Restarts", Variant::from(now.restarts)));
    }
    changed
}

/// The names of the properties that another manifest may change.
pub fn of_manifest() -> Vec<&'static str> {
    SERVICE
        .properties
        .iter()
        .filter(|property| property.emits == Emits::Invalidates)
        .map(|property| property.name)
        .collect()
}

fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Image => "image",
        Origin::Box => "owner",
    }
}

fn template(facts: &ServiceFacts) -> String {
    let template = facts.manifest.instance_of.as_ref();
    template.map_or_else(String::new, |(template, _)| template.clone())
}

fn policy(policy: RestartPolicy) -> &'static str {
    match policy {
        RestartPolicy::Always => "always",
        RestartPolicy::OnFailure => "on-failure",
        RestartPolicy::Never => "never",
    }
}

fn network(network: Network) -> &'static str {
    match network {
        Network::None => "none",
        Network::Own => "own",
        Network::Host => "host",
    }
}

fn grant(grant: ControlGrant) -> &'static str {
    match grant {
        ControlGrant::None => "none",
        ControlGrant::Observe => "observe",
        ControlGrant::Name => "name",
        ControlGrant::Operate => "operate",
    }
}

fn microseconds(duration: Option<Duration>) -> u64 {
    duration.map_or(0, |duration| {
        u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
    })
}
