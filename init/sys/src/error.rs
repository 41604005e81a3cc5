//! The one error of this crate: what was attempted, on what, and the kernel's answer.

use std::fmt::Display;
use std::io;

/// A system call that failed. `Display` names the act and its object, `source` the kernel's answer.
#[derive(Debug, thiserror::Error)]
#[error("could not {act} {subject}")]
pub struct SysError {
    /// What was attempted, as a verb: `mount`, `open`, `write`.
    pub act: &'static str,
    /// On what: a path, a name, a number.
    pub subject: String,
    /// What the kernel answered.
    pub source: io::Error,
}

impl SysError {
    /// An error of one act.
    pub fn new(act: &'static str, subject: impl Display, source: impl Into<io::Error>) -> Self {
        SysError {
            act,
            subject: subject.to_string(),
            source: source.into(),
        }
    }

    /// An error whose cause is not an error number: text that says what is wrong.
    pub fn refused(act: &'static str, subject: impl Display, reason: impl Display) -> Self {
        let source = io::Error::new(io::ErrorKind::InvalidData, reason.to_string());
        SysError::new(act, subject, source)
    }

    /// The kernel's error number, where there is one.
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }

    /// Act, object and cause in one line.
    pub fn full(&self) -> String {
        format!("{self}: {}", self.source)
    }
}

/// Gives a failed call its act and object.
pub(crate) trait Told<T> {
    /// Turns the error into a [`SysError`].
    fn told(self, act: &'static str, subject: impl Display) -> Result<T, SysError>;
}

impl<T, E: Into<io::Error>> Told<T> for Result<T, E> {
    fn told(self, act: &'static str, subject: impl Display) -> Result<T, SysError> {
        self.map_err(|source| SysError::new(act, subject, source))
    }
}
