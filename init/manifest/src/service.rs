//! Services as PID 1 runs them: validated, and as a set in which every name means something.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;

use crate::error::{ManifestError, parse_toml};
use crate::order;
use crate::quantity;
use crate::raw::{
    PressureAction, RawLimits, RawPressure, RawReadiness, RawRestart, RawSandbox, RawService,
    RawStep, RawStop,
};
use crate::seccomp::SyscallSets;
use crate::source::Source;

mod types;
pub use types::*;

/// Ids below belong to the system and to people, ids above to user namespaces.
const UIDS: std::ops::RangeInclusive<u32> = 1000..=59_999;
/// More services than this in one image is a mistake, not an appliance.
const MAX_SERVICES: usize = 1024;
/// Largest manifest, in bytes.
const MAX_MANIFEST_BYTES: usize = 64 * 1024;
/// Names of logs that are not services', and of what else lives in `/run/kos` and `/data`.
const RESERVED_NAMES: [&str; 9] = [
    "init",
    "kernel",
    "system",
    "notify",
    "credentials",
    "boot",
    "profile",
    "read-only-disk",
    "models",
];
/// Capabilities that a service may keep: each is one that a kOS service could be built on
/// without becoming root by another name.
const CAPABILITIES: [&str; 5] = [
    "net_admin",
    "net_raw",
    "net_bind_service",
    "sys_time",
    "sys_nice",
];
/// Devices that exist in each sandbox.
const COMMON_DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];
/// What PID 1 can hand out: the code of this boot, and the owner's settings from the boot partition.
const CREDENTIALS: [&str; 4] = [
    "pairing-code",
    "owner-key",
    "network-settings",
    "wifi-settings",
];
/// Stop signals by name.
const STOP_SIGNALS: [(&str, i32); 6] = [
    ("SIGHUP", 1),
    ("SIGINT", 2),
    ("SIGQUIT", 3),
    ("SIGUSR1", 10),
    ("SIGUSR2", 12),
    ("SIGTERM", 15),
];

/// All services of an image, by name, in a set that holds together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServiceSet {
    services: BTreeMap<String, Service>,
}

impl ServiceSet {
    /// Parses the manifests of an image; each is `(file name, text)`.
    ///
    /// # Errors
    /// The first thing that is wrong, in the order of the files: a manifest by itself, then names
    /// and uids that are taken twice, references to nothing, and circles.
    pub fn parse<I>(files: I, sets: &SyscallSets) -> Result<Self, ManifestError>
    where
        I: IntoIterator<Item = (String, String)>,
    {
        let mut services = BTreeMap::new();
        let mut uids: BTreeMap<u32, String> = BTreeMap::new();
        let mut sources = BTreeMap::new();
        for (file, text) in files {
            let source = Source {
                file: &file,
                text: &text,
            };
            let (service, raw) = Service::parse(&source, sets)?;
            if let Some(other) = uids.insert(service.uid, service.name.clone()) {
                let message = format!(
                    "found {}, which is the uid of '{other}' already",
                    service.uid
                );
                return Err(match &raw.uid {
                    Some(at) => source.error("uid", at, message),
                    None => source.error("name", &raw.name, message),
                });
            }
            sources.insert(service.name.clone(), (file.clone(), text.clone(), raw));
            services.insert(service.name.clone(), service);
        }
        if services.len() > MAX_SERVICES {
            return Err(ManifestError {
                file: "services".to_owned(),
                place: None,
                key: String::new(),
                message: format!("found {} services, allowed: {MAX_SERVICES}", services.len()),
            });
        }
        for (file, text, raw) in sources.values() {
            let source = Source { file, text };
            for (key, names) in [("after", &raw.after), ("requires", &raw.requires)] {
                for name in names {
                    if !services.contains_key(name.get_ref()) {
                        let allowed: Vec<&str> = services.keys().map(String::as_str).collect();
                        let message = format!(
                            "found '{}', allowed: {}",
                            name.get_ref(),
                            allowed.join(", ")
                        );
                        return Err(source.error(key, name, message));
                    }
                }
            }
        }
        let edges = services
            .iter()
            .map(|(name, service)| (name.as_str(), service.after.as_slice()));
        if let Some(circle) = order::circle(edges) {
            let first = circle.first().and_then(|name| sources.get(*name));
            return Err(ManifestError {
                file: first.map_or_else(String::new, |(file, _, _)| file.clone()),
                place: None,
                key: "after".to_owned(),
                message: format!("the order runs in a circle: {}", circle.join(" -> ")),
            });
        }
        Ok(ServiceSet { services })
    }

    /// One service.
    pub fn get(&self, name: &str) -> Option<&Service> {
        self.services.get(name)
    }

    /// All services, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Service> {
        self.services.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.services.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }
}

impl Service {
    fn parse(source: &Source<'_>, sets: &SyscallSets) -> Result<(Self, RawService), ManifestError> {
        source.at_most(MAX_MANIFEST_BYTES)?;
        let raw: RawService = parse_toml(source.file, source.text)?;
        let name = name(source, &raw.name)?;
        let Some(uid) = &raw.uid else {
            let message = "found none, allowed: a uid".to_owned();
            return Err(source.error("uid", &raw.name, message));
        };
        if !UIDS.contains(uid.get_ref()) {
            let message = format!(
                "found {}, allowed: {} to {}",
                uid.get_ref(),
                UIDS.start(),
                UIDS.end()
            );
            return Err(source.error("uid", uid, message));
        }
        let mut credentials = Vec::new();
        for credential in &raw.credentials {
            credentials.push(source.one_of("credentials", credential, &CREDENTIALS)?);
        }
        let requires: Vec<String> = raw
            .requires
            .iter()
            .map(|name| name.get_ref().clone())
            .collect();
        let after: BTreeSet<String> = raw
            .after
            .iter()
            .map(|name| name.get_ref().clone())
            .chain(requires.clone())
            .collect();
        let service = Service {
            program: source.path("program", &raw.program)?,
            description: raw.description.clone(),
            args: raw.args.clone(),
            uid: *uid.get_ref(),
            instance_of: None,
            origin: Origin::Image,
            enabled: raw.enabled,
            essential: raw.essential,
            after: after.into_iter().collect(),
            requires,
            wants: words(&raw.wants),
            stop_before: words(&raw.stop_before),
            environment: raw.environment.clone(),
            credentials,
            conditions: Conditions {
                profiles: words(&raw.conditions.profiles),
                boards: words(&raw.conditions.boards),
                devices: words(&raw.conditions.devices),
            },
            readiness: readiness(source, &raw.readiness)?,
            watchdog: match &raw.watchdog {
                None => None,
                some => Some(source.duration("watchdog", some.as_ref(), Duration::ZERO)?),
            },
            restart: restart(source, &raw.restart)?,
            stop: stop(source, &raw.stop)?,
            pre_start: steps(source, "steps.pre-start", &raw.steps.pre_start)?,
            post_stop: steps(source, "steps.post-stop", &raw.steps.post_stop)?,
            // The manifest room fills these three in.
            sockets: Vec::new(),
            timer: None,
            limits: limits(source, &raw.limits)?,
            pressure: pressure(source, &raw.pressure)?,
            sandbox: sandbox(source, &raw.sandbox, sets)?,
            name,
        };
        Ok((service, raw))
    }
}

fn name(source: &Source<'_>, raw: &Spanned<String>) -> Result<String, ManifestError> {
    let name = raw.get_ref();
    let stem = Path::new(source.file)
        .file_stem()
        .and_then(|stem| stem.to_str());
    let letters = name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let well_formed =
        letters && name.starts_with(|c: char| c.is_ascii_lowercase()) && name.len() <= 32;
    if !well_formed {
        let message = format!(
            "found '{name}', allowed: at most 32 lower-case letters, digits and dashes, a letter first"
        );
        return Err(source.error("name", raw, message));
    }
    if RESERVED_NAMES.contains(&name.as_str()) {
        let message = format!(
            "found '{name}', allowed: any other than {}",
            RESERVED_NAMES.join(", ")
        );
        return Err(source.error("name", raw, message));
    }
    if stem != Some(name) {
        let message = format!(
            "found '{name}', allowed: the file's name, '{}'",
            stem.unwrap_or("")
        );
        return Err(source.error("name", raw, message));
    }
    Ok(name.clone())
}

fn readiness(source: &Source<'_>, raw: &RawReadiness) -> Result<Readiness, ManifestError> {
    let timeout = source.duration(
        "readiness.timeout",
        raw.timeout.as_ref(),
        Duration::from_secs(60),
    )?;
    Ok(Readiness {
        kind: raw.kind,
        address: None,
        path: raw
            .path
            .as_ref()
            .map_or_else(|| "/".to_owned(), |path| path.get_ref().clone()),
        timeout,
    })
}

fn restart(source: &Source<'_>, raw: &RawRestart) -> Result<Restart, ManifestError> {
    // 200 ms is too short to notice once and too long to burn a processor for ever; five starts
    // within a minute are systemd's order of patience, and a loop that a person can watch.
    let delay = source.duration(
        "restart.delay",
        raw.delay.as_ref(),
        Duration::from_millis(200),
    )?;
    let max_delay = source.duration(
        "restart.max-delay",
        raw.max_delay.as_ref(),
        Duration::from_secs(30),
    )?;
    let window = source.duration(
        "restart.start-window",
        raw.start_window.as_ref(),
        Duration::from_secs(60),
    )?;
    Ok(Restart {
        policy: raw.policy,
        delay,
        max_delay: max_delay.max(delay),
        start_limit: source.in_range(
            "restart.start-limit",
            raw.start_limit.as_ref(),
            5,
            1..=100,
        )?,
        start_window: window,
    })
}

fn stop(source: &Source<'_>, raw: &RawStop) -> Result<Stop, ManifestError> {
    let mut signal = 15;
    if let Some(text) = &raw.signal {
        let names: Vec<&str> = STOP_SIGNALS.iter().map(|(name, _)| *name).collect();
        let name = source.one_of("stop.signal", text, &names)?;
        signal = STOP_SIGNALS
            .iter()
            .find(|(known, _)| *known == name)
            .map_or(15, |(_, n)| *n);
    }
    let timeout = source.duration(
        "stop.timeout",
        raw.timeout.as_ref(),
        Duration::from_secs(10),
    )?;
    Ok(Stop { signal, timeout })
}

fn words(list: &[Spanned<String>]) -> Vec<String> {
    list.iter().map(|word| word.get_ref().clone()).collect()
}

fn steps(
    source: &Source<'_>,
    key: &str,
    list: &[RawStep],
) -> Result<Vec<StepProgram>, ManifestError> {
    list.iter()
        .map(|step| {
            Ok(StepProgram {
                program: source.path(&format!("{key}.program"), &step.program)?,
                args: step.args.clone(),
                timeout: source.duration(
                    &format!("{key}.timeout"),
                    step.timeout.as_ref(),
                    Duration::from_secs(30),
                )?,
            })
        })
        .collect()
}

fn pressure(source: &Source<'_>, list: &[RawPressure]) -> Result<Vec<Pressure>, ManifestError> {
    list.iter()
        .map(|raw| {
            Ok(Pressure {
                resource: raw.resource,
                level: raw.level,
                threshold: source.duration(
                    "pressure.threshold",
                    Some(&raw.threshold),
                    Duration::ZERO,
                )?,
                window: source.duration(
                    "pressure.window",
                    raw.window.as_ref(),
                    Duration::from_secs(2),
                )?,
                action: match raw.action {
                    PressureAction::Tell => PressureResponse::Tell,
                    PressureAction::Signal => PressureResponse::Signal(15),
                    PressureAction::Freeze => PressureResponse::Freeze(Duration::from_secs(10)),
                    PressureAction::Restart => PressureResponse::Restart,
                },
            })
        })
        .collect()
}

fn limits(source: &Source<'_>, raw: &RawLimits) -> Result<Limits, ManifestError> {
    let bytes = |key: &str, raw: Option<&Spanned<String>>, default: Option<u64>| match raw {
        None => Ok(default),
        Some(text) if text.get_ref() == "none" => Ok(None),
        Some(text) => quantity::bytes(text.get_ref())
            .map(Some)
            .map_err(|m| source.error(key, text, m)),
    };
    let cpu_millis = match &raw.cpu {
        None => None,
        Some(share) => Some(
            quantity::processors(*share.get_ref())
                .map_err(|message| source.error("limits.cpu", share, message))?,
        ),
    };
    Ok(Limits {
        memory: bytes("limits.memory", raw.memory.as_ref(), Some(128 << 20))?,
        memory_high: bytes("limits.memory-high", raw.memory_high.as_ref(), None)?,
        memory_low: bytes("limits.memory-low", raw.memory_low.as_ref(), None)?.unwrap_or(0),
        memory_swap: bytes("limits.memory-swap", raw.memory_swap.as_ref(), None)?.unwrap_or(0),
        oom_group: raw.oom_group.unwrap_or(true),
        io_read: bytes("limits.io-read", raw.io_read.as_ref(), None)?,
        io_write: bytes("limits.io-write", raw.io_write.as_ref(), None)?,
        disk: bytes("limits.disk", raw.disk.as_ref(), Some(256 << 20))?,
        disk_files: source.in_range(
            "limits.disk-files",
            raw.disk_files.as_ref(),
            16_384,
            16..=100_000_000,
        )?,
        file_size: bytes("limits.file-size", raw.file_size.as_ref(), None)?,
        locked_memory: bytes("limits.locked-memory", raw.locked_memory.as_ref(), None)?
            .unwrap_or(64 << 10),
        stack: bytes("limits.stack", raw.stack.as_ref(), None)?.unwrap_or(8 << 20),
        cpu_millis,
        cpu_weight: source.in_range(
            "limits.cpu-weight",
            raw.cpu_weight.as_ref(),
            100,
            1..=10_000,
        )?,
        io_weight: source.in_range("limits.io-weight", raw.io_weight.as_ref(), 100, 1..=10_000)?,
        // Two more than the program itself: the sandbox's init, and one for the moment of exec.
        pids: source.in_range("limits.pids", raw.pids.as_ref(), 64, 3..=1_000_000)?,
        open_files: source.in_range(
            "limits.open-files",
            raw.open_files.as_ref(),
            1024,
            16..=1_048_576,
        )?,
    })
}

fn sandbox(
    source: &Source<'_>,
    raw: &RawSandbox,
    sets: &SyscallSets,
) -> Result<Sandbox, ManifestError> {
    let paths = |key: &str, list: &[Spanned<String>]| {
        list.iter()
            .map(|text| source.path(key, text))
            .collect::<Result<Vec<_>, _>>()
    };
    let mut devices: Vec<String> = COMMON_DEVICES.map(str::to_owned).to_vec();
    for device in &raw.devices {
        let plain = device
            .get_ref()
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_/".contains(&b));
        if !plain || device.get_ref().starts_with('/') || device.get_ref().is_empty() {
            let message = format!("found '{}', allowed: a name below /dev", device.get_ref());
            return Err(source.error("sandbox.devices", device, message));
        }
        devices.push(device.get_ref().clone());
    }
    let mut capabilities = Vec::new();
    for capability in &raw.capabilities {
        capabilities.push(source.one_of("sandbox.capabilities", capability, &CAPABILITIES)?);
    }
    let known: Vec<&str> = sets.names().collect();
    let mut syscalls = Vec::new();
    for set in raw.syscalls.iter().flatten() {
        syscalls.push(source.one_of("sandbox.syscalls", set, &known)?);
    }
    if raw.syscalls.is_none() {
        syscalls.push("default".to_owned());
    }
    let tmp_bytes = match &raw.tmp {
        None => 16 << 20,
        Some(text) => quantity::bytes(text.get_ref())
            .map_err(|message| source.error("sandbox.tmp", text, message))?,
    };
    Ok(Sandbox {
        network: raw.network,
        listen: raw.listen.clone(),
        connect: raw.connect.clone(),
        udp: raw.udp,
        read: paths("sandbox.read", &raw.read)?,
        write: paths("sandbox.write", &raw.write)?,
        execute: paths("sandbox.execute", &raw.execute)?,
        devices,
        state: raw.state,
        cache: raw.cache,
        runtime: raw.runtime,
        tmp_bytes,
        capabilities,
        syscalls,
        syscalls_add: words(&raw.syscalls_add),
        syscalls_remove: words(&raw.syscalls_remove),
        writable_code: raw.writable_code,
        user_namespace: raw.user_namespace.as_ref().map_or_else(
            || raw.capabilities.is_empty() && raw.network != Network::Host,
            |wanted| *wanted.get_ref(),
        ),
        control: raw.control,
    })
}

#[cfg(test)]
mod tests;
