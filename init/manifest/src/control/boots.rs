//! What is kept of each boot: how it came up, why it went down.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::PhaseRecord;

/// Why the box went down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DownCause {
    /// A person or a program with the right to: the API, the power button, a signal.
    Operator,
    /// A new version of the image is to be started.
    Update,
    /// The data partition is to be made empty.
    FactoryReset,
    /// A service that the box cannot do without failed for good.
    EssentialService,
    /// PID 1 could not go on.
    FatalError,
    /// The hardware watchdog was not fed any more.
    Watchdog,
    /// The kernel gave up.
    KernelPanic,
    /// Nothing was said: the power went, or somebody pressed reset.
    PowerLoss,
}

impl DownCause {
    /// Every cause.
    pub const ALL: [DownCause; 8] = [
        DownCause::Operator,
        DownCause::Update,
        DownCause::FactoryReset,
        DownCause::EssentialService,
        DownCause::FatalError,
        DownCause::Watchdog,
        DownCause::KernelPanic,
        DownCause::PowerLoss,
    ];

    /// The code used in every API, on the console and in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            DownCause::Operator => "operator",
            DownCause::Update => "update",
            DownCause::FactoryReset => "factory-reset",
            DownCause::EssentialService => "essential-service",
            DownCause::FatalError => "fatal-error",
            DownCause::Watchdog => "watchdog",
            DownCause::KernelPanic => "kernel-panic",
            DownCause::PowerLoss => "power-loss",
        }
    }

    /// The cause of this code.
    pub fn from_code(code: &str) -> Option<Self> {
        DownCause::ALL
            .into_iter()
            .find(|cause| cause.as_str() == code)
    }
}

impl fmt::Display for DownCause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// One boot, from its start to its end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "dbus", derive(zbus::Type))]
pub struct BootRecord {
    /// The kernel's random name for this boot.
    pub boot_id: String,
    /// Version of the image; empty when it is not known.
    pub version: String,
    /// Version of the kernel; empty when it is not known.
    pub kernel: String,
    /// Wall-clock milliseconds since 1970 at its start, as far as the clock was right.
    pub started_unix_ms: u64,
    /// When the first start of all services had settled; 0 when it never had.
    pub ready_ms: u64,
    /// The last time that it is known to have run; for the boot that runs, now.
    pub seen_ms: u64,
    /// The boot, phase by phase.
    pub phases: Vec<PhaseRecord>,
    /// Its end.
    pub down: DownRecord,
}

/// How a boot ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "dbus", derive(zbus::Type))]
pub struct DownRecord {
    /// [`DownCause`] by name; empty while the box runs.
    pub cause: String,
    /// Who asked for it, or which service failed; empty when nobody did.
    pub by: String,
    /// What is known about it, as a sentence.
    pub detail: String,
    /// When it began; 0 when that is not known.
    pub at_ms: u64,
    /// Whether PID 1 came to its last act: services stopped, disks written.
    pub complete: bool,
    /// The way down, phase by phase.
    pub phases: Vec<PhaseRecord>,
    /// Services that did not stop in time and were killed.
    pub killed: Vec<KilledService>,
    /// The kernel's last messages before a panic; empty without one.
    pub panic: String,
    /// The last that the kernel wrote to its console, where memory kept it.
    pub console: String,
}

/// A service that was killed on the way down.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "dbus", derive(zbus::Type))]
pub struct KilledService {
    /// Its name.
    pub name: String,
    /// Why, as a sentence.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_back() {
        for cause in DownCause::ALL {
            assert_eq!(DownCause::from_code(cause.as_str()), Some(cause));
        }
        assert_eq!(DownCause::from_code("rain"), None);
    }
}
