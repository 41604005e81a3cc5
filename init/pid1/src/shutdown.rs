//! Going down: every way to it is a request here, and they all take the same path.
//!
//! Services stop in the reverse of their order, each within its own deadline and all within one;
//! then what is left is killed through the cgroup, the disks are written and let go, and the
//! machine turns off or restarts. Whatever fails on the way is told and passed over: the end
//! comes.

use std::time::Duration;

use anyhow::{Context, Result};
use kos_sys::mount::{MountFlags, UnmountFlags};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::console::Console;
use crate::disk::Roots;
use crate::news::{News, Newsroom};
use crate::reset::Target;
use crate::supervisor::Supervisor;

/// All services together get this long. Longer than any sensible service's own deadline, shorter
/// than a person's patience before pulling the plug.
const SERVICES_DEADLINE: Duration = Duration::from_secs(45);

/// After the kill nothing can refuse; only the kernel's own cleaning takes time.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// What comes at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The machine turns off.
    PowerOff,
    /// The machine restarts.
    Reboot,
    /// The data partition is asked for anew, and the machine restarts.
    FactoryReset(Target),
}

impl End {
    /// Its name in the control interface.
    pub fn as_str(&self) -> &'static str {
        match self {
            End::PowerOff => "power-off",
            End::Reboot => "reboot",
            End::FactoryReset(_) => "factory-reset",
        }
    }
}

/// Where requests to go down arrive; the first one counts.
pub struct Requests {
    request: watch::Sender<Option<(End, String)>>,
    news: Newsroom,
}

impl Requests {
    /// None yet; the first will be told in `news`.
    pub fn new(news: Newsroom) -> Self {
        Requests {
            request: watch::Sender::new(None),
            news,
        }
    }

    /// Asks for the end, and says why; tells whether it was the first to ask, and so is heard.
    pub fn request(&self, end: End, reason: String) -> bool {
        self.request.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                self.news.tell(|| News::GoingDown {
                    end: end.as_str(),
                    reason: reason.clone(),
                });
                *current = Some((end, reason));
            }
            first
        })
    }

    /// Waits for the first request.
    pub async fn requested(&self) -> (End, String) {
        let mut receiver = self.request.subscribe();
        loop {
            if let Some(request) = receiver.borrow_and_update().clone() {
                return request;
            }
            if receiver.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

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
    let services = supervisor.shared().cgroups.group("services");
    if let Err(error) = services.kill() {
        console.say(3, &format!("cannot kill what is left: {}", error.full()));
    }
    tokio::select! {
        () = supervisor.all_gone() => {}
        () = tokio::time::sleep(KILL_DEADLINE) => console.say(3, "some processes do not die"),
    }
}

/// Writes the disks and lets go of them. Nothing of ours runs any more.
pub fn release_disks(console: &Console) {
    kos_sys::power::sync();
    match unmount_data() {
        Ok(()) => console.say(6, "data written and let go"),
        Err(error) => console.say(3, &format!("data could not be let go: {error:#}")),
    }
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
    if let End::FactoryReset(target) = end {
        // The box restarts in either case: its services have stopped.
        match target.ask(&Roots::default()) {
            Ok(done) => console.say(6, &format!("factory reset: {done}")),
            Err(error) => console.say(3, &format!("factory reset: not done: {error:#}")),
        }
    }
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
