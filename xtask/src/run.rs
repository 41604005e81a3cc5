//! `cargo xtask run`: everything from the host's packages to a link that opens the console.
//!
//! The guest is started by the same code as in the tests. Ctrl-C presses its power button, and
//! its QEMU is in a process group that the terminal's Ctrl-C does not reach.

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use kos_qemu::{Accelerator, Arch, Guest, Machine};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::board::{Board, BoardArgs, Firmware};
use crate::datadisk::{self, Disk};
use crate::hostpackages;
use crate::image::{self, Contents, Image};
use crate::kernel::KernelArgs;
use crate::model::Model;
use crate::stage::{Stages, duration};
use crate::workspace::Workspace;

/// The guest's ports (see the API's specification) and the host's that are tried first.
const CONSOLE: u16 = 80;
const CONSOLE_HOST: u16 = 8170;
const OLLAMA: u16 = 11434;
/// What PID 1 prints on the serial line.
const PAIRING_MARK: &str = "kos: pairing code ";
const READY_MARKS: &[&str] = &["kos: ready", "kos: service api ready"];
/// The serial number that the guest finds its data disk by.
const DATA_SERIAL: &str = "kos-data";
/// Services have 10 s each to stop, and an emulated guest is many times slower than a real one.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Builds everything, boots it in QEMU and prints one link that opens the console, paired.
///
/// Installs missing host packages (Debian), builds the kernel, the userland and the image as far
/// as something changed, makes a data disk and starts the guest with KVM, or with QEMU's own
/// emulation where there is no KVM. Ctrl-C shuts the guest down; a second Ctrl-C kills it.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Which board, of those that QEMU starts without firmware.
    #[command(flatten)]
    pub board: BoardArgs,
    /// Memory of the guest, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    pub memory: u32,
    /// Processors of the guest.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub cpus: u32,
    /// Puts this GGUF model on the data disk.
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Keeps the guest's data in this disk image, which is made where there is none
    /// [default: a scratch disk that goes with the guest].
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// Size of a data disk that is made; the file is sparse.
    #[arg(long, value_name = "SIZE", default_value = "8G", value_parser = datadisk::parse_size)]
    pub data_size: u64,
    /// Shows only the stages and the link, not the guest's serial line.
    #[arg(long)]
    pub headless: bool,
    /// Adds kernel arguments.
    #[arg(
        long,
        value_name = "ARGUMENTS",
        default_value = "",
        allow_hyphen_values = true
    )]
    pub append: String,
    /// Port of 127.0.0.1 for the console [default: 8170, or any that is free].
    #[arg(long, value_name = "N")]
    pub port: Option<u16>,
    /// How the kernel is built.
    #[command(flatten)]
    pub kernel: KernelArgs,
}

/// The `run` command.
pub fn run(workspace: &Workspace, stages: &mut Stages, board: &Board, args: RunArgs) -> Result<()> {
    ensure!(
        board.firmware == Firmware::None,
        "board {} starts from a disk; run takes those that QEMU starts by itself, and \
         `cargo xtask image --board {}` makes the disk",
        board.name,
        board.name
    );
    // What the user got wrong is said before minutes of building.
    let model = args.model.as_deref().map(Model::check).transpose()?;
    if let Some(port) = args.port {
        ensure!(is_free(port), "port {port} of 127.0.0.1 is taken");
    }
    hostpackages::ensure(
        stages,
        &[hostpackages::machine(board.arch), hostpackages::FILE_SYSTEM],
    )?;
    // A disk of the user's is opened before minutes of building: another run may hold it. A scratch
    // one is made after them, so that nothing is left behind when they are interrupted.
    let named = args
        .data
        .as_deref()
        .map(|path| prepare_disk(stages, path, args.data_size, model.as_ref()))
        .transpose()?;
    let image = image::build(workspace, stages, board, &args.kernel, Contents::Normal)?;
    let scratch = tempfile::Builder::new()
        .prefix("run-")
        .tempdir_in(workspace.out()?)?;
    let disk = match named {
        Some(disk) => disk,
        None => {
            let path = scratch.path().join("data.img");
            prepare_disk(stages, &path, args.data_size, model.as_ref())?
        }
    };

    let (sender, events) = mpsc::channel();
    forward_signals(sender.clone())?;
    let log = workspace.logs()?.join("run-serial.log");
    let machine = describe(&args, board, &image, &disk, &log);
    let forwarder = Box::new(move |bytes: &[u8]| {
        // Nobody listens any more when the run is over.
        let _ = sender.send(Event::Serial(bytes.to_vec()));
    });
    eprintln!(
        "boot: {} MiB, {} processors, {}, serial log {}",
        args.memory,
        args.cpus,
        Accelerator::detect(guest_arch(board)).name(),
        workspace.shown(&log)
    );
    let guest = machine.start_with_sink(forwarder)?;
    Watch {
        guest: &guest,
        headless: args.headless,
        line: Vec::new(),
        code: None,
        linked: false,
    }
    .until_the_end(&events)?;
    drop(guest);
    // Only now may the scratch disk go.
    drop(scratch);
    Ok(())
}

fn prepare_disk(
    stages: &mut Stages,
    path: &Path,
    bytes: u64,
    model: Option<&Model>,
) -> Result<Disk> {
    stages.run("data disk", |stage| {
        stage.note(path.display().to_string());
        let existed = path.exists();
        let disk = Disk::open_or_create(path, bytes)?;
        let mut summary = if existed { "kept" } else { "made" }.to_owned();
        if let Some(model) = model {
            stage.note(format!("copying the model {}", model.name));
            summary += match disk.put(model)? {
                true => ", the model is on it already",
                false => ", the model is on it",
            };
        }
        stage.summary(summary);
        Ok(disk)
    })
}

fn describe(args: &RunArgs, board: &Board, image: &Image, disk: &Disk, log: &Path) -> Machine {
    let machine = Machine::new(guest_arch(board))
        .kernel(&image.kernel)
        .initrd(&image.initramfs)
        .append(&board.kernel_arguments)
        .append(&format!("kos.data=serial:{DATA_SERIAL}"))
        .append(&args.append)
        .memory_mib(args.memory)
        .cpus(args.cpus)
        .disk(kos_qemu::Disk::new(disk.path()).serial(DATA_SERIAL))
        .serial_log(log);
    let machine = match args.port {
        Some(port) => machine.forward_from(port, CONSOLE),
        None => forward(machine, CONSOLE_HOST, CONSOLE),
    };
    forward(machine, OLLAMA, OLLAMA)
}

/// The board's architecture as the emulator's library has it.
pub fn guest_arch(board: &Board) -> Arch {
    Arch::from_name(board.arch.name()).expect("both are named as Rust names them")
}

/// The wanted port where it is free, otherwise one that QEMU finds.
fn forward(machine: Machine, wanted: u16, guest: u16) -> Machine {
    if is_free(wanted) {
        machine.forward_from(wanted, guest)
    } else {
        machine.forward(guest)
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

enum Event {
    Serial(Vec<u8>),
    Interrupt,
}

fn forward_signals(sender: Sender<Event>) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("handle signals")?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if sender.send(Event::Interrupt).is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// Follows a guest from its start to its end.
struct Watch<'a> {
    guest: &'a Guest,
    headless: bool,
    /// The serial line's unfinished line.
    line: Vec<u8>,
    code: Option<String>,
    linked: bool,
}

impl Watch<'_> {
    fn until_the_end(mut self, events: &Receiver<Event>) -> Result<()> {
        /// How soon the end of a QEMU that says nothing is seen.
        const LOOK: Duration = Duration::from_millis(200);
        let mut stopping: Option<Stopping> = None;
        loop {
            match events.recv_timeout(LOOK) {
                Ok(Event::Serial(bytes)) => self.serial(&bytes)?,
                Ok(Event::Interrupt) if stopping.is_some() => {
                    self.guest.kill();
                    bail!("killed by a second Ctrl-C; the data disk was not unmounted");
                }
                Ok(Event::Interrupt) => {
                    eprintln!("\nshutting down (Ctrl-C again kills the guest)");
                    self.guest.power_button()?;
                    stopping = Some(Stopping::now());
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    if !self.guest.is_running() {
                        return self.ended(events, stopping);
                    }
                }
            }
            if let Some(stopping) = &mut stopping {
                stopping.count_down();
                if stopping.is_over() {
                    self.guest.kill();
                    bail!(
                        "the guest did not end within {} s of its power button and was killed",
                        STOP_LIMIT.as_secs()
                    );
                }
            }
        }
    }

    fn ended(&mut self, events: &Receiver<Event>, stopping: Option<Stopping>) -> Result<()> {
        // What the guest said last may still be on its way here.
        while let Ok(Event::Serial(bytes)) = events.try_recv() {
            self.serial(&bytes)?;
        }
        match stopping {
            Some(stopping) => {
                eprintln!(
                    "the guest ended after {}",
                    duration(stopping.since.elapsed())
                );
            }
            None => eprintln!(
                "the guest ended by itself, {} after its start",
                duration(self.guest.started().elapsed())
            ),
        }
        Ok(())
    }

    fn serial(&mut self, bytes: &[u8]) -> Result<()> {
        if !self.headless {
            let mut terminal = std::io::stdout().lock();
            terminal
                .write_all(bytes)
                .and_then(|()| terminal.flush())
                .context("show the guest")?;
        }
        for &byte in bytes {
            if byte != b'\n' {
                self.line.push(byte);
                continue;
            }
            let line = std::mem::take(&mut self.line);
            self.whole_line(String::from_utf8_lossy(&line).trim())?;
        }
        Ok(())
    }

    fn whole_line(&mut self, line: &str) -> Result<()> {
        if let Some(code) = line.strip_prefix(PAIRING_MARK) {
            self.code = Some(code.trim().to_owned());
        }
        let ready = READY_MARKS.iter().any(|mark| line.starts_with(mark));
        if self.linked || !ready {
            return Ok(());
        }
        let Some(code) = &self.code else {
            return Ok(());
        };
        self.linked = true;
        let (port, ollama) = (
            self.guest.host_port(CONSOLE)?,
            self.guest.host_port(OLLAMA)?,
        );
        eprintln!(
            "\nready after {}; the Ollama API is on http://127.0.0.1:{ollama}; Ctrl-C shuts down",
            duration(self.guest.started().elapsed())
        );
        println!("http://127.0.0.1:{port}/pair?code={code}");
        std::io::stdout().flush().context("show the link")
    }
}

/// A guest whose power button was pressed.
struct Stopping {
    since: Instant,
    shown: u64,
}

impl Stopping {
    fn now() -> Stopping {
        Stopping {
            since: Instant::now(),
            shown: u64::MAX,
        }
    }

    fn is_over(&self) -> bool {
        self.since.elapsed() >= STOP_LIMIT
    }

    /// Says every five seconds how long the guest still has.
    fn count_down(&mut self) {
        let left = STOP_LIMIT
            .saturating_sub(self.since.elapsed())
            .as_secs()
            .div_ceil(5)
            * 5;
        if left < self.shown {
            eprintln!("the guest has {left} s to end");
            self.shown = left;
        }
    }
}
