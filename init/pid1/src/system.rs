//! The machine as PID 1 sees it, and the little about it that can be changed.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use kos_manifest::board_info::BoardInfo;
use kos_manifest::box_settings::values::HostName;
use kos_manifest::control::{Holdings, PhaseRecord, SystemStatus};
use kos_sys::cgroup::{Cgroup, CgroupRoot};
use kos_sys::clock::boottime_milliseconds;
use kos_sys::process;

use crate::console::{Console, lock};
use crate::data::Data;
use crate::logs::Log;
use crate::reaper::Reaper;
use crate::record::Records;
use crate::reset::Target;
use crate::watchdog::Keeper;

/// Facts of the boot, and what is counted since.
pub struct System {
    /// Version of the image.
    pub version: String,
    /// The board, when the image says which.
    pub board: Option<BoardInfo>,
    /// The disk that the box booted from, as people know it; empty when it is not known.
    pub boot_disk: String,
    /// What is wrong with the settings on the boot partition; empty when nothing is.
    pub setup_problem: String,
    /// What `/data` is.
    pub data: Data,
    /// The boot, phase by phase.
    pub phases: Vec<PhaseRecord>,
    /// PID 1's own group.
    pub own_group: Cgroup,
    /// The box's groups.
    pub cgroups: CgroupRoot,
    /// The kernel's messages.
    pub kernel: Log,
    /// Counts orphans.
    pub reaper: Reaper,
    /// PID 1's voice.
    pub console: Console,
    /// The host name.
    pub hostname: Mutex<String>,
    /// Whether the owner chose it.
    pub named_by_owner: bool,
    /// When the first start had settled; 0 before.
    pub ready_ms: AtomicU64,
    /// What is kept of each boot.
    pub records: Records,
    /// The hardware watchdog.
    pub watchdog: Keeper,
}

impl System {
    /// All of it, now.
    pub fn status(&self) -> SystemStatus {
        let table = process::table(Path::new("/proc")).ok();
        let data = self.data.now();
        let problem = data.problem.as_ref();
        let board = self.board.as_ref();
        let watchdog = self.watchdog.view();
        SystemStatus {
            hostname: lock(&self.hostname).clone(),
            version: self.version.clone(),
            uptime_ms: boottime_milliseconds(),
            board: board.map_or_else(String::new, |board| board.name.clone()),
            board_description: board.map_or_else(String::new, |board| board.description.clone()),
            boot_disk: self.boot_disk.clone(),
            data_kind: data.kind.to_owned(),
            data_detail: data.detail,
            data_problem: problem.map_or_else(String::new, |problem| problem.code.to_string()),
            data_advice: problem.map_or_else(String::new, |problem| problem.advice().to_owned()),
            data_bytes: data.room.bytes,
            data_free: data.room.free,
            setup_problem: self.setup_problem.clone(),
            processes: table.as_ref().map_or(0, |table| count(table.total)),
            zombies: table.as_ref().map_or(0, |table| count(table.zombies)),
            orphans_reaped: self.reaper.orphans(),
            init_memory: self.own_group.memory_current().unwrap_or_default(),
            ready_ms: self.ready_ms.load(Ordering::Relaxed),
            phases: self.phases.clone(),
            boot_id: self.records.boot_id(),
            watchdog: watchdog.identity,
            watchdog_timeout_ms: u64::try_from(watchdog.timeout.as_millis()).unwrap_or(u64::MAX),
            watchdog_problem: watchdog.problem,
            holdings: self.holdings(),
        }
    }

    /// What PID 1 holds; 0 for what cannot be read.
    fn holdings(&self) -> Holdings {
        let proc_root = Path::new("/proc");
        let descriptors = process::own_descriptors(proc_root).unwrap_or_default();
        let groups = self.cgroups.descendants().unwrap_or_default();
        Holdings {
            resident: process::own_resident_bytes(proc_root).unwrap_or_default(),
            descriptors: count(descriptors),
            mounts: count(process::own_mounts(proc_root).unwrap_or_default()),
            groups: u32::try_from(groups).unwrap_or(u32::MAX),
        }
    }

    /// The kernel's messages.
    pub fn kernel_log(&self) -> &Log {
        &self.kernel
    }

    /// Whether there is nothing that the owner should look at.
    pub fn is_well(&self) -> bool {
        self.setup_problem.is_empty() && self.data.now().problem.is_none()
    }

    /// What a factory reset would make empty.
    ///
    /// # Errors
    /// Why there is nothing, as a sentence.
    pub fn reset_target(&self) -> Result<Target, String> {
        self.data.reset_target.clone()
    }

    /// Sets the host name: one label of RFC 1123. What the owner chose stays, unless an operator
    /// says otherwise: a network's idea of a name counts less.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub fn set_hostname(&self, name: &str, by_operator: bool) -> Result<(), String> {
        name.parse::<HostName>()?;
        if self.named_by_owner && !by_operator {
            return Err("the owner's settings name this box, and that stays".to_owned());
        }
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

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
