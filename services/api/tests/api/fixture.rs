//! `kos-api` between fakes: `let kos = Fixture::start().await;`, ask, assert.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::client::Ask;
use crate::fakes::infer::FakeInfer;
use crate::fakes::init::FakeInit;

/// Time for a whole test; enough for an emulated machine.
const LIMIT: Duration = Duration::from_secs(120);

/// Everything of one test, in a directory of its own.
pub struct Fixture {
    pub init: FakeInit,
    pub infer: FakeInfer,
    pub api: Api,
    directory: TempDir,
}

/// The program under test.
pub struct Api {
    child: Child,
    pub console: SocketAddr,
    pub ollama: SocketAddr,
}

impl Fixture {
    pub async fn start() -> Self {
        Self::with_state(|_| {}).await
    }

    /// Prepares the state directory before the service sees it.
    pub async fn with_state(prepare: impl FnOnce(&Path)) -> Self {
        Self::prepared(|directory| prepare(&directory.join("state"))).await
    }

    /// With the public half of an owner's key.
    pub async fn with_owner_key(line: &str) -> Self {
        Self::prepared(|directory| std::fs::write(directory.join("owner-key"), line).unwrap()).await
    }

    /// Prepares everything: `state` is the state directory, the credentials are beside it.
    async fn prepared(prepare: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        std::fs::create_dir(path.join("state")).unwrap();
        std::fs::create_dir(path.join("log")).unwrap();
        std::fs::write(path.join("pairing-code"), "AB12-CD34\n").unwrap();
        prepare(path);
        let init = FakeInit::start(&path.join("init.sock"));
        let infer = FakeInfer::start(&path.join("infer.sock"), Duration::ZERO, true);
        let api = Api::start(path).await;
        Fixture {
            init,
            infer,
            api,
            directory,
        }
    }

    pub fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    pub fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// Stops the service as PID 1 does, and starts it again.
    pub async fn restart(&mut self) {
        assert!(self.api.stop().await.success());
        self.api = Api::start(self.directory.path()).await;
    }

    /// Kills the service as a cut of power does, changes the world, and starts it again.
    pub async fn crash(&mut self, change: impl FnOnce(&Path)) {
        self.api.child.kill().unwrap();
        self.api.child.wait().unwrap();
        change(&self.state());
        self.api = Api::start(self.directory.path()).await;
    }

    /// A request to the console's port.
    pub fn ask(&self, method: &str, path: &str) -> Ask {
        Ask::new(self.api.console, method, path)
    }

    /// A request to Ollama's port.
    pub fn ask_ollama(&self, method: &str, path: &str) -> Ask {
        Ask::new(self.api.ollama, method, path)
    }

    /// A session's token, from the pairing code.
    pub async fn pair(&self) -> String {
        let answer = self.ask("GET", "/pair?code=AB12-CD34").send().await;
        assert_eq!(answer.status, 200);
        let cookie = answer.header("set-cookie");
        let (_, rest) = cookie.split_once("kos_session=").unwrap();
        rest.split_once(';').unwrap().0.to_owned()
    }
}

impl Api {
    async fn start(directory: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_kos-api"))
            .args(["--listen", "127.0.0.1:0", "--ollama-listen", "127.0.0.1:0"])
            .arg("--control")
            .arg(directory.join("init.sock"))
            .arg("--infer")
            .arg(directory.join("infer.sock"))
            .arg("--network")
            .arg(directory.join("network.json"))
            .arg("--state")
            .arg(directory.join("state"))
            .arg("--log")
            .arg(directory.join("log"))
            .env("CREDENTIALS_DIRECTORY", directory)
            .env_remove("NOTIFY_SOCKET")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let started = tokio::task::spawn_blocking(move || {
            let mut address = |what: &str| {
                let start = format!("<6>{what} on http://");
                lines
                    .by_ref()
                    .map(Result::unwrap)
                    .find_map(|line| line.strip_prefix(&start).map(str::to_owned))
                    .unwrap()
                    .parse()
                    .unwrap()
            };
            let addresses = (address("console"), address("ollama"));
            // Someone must read on, or the service would wait for a full pipe.
            std::thread::spawn(move || lines.for_each(drop));
            addresses
        });
        let (console, ollama) = started.await.unwrap();
        Api {
            child,
            console,
            ollama,
        }
    }

    /// The most memory that the program has had so far, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = line.unwrap().trim().strip_suffix(" kB").unwrap();
        kibibytes.parse::<u64>().unwrap() * 1024
    }

    /// SIGTERM, and what came of it.
    pub async fn stop(&mut self) -> ExitStatus {
        let id = i32::try_from(self.child.id()).unwrap();
        let process = rustix::process::Pid::from_raw(id).unwrap();
        rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        // It has ended already when the test stopped it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a test within its time.
pub fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let done = tokio::time::timeout(LIMIT, test).await;
        done.expect("the test took too long");
    });
}
