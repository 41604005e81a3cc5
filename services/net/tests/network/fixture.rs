//! Two network namespaces joined by a cable: a server's with dnsmasq, and the service's, where
//! `kos-net` runs as it does in the image: own uid, CAP_NET_ADMIN and CAP_NET_RAW, nothing else.
//!
//! CAP_SYS_TIME is withheld on purpose: namespaces do not have a wall clock of their own, and a
//! test must not set the machine's.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::os::fd::AsFd;

/// For anything that is waited for: only a failure takes so long, on a busy machine too.
pub const LIMIT: Duration = Duration::from_secs(90);
/// The server's address, and the first three octets of the network.
pub const SERVER: &str = "10.77.0.1";
/// The service's MAC address.
pub const MAC: &str = "02:00:00:00:77:02";
/// The service's user in the image's manifest.
const UID: &str = "1001";

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// Whether these tests are to run, told aloud when not.
pub fn is_wanted() -> bool {
    let is_wanted = std::env::var_os("KOS_NET_TESTS").is_some_and(|value| value == "1");
    if !is_wanted {
        eprintln!("SKIPPED: KOS_NET_TESTS=1 runs it, as root, with dnsmasq-base and iproute2");
    }
    is_wanted
}

/// Runs a command to its end; a failure fails the test.
pub fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
}

/// The two namespaces; they go when it does, and everything in them.
pub struct Network {
    pub server: String,
    pub client: String,
}

impl Network {
    pub fn new() -> Self {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = |side: &str| format!("kos-net-{}-{number}-{side}", std::process::id());
        let network = Network {
            server: name("server"),
            client: name("client"),
        };
        let (server, client) = (network.server.as_str(), network.client.as_str());
        run("ip", &["netns", "add", server]);
        run("ip", &["netns", "add", client]);
        run("ip", &["-n", server, "link", "set", "lo", "up"]);
        network.plug("cable0", "eth0", MAC);
        run(
            "ip",
            &[
                "-n",
                server,
                "address",
                "add",
                "10.77.0.1/24",
                "dev",
                "cable0",
            ],
        );
        run(
            "ip",
            &[
                "-n",
                server,
                "address",
                "add",
                "fd77::1/64",
                "dev",
                "cable0",
                "nodad",
            ],
        );
        // As PID 1 does in the image: a renewal is sent from port 68.
        let port = "echo 68 > /proc/sys/net/ipv4/ip_unprivileged_port_start";
        run("ip", &["netns", "exec", client, "sh", "-c", port]);
        network
    }

    /// Joins the namespaces by one more cable.
    pub fn plug(&self, ours: &str, theirs: &str, mac: &str) {
        let (server, client) = (self.server.as_str(), self.client.as_str());
        let veth = ["-n", server, "link", "add", ours, "type", "veth"];
        let peer = ["peer", "name", theirs, "address", mac, "netns", client];
        run("ip", &[&veth[..], &peer[..]].concat());
        run("ip", &["-n", server, "link", "set", ours, "up"]);
    }

    /// A socket in the server's namespace.
    pub fn server_socket(&self, address: &'static str) -> UdpSocket {
        let path = format!("/run/netns/{}", self.server);
        let inside = move || {
            setns(File::open(path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            UdpSocket::bind(address).unwrap()
        };
        // A thread of its own: the namespace is a thread's, a socket keeps the one it was made in.
        std::thread::spawn(inside).join().unwrap()
    }

    /// Starts a DHCP server and router advertisements.
    pub fn dnsmasq(&self, more: &[&str]) -> Process {
        let mut command = Command::new("ip");
        command.args([
            "netns",
            "exec",
            &self.server,
            "dnsmasq",
            "--keep-in-foreground",
        ]);
        command.args([
            "--conf-file=/dev/null",
            "--log-facility=-",
            "--port=0",
            "--user=root",
        ]);
        command.args([
            "--pid-file=",
            "--leasefile-ro",
            "--no-ping",
            "--bind-dynamic",
        ]);
        command.args([
            "--dhcp-authoritative",
            "--enable-ra",
            "--dhcp-range=fd77::,ra-only",
        ]);
        command.arg("--dhcp-range=10.77.0.100,10.77.0.120,255.255.255.0,2m");
        command.args(more);
        Process::start(command)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in [&self.server, &self.client] {
            let _ = Command::new("ip").args(["netns", "delete", name]).status();
        }
    }
}

/// A process whose output is read; it is killed with its owner.
pub struct Process {
    child: Child,
    lines: Receiver<String>,
}

impl Process {
    fn start(mut command: Command) -> Self {
        let piped = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        let (sender, lines) = channel();
        let follow = |stream: Box<dyn std::io::Read + Send>| {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    eprintln!("{line}");
                    let _ = sender.send(line);
                }
            });
        };
        follow(Box::new(child.stdout.take().unwrap()));
        follow(Box::new(child.stderr.take().unwrap()));
        Process { child, lines }
    }

    /// Waits for a line that contains a text.
    pub fn wait_for_line(&self, text: &str) {
        let deadline = Instant::now() + LIMIT;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) if line.contains(text) => return,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => panic!("no line with '{text}' in time"),
                Err(RecvTimeoutError::Disconnected) => panic!("ended without a line '{text}'"),
            }
        }
    }

    /// Asks it to end; true when it ended well.
    pub fn terminate(mut self) -> bool {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        self.child.wait().unwrap().success()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The service in its namespace.
pub struct Service {
    pub process: Process,
    pub directory: tempfile::TempDir,
    notify: UnixDatagram,
    changes: Inotify,
}

impl Service {
    pub fn start(network: &Network, arguments: &[&str]) -> Self {
        Self::with_credentials(network, arguments, &[])
    }

    /// As PID 1 starts it when `kos-box.toml` says something.
    pub fn with_credentials(
        network: &Network,
        arguments: &[&str],
        credentials: &[(&str, &str)],
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // The service's user writes here.
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).unwrap();
        let notify_path = directory.path().join("notify");
        let notify = UnixDatagram::bind(&notify_path).unwrap();
        std::fs::set_permissions(&notify_path, PermissionsExt::from_mode(0o666)).unwrap();
        notify.set_read_timeout(Some(LIMIT)).unwrap();
        let changes = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
        changes
            .add_watch(directory.path(), AddWatchFlags::IN_MOVED_TO)
            .unwrap();
        // The binary's own directory may be closed to that user.
        let program = directory.path().join("kos-net");
        std::fs::copy(env!("CARGO_BIN_EXE_kos-net"), &program).unwrap();

        let secrets = directory.path().join("credentials");
        std::fs::create_dir(&secrets).unwrap();
        for (name, text) in credentials {
            std::fs::write(secrets.join(name), text).unwrap();
        }

        let mut command = Command::new("ip");
        command.args([
            "netns",
            "exec",
            &network.client,
            "setpriv",
            "--no-new-privs",
        ]);
        command.args(["--reuid", UID, "--regid", UID, "--clear-groups"]);
        for set in ["--inh-caps", "--ambient-caps", "--bounding-set"] {
            command.args([set, "-all,+net_admin,+net_raw"]);
        }
        command
            .arg(&program)
            .arg("--any-link")
            .arg("--run-dir")
            .arg(directory.path());
        command
            .arg("--state-dir")
            .arg(directory.path().join("state"))
            .args(arguments);
        command
            .env("NOTIFY_SOCKET", &notify_path)
            .env("CREDENTIALS_DIRECTORY", &secrets)
            .env("KOS_LOG", "debug");
        Service {
            process: Process::start(command),
            directory,
            notify,
            changes,
        }
    }

    /// Waits for a message of `sd_notify` that contains a text.
    pub fn wait_for_notice(&self, text: &str) {
        let mut buffer = [0; 4096];
        loop {
            let length = self.notify.recv(&mut buffer).expect("no notice in time");
            if String::from_utf8_lossy(&buffer[..length]).contains(text) {
                return;
            }
        }
    }

    /// Waits until `state.json` is as it should be, and gives it.
    pub fn wait_for_state(&self, what: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + LIMIT;
        loop {
            let state = self.state();
            if let Some(state) = state.filter(&is_wanted) {
                return state;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what}: not in time: {:#?}", self.state());
            let limit = PollTimeout::try_from(left).unwrap();
            poll(
                &mut [PollFd::new(self.changes.as_fd(), PollFlags::POLLIN)],
                limit,
            )
            .unwrap();
            let _ = self.changes.read_events();
        }
    }

    fn state(&self) -> Option<Value> {
        let text = std::fs::read_to_string(self.path("state.json")).ok()?;
        Some(serde_json::from_str(&text).expect("state.json is whole at any time"))
    }

    pub fn path(&self, name: &str) -> impl AsRef<Path> + use<> {
        self.directory.path().join(name)
    }
}
