//! The machine as PID 1 sees it, and the little about it that can be changed.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use kos_manifest::control::{PhaseRecord, SystemStatus};
use kos_sys::cgroup::Cgroup;
use kos_sys::clock::boottime_milliseconds;

use crate::console::{Console, lock};
use crate::data::Data;
use crate::logs::Log;
use crate::reaper::Reaper;

/// Longest label of a host name (RFC 1035).
const MAX_LABEL: usize = 63;

/// Facts of the boot, and what is counted since.
pub struct System {
    /// Version of the image.
    pub version: String,
    /// What `/data` is.
    pub data: Data,
    /// The boot, phase by phase.
    pub phases: Vec<PhaseRecord>,
    /// PID 1's own group.
    pub own_group: Cgroup,
    /// The kernel's messages.
    pub kernel: Log,
    /// Counts orphans.
    pub reaper: Reaper,
    /// PID 1's voice.
    pub console: Console,
    /// The host name.
    pub hostname: Mutex<String>,
    /// When the first start had settled; 0 before.
    pub ready_ms: AtomicU64,
}

impl System {
    /// All of it, now.
    pub fn status(&self) -> SystemStatus {
        let table = kos_sys::process::table(Path::new("/proc")).ok();
        SystemStatus {
            hostname: lock(&self.hostname).clone(),
            version: self.version.clone(),
            uptime_ms: boottime_milliseconds(),
            board: String::new(),
            board_description: String::new(),
            boot_disk: String::new(),
            data_kind: self.data.kind().to_owned(),
            data_detail: self.data.detail(),
            data_problem: String::new(),
            data_advice: String::new(),
            data_bytes: 0,
            data_free: 0,
            setup_problem: String::new(),
            processes: table.as_ref().map_or(0, |table| count(table.total)),
            zombies: table.as_ref().map_or(0, |table| count(table.zombies)),
            orphans_reaped: self.reaper.orphans(),
            init_memory: self.own_group.memory_current().unwrap_or_default(),
            ready_ms: self.ready_ms.load(Ordering::Relaxed),
            phases: self.phases.clone(),
        }
    }

    /// The kernel's messages.
    pub fn kernel_log(&self) -> &Log {
        &self.kernel
    }

    /// Sets the host name: one label of RFC 1123.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub fn set_hostname(&self, name: &str) -> Result<(), String> {
        check_hostname(name)?;
        if *lock(&self.hostname) == name {
            return Ok(());
        }
        kos_sys::hostname::set(name).map_err(|error| error.full())?;
        name.clone_into(&mut lock(&self.hostname));
        self.console.say(6, &format!("host name {name}"));
        Ok(())
    }

    /// Sends PID 1 one of the two signals that it takes from people: the same path as from the
    /// kernel, whoever asks.
    ///
    /// # Errors
    /// When it is another signal.
    pub fn signal_self(&self, signal: i32) -> Result<(), String> {
        use rustix::process::{Signal, getpid, kill_process};
        let signal = match signal {
            15 => Signal::TERM,
            2 => Signal::INT,
            _ => {
                let found = kos_manifest::signal::name(signal);
                return Err(format!("found {found}, allowed for init: SIGTERM, SIGINT"));
            }
        };
        kill_process(getpid(), signal).map_err(|error| error.to_string())
    }
}

fn check_hostname(name: &str) -> Result<(), String> {
    let letters = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let edges = !name.starts_with('-') && !name.ends_with('-');
    if letters && edges && (1..=MAX_LABEL).contains(&name.len()) {
        return Ok(());
    }
    let shown: String = name
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_LABEL)
        .collect();
    Err(format!(
        "found '{shown}', allowed: 1 to {MAX_LABEL} letters, digits and dashes, no dash at an end"
    ))
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names() {
        assert!(check_hostname("kos").is_ok());
        assert!(check_hostname("box-7").is_ok());
        for bad in ["", "-a", "a-", "a.b", "a b", "ä", "x\ny", &"a".repeat(64)] {
            assert!(check_hostname(bad).is_err(), "{bad}");
        }
    }
}
