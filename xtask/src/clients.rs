//! `cargo xtask clients`: the model APIs, judged by the clients that other people wrote.
//!
//! Each client's published package, at the versions in `services/infer/tests/clients`, goes into
//! the cache and is run against a box in QEMU, or against its two services alone on the host.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use kos_qemu::{Guest, Machine};

use crate::arch::Arch;
use crate::board::{Board, BoardArgs, Firmware};
use crate::datadisk::Disk;
use crate::digest::Digest;
use crate::hostpackages;
use crate::image::{self, Contents};
use crate::kernel::KernelArgs;
use crate::run::guest_arch;
use crate::rust::Rust;
use crate::stage::Stages;
use crate::userland;
use crate::workspace::Workspace;

/// The tests and the lists of versions.
const TESTS: &str = "services/infer/tests/clients";
/// What the clients upload: it must know a template's marks and JSON's letters, nothing else.
const MODEL: &str = "tests/models/tiny-q4_0.gguf";
/// The same for vectors.
const EMBEDDER: &str = "tests/models/tiny-bert.gguf";
/// Python's tests; one that needs a registry beside it only runs on the host.
const SUITES: &[&str] = &["test_ollama", "test_openai", "test_frameworks"];
const REGISTRY: &str = "test_registry";
/// The models' port.
const PORT: u16 = 11434;
/// The code of a box that is only two services.
const HOST_CODE: &str = "AB12-CD34";
/// Only against a hang: an emulated boot takes seconds, on a busy host a minute.
const BOOT_LIMIT: Duration = Duration::from_secs(240);
/// The same for a service on the host.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Room for some small models beside the 64 MiB that the store leaves.
const DISK_BYTES: u64 = 1 << 30;

/// Runs other people's clients (PyPI's ollama, openai, langchain-ollama and litellm; npm's ollama
/// and openai) against a box.
#[derive(Debug, Args)]
pub struct ClientsArgs {
    /// Only the engine and the API service, as programs on this machine; also pulls and pushes.
    #[arg(long)]
    pub host: bool,
    /// Only the tests whose names contain FILTER.
    #[arg(value_name = "FILTER")]
    pub filter: Option<String>,
    /// Which board, of those that QEMU starts without firmware.
    #[command(flatten)]
    pub board: BoardArgs,
    /// How the kernel is built.
    #[command(flatten)]
    pub kernel: KernelArgs,
}

/// The `clients` command.
pub fn run(workspace: &Workspace, stages: &mut Stages, args: &ClientsArgs) -> Result<()> {
    hostpackages::ensure(stages, &[hostpackages::CLIENTS])?;
    let clients = stages.run("clients", |stage| {
        Clients::install(workspace, |command| stage.run(command))
    })?;
    let scratch = tempfile::Builder::new()
        .prefix("clients-")
        .tempdir_in(workspace.out()?)?;
    let place = match args.host {
        true => on_the_host(workspace, stages, scratch.path())?,
        false => in_qemu(workspace, stages, args, scratch.path())?,
    };
    let mut failed = Vec::new();
    let registry = args.host.then_some(&REGISTRY);
    for suite in SUITES.iter().chain(registry) {
        let mut command = clients.python(suite, args.filter.as_deref());
        judge(
            stages,
            suite,
            place.environment(workspace, &mut command),
            &mut failed,
        );
    }
    let mut command = clients.node(args.filter.as_deref());
    judge(
        stages,
        "node",
        place.environment(workspace, &mut command),
        &mut failed,
    );
    drop(place);
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

/// Runs one suite; one that fails does not hide the next.
fn judge(stages: &mut Stages, suite: &str, command: &mut Command, failed: &mut Vec<String>) {
    let outcome = stages.run(suite, |stage| {
        stage.run_lines(command, |line| {
            let telling = ["FAIL:", "ERROR:", "not ok", "AssertionError", "Ran "];
            if telling
                .iter()
                .any(|mark| line.trim_start().starts_with(mark))
            {
                stage.say(&format!("  {line}"));
            }
        })
    });
    if let Err(error) = outcome {
        eprintln!("error: {error:#}");
        failed.push(suite.to_owned());
    }
}

/// The clients, installed.
struct Clients {
    tests: PathBuf,
    python: PathBuf,
    node: PathBuf,
}

impl Clients {
    /// Installs what the lists say, unless it is in the cache.
    fn install(workspace: &Workspace, run: impl Fn(&mut Command) -> Result<()>) -> Result<Self> {
        let tests = workspace.root().join(TESTS);
        let cached = |list: &str| -> Result<(PathBuf, bool)> {
            let text = std::fs::read(tests.join(list)).with_context(|| format!("read {list}"))?;
            let directory = workspace.cache()?.join("clients");
            let directory = directory.join(Digest::of_bytes(&text));
            let known = directory.join("complete").exists();
            std::fs::create_dir_all(&directory).context("make the clients' directory")?;
            Ok((directory, known))
        };
        let complete = |directory: &Path| {
            std::fs::write(directory.join("complete"), "").context("mark the clients as complete")
        };
        let (python, known) = cached("requirements.txt")?;
        if !known {
            let mut pip = Command::new("python3");
            pip.args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
            ]);
            pip.arg("--target").arg(&python);
            run(pip.arg("--requirement").arg(tests.join("requirements.txt")))?;
            complete(&python)?;
        }
        let (node, known) = cached("package.json")?;
        if !known {
            let list = tests.join("package.json");
            std::fs::copy(list, node.join("package.json")).context("copy package.json")?;
            let mut npm = Command::new("npm");
            npm.args([
                "install",
                "--silent",
                "--no-audit",
                "--no-fund",
                "--ignore-scripts",
            ]);
            run(npm.current_dir(&node))?;
            complete(&node)?;
        }
        Ok(Clients {
            tests,
            python,
            node,
        })
    }

    fn python(&self, suite: &str, filter: Option<&str>) -> Command {
        let mut command = Command::new("python3");
        command.args(["-m", "unittest", "-v", suite]);
        if let Some(filter) = filter {
            command.args(["-k", filter]);
        }
        command.current_dir(&self.tests);
        command.env("PYTHONPATH", &self.python);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    fn node(&self, filter: Option<&str>) -> Command {
        let mut command = Command::new("node");
        command.arg("--test");
        if let Some(filter) = filter {
            command.args(["--test-name-pattern", filter]);
        }
        // Packages are looked for beside the file that wants them.
        let file = self.node.join("clients.test.mjs");
        let copied = std::fs::copy(self.tests.join("clients.test.mjs"), &file);
        command.arg(file);
        if copied.is_err() {
            // Node says what is missing.
            command.current_dir(&self.tests);
        }
        command
    }
}

/// Who is asked. It ends with this value.
struct Place {
    url: String,
    code: String,
    _guest: Option<Guest>,
    _services: Vec<Service>,
}

impl Place {
    fn environment<'a>(&self, workspace: &Workspace, command: &'a mut Command) -> &'a mut Command {
        command
            .env("KOS_CLIENTS_URL", &self.url)
            .env("KOS_CLIENTS_TOKEN", &self.code)
            .env("KOS_CLIENTS_MODEL", workspace.root().join(MODEL))
            .env("KOS_CLIENTS_EMBEDDER", workspace.root().join(EMBEDDER))
            // A proxy of this machine's is not for what is on it.
            .env("NO_PROXY", "127.0.0.1")
    }
}

/// A program that ends with this value.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended by itself, which the tests have told.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Service {
    /// Starts a program and waits for a line that has `mark` in it; returns what follows the mark.
    fn start(command: &mut Command, mark: &'static str) -> Result<(Self, String)> {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {name}"))?;
        let output = child.stdout.take().context("no output")?;
        let service = Service(child);
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            // To its end, or the program would wait for a full pipe.
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once(mark) {
                    let _ = sender.send(rest.to_owned());
                }
            }
        });
        let rest = receiver
            .recv_timeout(START_LIMIT)
            .with_context(|| format!("{name} did not say '{mark}'"))?;
        Ok((service, rest))
    }
}

fn on_the_host(workspace: &Workspace, stages: &mut Stages, scratch: &Path) -> Result<Place> {
    hostpackages::ensure(stages, &[hostpackages::USERLAND])?;
    let arch = Arch::host().context("xtask runs on x86_64 and on aarch64 only")?;
    stages.run("services", |stage| {
        let mut cargo = userland::cargo(workspace, &Rust::native(arch), "build");
        stage.run(cargo.args(["--package", "kos-infer", "--package", "kos-api"]))
    })?;
    let directory = |name: &str| -> Result<PathBuf> {
        let path = scratch.join(name);
        std::fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(path)
    };
    let socket = scratch.join("infer.sock");
    let mut infer = Command::new(userland::program(workspace, arch, "kos-infer"));
    infer.arg("--models").arg(directory("models")?);
    infer.arg("--socket").arg(&socket);
    let (infer, _) = Service::start(&mut infer, "serving models")?;
    let credentials = directory("credentials")?;
    std::fs::write(credentials.join("pairing-code"), HOST_CODE).context("write the code")?;
    let mut api = Command::new(userland::program(workspace, arch, "kos-api"));
    api.args(["--listen", "127.0.0.1:0", "--ollama-listen", "127.0.0.1:0"]);
    api.arg("--infer").arg(&socket);
    api.arg("--control").arg(scratch.join("none.sock"));
    api.arg("--network").arg(scratch.join("none.json"));
    api.arg("--state").arg(directory("state")?);
    api.arg("--log").arg(directory("log")?);
    api.env("CREDENTIALS_DIRECTORY", &credentials);
    let (api, address) = Service::start(&mut api, "ollama on ")?;
    Ok(Place {
        url: address.trim().to_owned(),
        code: HOST_CODE.to_owned(),
        _guest: None,
        // The door before what is behind it.
        _services: vec![api, infer],
    })
}

fn in_qemu(
    workspace: &Workspace,
    stages: &mut Stages,
    args: &ClientsArgs,
    scratch: &Path,
) -> Result<Place> {
    let board = Board::read(workspace, &args.board.board)?;
    ensure!(
        board.firmware == Firmware::None,
        "board {} starts from a disk; clients takes those that QEMU starts by itself",
        board.name
    );
    hostpackages::ensure(
        stages,
        &[hostpackages::machine(board.arch), hostpackages::FILE_SYSTEM],
    )?;
    let image = image::build(workspace, stages, &board, &args.kernel, Contents::Normal)?;
    let disk = Disk::open_or_create(&scratch.join("data.img"), DISK_BYTES)?;
    let serial = "kos-data";
    let machine = Machine::new(guest_arch(&board))
        .kernel(&image.kernel)
        .initrd(&image.initramfs)
        .append(&board.kernel_arguments)
        .append(&format!("kos.data=serial:{serial}"))
        .disk(kos_qemu::Disk::new(disk.path()).serial(serial))
        .serial_log(workspace.logs()?.join("clients-serial.log"))
        .forward(PORT);
    stages.run("box", |_| {
        let guest = machine.start()?;
        let mark = "kos: pairing code ";
        let line = guest.wait_line("pairing code", |line| line.starts_with(mark), BOOT_LIMIT)?;
        guest.wait_line("ready", |line| line.starts_with("kos: ready"), BOOT_LIMIT)?;
        Ok(Place {
            url: format!("http://{}", guest.address(PORT)?),
            code: line[mark.len()..].trim().to_owned(),
            _guest: Some(guest),
            _services: Vec::new(),
        })
    })
}
