//! What can go wrong with a guest. Errors of a guest that ran show the end of its serial log,
//! because that is where the cause almost always is.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// The step that failed, with what it worked on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The emulator is not installed.
    #[error(
        "`{program}` is not installed or not on PATH (Debian: qemu-system-x86 or \
         qemu-system-arm); \
         `cargo xtask` installs it"
    )]
    EmulatorMissing {
        /// The program that was looked for.
        program: String,
    },
    /// A file that the guest needs is not there or cannot be read.
    #[error("cannot open the guest's {role} {path}")]
    Input {
        /// What the file is to the guest: kernel, initrd, data disk.
        role: &'static str,
        /// Where it was looked for.
        path: PathBuf,
        /// Why it could not be opened.
        source: io::Error,
    },
    /// QEMU could not be executed.
    #[error("cannot start {program}")]
    Spawn {
        /// The program that was to be executed.
        program: String,
        /// Why not.
        source: io::Error,
    },
    /// A log of the serial line or of a disk's writes could not be created.
    #[error("cannot create the log {path}")]
    Log {
        /// The log's path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A pipe, socket, thread or temporary file of our own could not be made.
    #[error("cannot {act}")]
    Plumbing {
        /// What was to be done.
        act: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// QEMU ended while something was still expected of it.
    #[error("QEMU ended ({status}) before {what}{stderr}\n{tail}", stderr = Indented(stderr))]
    Ended {
        /// What was waited for.
        what: String,
        /// How it ended.
        status: String,
        /// What QEMU itself said.
        stderr: String,
        /// The end of the serial log.
        tail: SerialTail,
    },
    /// Something expected of the guest did not come in time.
    #[error("no {what} within {} s\n{tail}", limit.as_secs_f32())]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
        /// The end of the serial log.
        tail: SerialTail,
    },
    /// QEMU refused a QMP command.
    #[error("QEMU refused `{command}`: {class}: {description}")]
    Refused {
        /// The command.
        command: String,
        /// QMP's error class.
        class: String,
        /// QEMU's words.
        description: String,
    },
    /// QEMU sent something that is not QMP.
    #[error("QEMU's control channel: {problem}: {text}")]
    Protocol {
        /// What is wrong with it.
        problem: String,
        /// What was received.
        text: String,
    },
    /// The guest has no forward for this port.
    #[error("guest port {port} is not forwarded; forwarded are {forwarded:?}")]
    NotForwarded {
        /// The port that was asked for.
        port: u16,
        /// The ports that are.
        forwarded: Vec<u16>,
    },
}

/// How a waited-for child ended, in words.
pub(crate) fn describe_exit(status: Option<ExitStatus>) -> String {
    status.map_or_else(|| "still running".to_string(), |status| status.to_string())
}

/// The last lines of a serial log, and where the whole log is.
#[derive(Debug, Clone, Default)]
pub struct SerialTail {
    /// The whole log's path, where one is kept.
    pub path: Option<PathBuf>,
    /// The last lines.
    pub lines: Vec<String>,
}

impl fmt::Display for SerialTail {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => writeln!(formatter, "serial log {}:", path.display())?,
            None => writeln!(formatter, "serial log (not kept):")?,
        }
        if self.lines.is_empty() {
            return write!(formatter, "  | (the guest printed nothing)");
        }
        for (index, line) in self.lines.iter().enumerate() {
            let end = if index + 1 == self.lines.len() {
                ""
            } else {
                "\n"
            };
            write!(formatter, "  | {line}{end}")?;
        }
        Ok(())
    }
}

/// QEMU's own words below the message, or nothing.
struct Indented<'a>(&'a str);

impl fmt::Display for Indented<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.0.lines() {
            write!(formatter, "\n  {line}")?;
        }
        Ok(())
    }
}
