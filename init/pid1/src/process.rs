//! One running process of a service: started into its cgroup and namespaces, told what to be,
//! and watched until it is gone.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use kos_manifest::launch::{
    FIRST_PASSED_FD, LaunchReport, LaunchSpec, MAX_SPEC_BYTES, REPORT_FD, SPEC_FD,
};
use kos_manifest::service::{Limits, Network, Service};
use kos_sys::cgroup::Cgroup;
use kos_sys::reap::Exit;
use kos_sys::sockets::{Received, receive};
use kos_sys::spawn::{Namespaces, Spawn, Started};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use crate::descriptor;
use crate::group::Counters;
use crate::lifecycle::Ending;
use crate::reaper::Reaper;

/// The program that builds sandboxes.
const LAUNCHER: &CStr = c"/bin/kos-launch";

/// Most packets taken from a service's socket at once, so that a flood is the service's own
/// problem and not the loop's.
const MAX_PACKETS_PER_TURN: usize = 32;

/// What the launcher has told so far.
#[derive(Debug, Default)]
pub struct Told {
    /// The program's own process, once it is being executed.
    pub main_pid: Option<u32>,
    failed: Option<String>,
    exited: Option<(Option<i32>, Option<i32>)>,
    /// Nobody is at the other end any more.
    closed: bool,
}

/// One running process.
pub struct Process {
    started: Started,
    reports: AsyncFd<OwnedFd>,
    exit: oneshot::Receiver<Exit>,
    cgroup: Cgroup,
    before: Counters,
    /// What the launcher has told so far.
    pub told: Told,
}

/// What a process is given that outlives it: where it writes, and where it reads nothing from.
pub struct Standing<'a> {
    /// `/dev/null`, its standard input.
    pub null: BorrowedFd<'a>,
    /// Its standard output and error.
    pub output: BorrowedFd<'a>,
    /// Sockets and secrets, in the order in which the spec names them.
    pub passed: &'a [BorrowedFd<'a>],
}

impl Process {
    /// Starts a process of a service in `cgroup`, and does not wait for it.
    ///
    /// # Errors
    /// When the kernel does not make the process.
    pub fn start(
        service: &Service,
        spec: &LaunchSpec,
        cgroup: &Cgroup,
        standing: &Standing<'_>,
        reaper: &Reaper,
    ) -> Result<Self> {
        let text = serde_json::to_vec(spec).context("cannot write the launch spec")?;
        ensure!(
            text.len() <= MAX_SPEC_BYTES,
            "the launch spec has {} bytes",
            text.len()
        );
        let spec_file = kos_sys::sockets::memfd_sealed("launch-spec", &text)?;
        let (ours, theirs) = kos_sys::sockets::seqpacket_pair()?;
        let directory = cgroup.open_dir()?;
        let arguments: [CString; 1] = [CString::new(service.name.as_str())?];
        let mut descriptors = vec![
            (standing.null, 0),
            (standing.output, 1),
            (standing.output, 2),
            (spec_file.as_fd(), SPEC_FD),
            (theirs.as_fd(), REPORT_FD),
        ];
        descriptors.extend(standing.passed.iter().copied().zip(FIRST_PASSED_FD..));
        let reports = descriptor::register(ours)?;
        let before = Counters::read(cgroup);
        let started = kos_sys::spawn::start(&Spawn {
            program: LAUNCHER,
            arguments: &arguments,
            environment: &[],
            cgroup: directory.as_fd(),
            namespaces: Namespaces {
                pid: true,
                mount: true,
                ipc: true,
                uts: true,
                net: service.sandbox.network != Network::Host,
            },
            descriptors: &descriptors,
        })?;
        let exit = reaper.expect(started.child.pid);
        Ok(Process {
            started,
            reports,
            exit,
            cgroup: cgroup.clone(),
            before,
            told: Told::default(),
        })
    }

    /// Sends a signal to the program, through the sandbox's init.
    pub fn signal(&self, signal: i32) -> Result<()> {
        self.started
            .child
            .signal(signal)
            .context("cannot signal the process")
    }

    /// Kills everything in the cgroup at once.
    pub fn kill(&self) -> Result<()> {
        self.cgroup.kill().context("cannot kill the cgroup")
    }

    /// Sends a signal to the program's own process, past the sandbox's init.
    pub fn signal_program(&self, signal: i32) -> Result<()> {
        let pid = self
            .told
            .main_pid
            .context("the program is not running yet")?;
        let pid = i32::try_from(pid)?;
        // The number may have been given to another process since; the cgroup knows.
        ensure!(
            self.cgroup.processes()?.contains(&pid),
            "the program has ended already"
        );
        let target = Pid::from_raw(pid).context("there is no process 0")?;
        let signal = Signal::from_named_raw(signal)
            .with_context(|| format!("there is no {}", kos_manifest::signal::name(signal)))?;
        kill_process(target, signal).context("cannot signal the program")
    }

    /// Waits for the next thing that happens to the process.
    pub async fn wake(&mut self, limits: &Limits) -> Woken {
        tokio::select! {
            exit = &mut self.exit => {
                Woken::Ended(self.ending(exit.unwrap_or(Exit::Signal(9)), limits))
            }
            // A broken socket says nothing more; the process's end will.
            Ok(guard) = self.reports.readable(), if !self.told.closed => {
                let was_executing = self.told.main_pid.is_some();
                if self.told.receive(self.reports.get_ref()) {
                    let mut guard = guard;
                    guard.clear_ready();
                }
                if !was_executing && self.told.main_pid.is_some() {
                    Woken::Executing
                } else {
                    Woken::Nothing
                }
            }
        }
    }

    /// How it ended, from all that is known: the kernel's exit, the launcher's reports, and the
    /// counters of its cgroup.
    fn ending(&mut self, exit: Exit, limits: &Limits) -> Ending {
        // What the launcher said before it went is still in its socket.
        self.told.receive(self.reports.get_ref());
        let ending = match self.started.exec_error() {
            Some(error) => Ending {
                reason: format!(
                    "could not be launched: {}: {error}",
                    LAUNCHER.to_string_lossy()
                ),
                code: None,
            },
            None => self.told.ending(exit),
        };
        self.before.explain(ending, &self.cgroup, limits)
    }

    /// The limit that it has met, as a remark.
    pub fn limit_met(&self, limits: &Limits) -> Option<String> {
        self.before.limit_met(&self.cgroup, limits)
    }
}

/// What happened to a process.
#[derive(Debug)]
pub enum Woken {
    /// The program is being executed.
    Executing,
    /// It is gone.
    Ended(Ending),
    /// Nothing that matters to its state.
    Nothing,
}

impl Told {
    /// Takes what is in the socket, within a bound; says whether that was all.
    fn receive(&mut self, socket: &OwnedFd) -> bool {
        for _ in 0..MAX_PACKETS_PER_TURN {
            match receive(socket.as_fd()) {
                Ok(Received::Packet(packet)) => self.take(&packet.bytes, packet.pid),
                Ok(Received::Nothing) => return true,
                Ok(Received::Closed) | Err(_) => {
                    self.closed = true;
                    return true;
                }
            }
        }
        false
    }

    /// Takes one packet; one that is not a report is passed over (it can only come from our own
    /// launcher, and its exit code will tell).
    fn take(&mut self, bytes: &[u8], sender: i32) {
        match serde_json::from_slice(bytes) {
            Ok(LaunchReport::Executing) => self.main_pid = u32::try_from(sender).ok(),
            Ok(LaunchReport::Failed { step, error }) => {
                let step = serde_json::to_value(step).unwrap_or_default();
                let step = step.as_str().unwrap_or("launch").to_owned();
                self.failed = Some(format!("could not be launched ({step}): {error}"));
            }
            Ok(LaunchReport::Exited { code, signal }) => self.exited = Some((code, signal)),
            Err(_) => {}
        }
    }

    fn ending(&self, exit: Exit) -> Ending {
        if let Some(reason) = &self.failed {
            return Ending {
                reason: reason.clone(),
                code: None,
            };
        }
        let (code, signal) = match (self.exited, exit) {
            (Some(exited), _) => exited,
            (None, Exit::Code(code)) => (Some(code), None),
            (None, Exit::Signal(signal)) => (None, Some(signal)),
        };
        let reason = match (code, signal) {
            (Some(code), _) => format!("exited with code {code}"),
            (None, Some(signal)) => format!("killed by {}", kos_manifest::signal::name(signal)),
            (None, None) => "ended in a way that nobody reported".to_owned(),
        };
        Ending { reason, code }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(report: &LaunchReport) -> Vec<u8> {
        serde_json::to_vec(report).unwrap()
    }

    #[test]
    fn the_launchers_word_goes_before_its_own_exit() {
        let mut told = Told::default();
        told.take(&report(&LaunchReport::Executing), 42);
        assert_eq!(told.main_pid, Some(42));
        told.take(
            &report(&LaunchReport::Exited {
                code: None,
                signal: Some(9),
            }),
            41,
        );
        assert_eq!(told.ending(Exit::Code(0)).reason, "killed by SIGKILL");
        let step = kos_manifest::launch::Step::Mounts;
        told.take(
            &report(&LaunchReport::Failed {
                step,
                error: "no /x".to_owned(),
            }),
            41,
        );
        let ending = told.ending(Exit::Code(203));
        assert_eq!(ending.reason, "could not be launched (mounts): no /x");
        assert_eq!(ending.code, None);
    }

    #[test]
    fn garbage_is_passed_over() {
        let mut told = Told::default();
        told.take(b"\xff{", 1);
        assert_eq!(told.ending(Exit::Code(3)).reason, "exited with code 3");
    }
}
