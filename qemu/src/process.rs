//! Starts the emulator's process so that it cannot outlive us.
//!
//! `Drop` covers every ordinary end. For the others (our own SIGKILL, a guest kept in a
//! `static`, which is never dropped) the kernel sends SIGKILL when the *thread* that started
//! the child ends; util-linux's `setpriv` arms that, and all children start on one thread that
//! lives as long as the process.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock};
use std::thread;

use crate::error::{Error, Result};

/// A command to start, and where its result goes.
struct Request {
    command: Command,
    answer: Sender<io::Result<Child>>,
}

/// The command for `program`, to be finished by the caller and given to [`spawn`].
///
/// The child leads a process group of its own, so that Ctrl-C at the terminal reaches us and
/// not QEMU: the guest is then shut down in order.
pub(crate) fn command(program: &str) -> Command {
    let mut command = if find("setpriv").is_some() {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", program]);
        command
    } else {
        Command::new(program)
    };
    command.process_group(0);
    command
}

/// Starts the command on the thread that never ends.
pub(crate) fn spawn(program: &str, command: Command) -> Result<Child> {
    if find(program).is_none() {
        return Err(Error::EmulatorMissing {
            program: program.to_string(),
        });
    }
    let failed = |source| Error::Spawn {
        program: program.to_string(),
        source,
    };
    let gone = || failed(io::Error::other("the starting thread is gone"));
    let (answer, result) = channel();
    let starter = starter().map_err(|message| failed(io::Error::other(message)))?;
    starter
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
        .send(Request { command, answer })
        .map_err(|_| gone())?;
    result.recv().map_err(|_| gone())?.map_err(failed)
}

fn starter() -> std::result::Result<&'static Mutex<Sender<Request>>, &'static str> {
    static STARTER: OnceLock<Option<Mutex<Sender<Request>>>> = OnceLock::new();
    STARTER
        .get_or_init(|| {
            let (sender, requests) = channel::<Request>();
            thread::Builder::new()
                .name("qemu-starter".to_string())
                .spawn(move || {
                    for mut request in requests {
                        // The asker waits for this answer; it cannot be gone.
                        let _ = request.answer.send(request.command.spawn());
                    }
                })
                .ok()?;
            Some(Mutex::new(sender))
        })
        .as_ref()
        .ok_or("cannot start a thread")
}

/// The program's path, looked up as the shell would.
fn find(program: &str) -> Option<std::path::PathBuf> {
    if program.contains('/') {
        return Some(program.into()).filter(|path: &std::path::PathBuf| path.is_file());
    }
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}
