//! What the phases of the way down do to the machine.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use kos_manifest::control::PhaseRecord;
use kos_sys::cgroup::{Cgroup, CgroupRoot};
use kos_sys::mount::{MountFlags, UnmountFlags};
use tokio::time::{Instant, sleep_until};

use super::{End, Phase, Requests};
use crate::boot::CGROUPS;
use crate::console::Console;
use crate::disk::Roots;
use crate::record::Records;
use crate::supervisor::Supervisor;

/// All services together get this long. Longer than any sensible service's own deadline, shorter
/// than a person's patience before pulling the plug.
const SERVICES_DEADLINE: Duration = Duration::from_secs(45);

/// After the kill nothing can refuse; only the kernel's own cleaning takes time.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// After a fatal error nobody knows the services' own deadlines; most need none.
const TERMINATE_DEADLINE: Duration = Duration::from_secs(5);

/// More processes than the kernel numbers.
const MAX_PROCESSES: usize = 1 << 16;

/// Stops everything that runs, in order.
pub async fn stop_services(supervisor: &Supervisor, reason: &str) {
    let console = &supervisor.shared().console;
    let deadline = Instant::now() + SERVICES_DEADLINE;
    tokio::select! {
        () = supervisor.stop_all(reason) => return,
        () = sleep_until(deadline) => {}
    }
    console.say(
        4,
        "not all services have stopped in time; killing what is left",
    );
    let seconds = SERVICES_DEADLINE.as_secs();
    for name in supervisor.names() {
        if supervisor.group(&name).populated().unwrap_or(false) {
            let reason = format!("still there {seconds} s after the box began to go down");
            supervisor.shared().shutdown.killed(&name, &reason);
        }
    }
    let services = supervisor.shared().cgroups.group("services");
    if let Err(error) = services.kill() {
        console.say(3, &format!("cannot kill what is left: {}", error.full()));
    }
    tokio::select! {
        () = supervisor.all_gone() => {}
        () = tokio::time::sleep(KILL_DEADLINE) => console.say(3, "some processes do not die"),
    }
}

/// The machine as the way down finds it when the event loop has ended.
pub struct Machine<'a> {
    /// PID 1's voice.
    pub console: &'a Console,
    /// Where the boot's record goes.
    pub records: &'a Records,
    /// Who knows what was killed.
    pub requests: &'a Requests,
    /// What comes at the end.
    pub end: &'a End,
}

impl Machine<'_> {
    /// Does one phase.
    ///
    /// # Errors
    /// What did not work; the next phase is done all the same.
    pub fn act(&self, phase: Phase, so_far: &[PhaseRecord]) -> Result<()> {
        match phase {
            // The event loop has seen to it.
            Phase::Services => {}
            Phase::Terminate => {
                terminate_all();
                wait_until_gone(TERMINATE_DEADLINE);
            }
            Phase::Kill => {
                let services = services();
                if services.populated().unwrap_or(false) {
                    services
                        .kill()
                        .map_err(|error| anyhow!("{}", error.full()))?;
                    ensure!(wait_until_gone(KILL_DEADLINE), "some processes do not die");
                }
            }
            Phase::Sync => kos_sys::power::sync(),
            Phase::Record => {
                let killed = self.requests.all_killed();
                self.records.on_the_way_down(killed, so_far);
                self.records.complete();
                self.records.save();
            }
            Phase::Data => {
                unmount_data()?;
                self.console.say(6, "data written and let go");
            }
            Phase::Reset => {
                if let End::FactoryReset(target) = self.end {
                    let done = target
                        .ask(&Roots::default())
                        .context("factory reset: not done")?;
                    self.console.say(6, &format!("factory reset: {done}"));
                }
            }
            Phase::LastWord => self.records.last_word(),
        }
        Ok(())
    }
}

/// Where all services are; the control group is there whatever has become of PID 1's own state.
fn services() -> Cgroup {
    CgroupRoot::new(CGROUPS).group("services")
}

/// Asks every process to end.
fn terminate_all() {
    let Ok(listing) = std::fs::read_dir("/proc") else {
        return;
    };
    let own = rustix::process::getpid();
    for entry in listing.take(MAX_PROCESSES).flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.parse().ok());
        let pid = pid.and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid.filter(|pid| *pid != own) {
            // It may be gone; the kernel's own do not listen.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }
}

/// Whether all services are gone in time. Nothing else runs in PID 1 any more, so it may sleep.
fn wait_until_gone(limit: Duration) -> bool {
    let deadline = std::time::Instant::now() + limit;
    // A group that cannot be looked at cannot be waited for.
    while services().populated().unwrap_or(false) {
        if std::time::Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

fn unmount_data() -> Result<()> {
    let data = std::path::Path::new(crate::spec::DATA);
    // The models of a read-only disk are mounted in it; mostly nothing is.
    let _ = kos_sys::mount::unmount(&data.join("models"), UnmountFlags::empty());
    if !kos_sys::mount::is_mounted(std::path::Path::new("/proc"), data)? {
        return Ok(());
    }
    if kos_sys::mount::unmount(data, UnmountFlags::empty()).is_ok() {
        return Ok(());
    }
    // Something holds it. Read-only is as clean on the disk, and a tmpfs has nothing to lose.
    kos_sys::mount::remount(data, MountFlags::RDONLY, "")
        .context("it is in use, and cannot be made read-only either")
}

/// The end. Does not return unless the kernel refuses.
pub fn end(end: &End, console: &Console) {
    let (word, result) = match end {
        End::PowerOff => {
            console.say(6, "power off");
            ("power off", kos_sys::power::power_off())
        }
        End::Reboot | End::FactoryReset(_) => {
            console.say(6, "reboot");
            ("reboot", kos_sys::power::reboot())
        }
    };
    if let Err(error) = result {
        console.say(3, &format!("cannot {word}: {}", error.full()));
    }
}
