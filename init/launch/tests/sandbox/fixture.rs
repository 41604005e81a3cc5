//! Starts the launcher the way PID 1 does, and collects what comes back.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kos_manifest::launch::{
    Access, FIRST_PASSED_FD, LAUNCHER_CALLS, LaunchReport, LaunchSpec, ProcessLimits, REPORT_FD,
    SPEC_FD, View,
};
use kos_manifest::seccomp::SyscallSets;
use kos_sys::filter::{Calls, Filter, Internet};
use kos_sys::reap::Exit;
use kos_sys::sockets::{Received, memfd_sealed, pipe_cloexec_nonblocking, receive, seqpacket_pair};
use kos_sys::spawn::{Child, Namespaces, Spawn, spawn};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Long enough for an emulated machine; only a hang reaches it.
const LIMIT: Duration = Duration::from_secs(120);

/// Nobody's user id.
pub const USER: u32 = 60123;

/// The tests' program, built beside them by `cargo test`.
pub fn probe() -> PathBuf {
    let launcher = Path::new(env!("CARGO_BIN_EXE_kos-launch"));
    let probe = launcher.parent().unwrap().join("examples/probe");
    assert!(
        probe.exists(),
        "{} is not built: run the whole `cargo test`",
        probe.display()
    );
    probe.canonicalize().unwrap()
}

/// Whether this machine lets us build sandboxes. Says so past the harness's capture if not.
pub fn privileged(test: &str) -> bool {
    let allowed = nix::unistd::geteuid().is_root() && cgroup().is_some();
    if !allowed {
        let text = format!("SKIPPED {test}: wants root and a cgroup2 hierarchy\n");
        std::io::stderr().write_all(text.as_bytes()).unwrap();
    }
    allowed
}

/// The machine's cgroup2 hierarchy.
fn cgroup() -> Option<OwnedFd> {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let mount = mounts
        .lines()
        .find(|line| line.split(' ').nth(2) == Some("cgroup2"))?;
    kos_sys::tree::open_directory(Path::new(mount.split(' ').nth(1)?)).ok()
}

/// The calls of named sets of the image.
pub fn calls(sets: &[&str]) -> Vec<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../image/seccomp");
    let files = std::fs::read_dir(directory).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        (
            path.display().to_string(),
            std::fs::read_to_string(&path).unwrap(),
        )
    });
    let all = SyscallSets::parse(files).unwrap();
    sets.iter()
        .flat_map(|set| all.get(set).unwrap().iter().cloned())
        .collect()
}

/// A spec, and the calls that its filter is made of when it starts.
#[derive(Clone)]
pub struct Sandbox {
    pub spec: LaunchSpec,
    pub calls: Vec<String>,
    pub internet: Internet,
}

impl Deref for Sandbox {
    type Target = LaunchSpec;

    fn deref(&self) -> &LaunchSpec {
        &self.spec
    }
}

impl DerefMut for Sandbox {
    fn deref_mut(&mut self) -> &mut LaunchSpec {
        &mut self.spec
    }
}

impl Sandbox {
    /// What travels to the launcher.
    fn whole(&self) -> LaunchSpec {
        let filter = |names: Vec<String>, internet, writable_code| {
            let calls = Calls {
                names,
                internet,
                writable_code,
            };
            Filter::compile(&calls).unwrap().to_words()
        };
        let own = LAUNCHER_CALLS.map(str::to_owned).to_vec();
        LaunchSpec {
            filter: filter(self.calls.clone(), self.internet, self.spec.writable_code),
            own_filter: filter(own, Internet::Streams, false),
            ..self.spec.clone()
        }
    }
}

/// A sandbox for the probe. It is linked dynamically, so it sees the libraries as well.
pub fn spec(arguments: &[&str]) -> Sandbox {
    let library = |path: &str| View {
        source: Path::new(path)
            .canonicalize()
            .unwrap_or_else(|_| path.into()),
        target: path.into(),
        access: Access::Execute,
        optional: true,
    };
    let spec = LaunchSpec {
        name: "probe".to_owned(),
        program: probe(),
        args: arguments
            .iter()
            .map(|argument| (*argument).to_owned())
            .collect(),
        environment: BTreeMap::new(),
        uid: USER,
        gid: USER,
        view: vec![library("/lib"), library("/lib64")],
        tmp_bytes: 1 << 20,
        devices: ["null", "zero", "urandom"].map(str::to_owned).to_vec(),
        capabilities: Vec::new(),
        filter: Vec::new(),
        own_filter: Vec::new(),
        listen: None,
        connect: None,
        loopback: false,
        user_namespace: false,
        writable_code: false,
        limits: ProcessLimits {
            open_files: 64,
            file_size: None,
            locked_memory: 65536,
            stack: 8 << 20,
        },
        sockets: Vec::new(),
        credentials: Vec::new(),
    };
    Sandbox {
        spec,
        calls: calls(&["default"]),
        internet: Internet::Streams,
    }
}

/// A launch under way.
pub struct Launch {
    pub child: Child,
    pub reports: OwnedFd,
    pub output: File,
    pub started: Instant,
}

/// What came of a launch.
pub struct Outcome {
    pub reports: Vec<(LaunchReport, i32)>,
    pub output: String,
    pub exit: Exit,
}

impl Outcome {
    /// The probe's output, once it is sure that it ran and ended with code 0.
    pub fn success(self) -> String {
        let exited = LaunchReport::Exited {
            code: Some(0),
            signal: None,
        };
        let last = self.reports.last().map(|(report, _)| report.clone());
        assert_eq!(last, Some(exited), "{:?}\n{}", self.reports, self.output);
        assert_eq!(self.exit, Exit::Code(0));
        self.output
    }

    /// Step and text of the failure report.
    pub fn failure(&self) -> String {
        let failed = self.reports.iter().find_map(|(report, _)| match report {
            LaunchReport::Failed { step, error } => Some(format!("{step:?}: {error}")),
            _ => None,
        });
        failed.unwrap_or_else(|| panic!("no failure in {:?}\n{}", self.reports, self.output))
    }
}

/// Starts a launch as PID 1 does.
pub fn start(spec: &Sandbox) -> Launch {
    start_with(spec, &[])
}

/// Starts a launch with descriptors to be passed on.
pub fn start_with(spec: &Sandbox, passed: &[BorrowedFd<'_>]) -> Launch {
    let text = serde_json::to_vec(&spec.whole()).unwrap();
    let spec_file = memfd_sealed("spec", &text).unwrap();
    let (reports, theirs) = seqpacket_pair().unwrap();
    let (output, writer) = pipe_cloexec_nonblocking().unwrap();
    let null = File::open("/dev/null").unwrap();
    let program = CString::new(env!("CARGO_BIN_EXE_kos-launch")).unwrap();
    let mut descriptors = vec![
        (null.as_fd(), 0),
        (writer.as_fd(), 1),
        (writer.as_fd(), 2),
        (spec_file.as_fd(), SPEC_FD),
        (theirs.as_fd(), REPORT_FD),
    ];
    descriptors.extend(passed.iter().copied().zip(FIRST_PASSED_FD..));
    let started = Instant::now();
    let child = spawn(&Spawn {
        program: &program,
        arguments: &[],
        environment: &[],
        cgroup: cgroup().unwrap().as_fd(),
        namespaces: Namespaces {
            pid: true,
            mount: true,
            ipc: true,
            uts: true,
            net: true,
        },
        descriptors: &descriptors,
    })
    .unwrap();
    Launch {
        child,
        reports,
        output: output.into(),
        started,
    }
}

impl Launch {
    /// Waits for the next report; `None` when nobody is left to send one.
    pub fn report(&self) -> Option<(LaunchReport, i32)> {
        loop {
            match receive(self.reports.as_fd()).unwrap() {
                Received::Packet(packet) => {
                    return Some((serde_json::from_slice(&packet.bytes).unwrap(), packet.pid));
                }
                Received::Closed => return None,
                Received::Nothing => self.wait_for(self.reports.as_fd()),
            }
        }
    }

    /// Waits until the output holds this text.
    pub fn output_holds(&mut self, expected: &str) {
        let mut text = String::new();
        while !text.contains(expected) {
            self.wait_for(self.output.as_fd());
            let mut bytes = [0u8; 256];
            let length = self.output.read(&mut bytes).unwrap();
            assert!(length > 0, "the output ended with {text}");
            text.push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
    }

    /// Waits for the end and collects the launcher itself.
    pub fn finish(mut self) -> Outcome {
        let mut reports = Vec::new();
        while let Some(report) = self.report() {
            reports.push(report);
        }
        let mut bytes = Vec::new();
        loop {
            self.wait_for(self.output.as_fd());
            let mut part = [0u8; 4096];
            match self.output.read(&mut part).unwrap() {
                0 => break,
                length => bytes.extend_from_slice(&part[..length]),
            }
        }
        self.wait_for(self.child.pidfd.as_fd());
        let pid = nix::unistd::Pid::from_raw(self.child.pid);
        let exit = match nix::sys::wait::waitpid(pid, None).unwrap() {
            nix::sys::wait::WaitStatus::Exited(_, code) => Exit::Code(code),
            nix::sys::wait::WaitStatus::Signaled(_, signal, _) => Exit::Signal(signal as i32),
            other => panic!("{other:?}"),
        };
        Outcome {
            reports,
            output: String::from_utf8_lossy(&bytes).into_owned(),
            exit,
        }
    }

    fn wait_for(&self, descriptor: impl AsFd) {
        let left = LIMIT.saturating_sub(self.started.elapsed());
        let limit = Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: 0,
        };
        let mut ready = [PollFd::new(&descriptor, PollFlags::IN)];
        let count = poll(&mut ready, Some(&limit)).unwrap();
        if count == 0 {
            let _ = self.child.signal(9);
            panic!("nothing happened within {LIMIT:?}");
        }
    }
}

/// Launches and waits for the end.
pub fn run(spec: &Sandbox) -> Outcome {
    start(spec).finish()
}
