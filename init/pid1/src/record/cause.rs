//! Why a boot ended, decided from what is left of it: a pure function.
//!
//! The most telling first. A panic's own words count more than a shutdown that had begun before
//! it. A shutdown that came to its end says why it was. A watchdog that fired did so because PID 1
//! did not answer. Where nothing was said, nobody was there to say it: the power went, or a reset
//! came from outside.

use std::fmt;

use kos_manifest::control::{DownCause, DownRecord};

/// Why the box goes, or went, down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The kind.
    pub cause: DownCause,
    /// Who asked for it, or which service failed; empty when nobody did.
    pub by: String,
    /// As a sentence or a part of one.
    pub detail: String,
}

impl Reason {
    /// Somebody with the right to asked for it.
    pub fn operator(by: impl Into<String>, detail: impl Into<String>) -> Self {
        Reason {
            cause: DownCause::Operator,
            by: by.into(),
            detail: detail.into(),
        }
    }

    /// An empty data partition was asked for.
    pub fn factory_reset(by: impl Into<String>, detail: impl Into<String>) -> Self {
        Reason {
            cause: DownCause::FactoryReset,
            by: by.into(),
            detail: detail.into(),
        }
    }

    /// A service that the box cannot do without failed for good.
    pub fn essential(service: &str, detail: impl Into<String>) -> Self {
        Reason {
            cause: DownCause::EssentialService,
            by: service.to_owned(),
            detail: detail.into(),
        }
    }

    /// PID 1 cannot go on.
    pub fn fatal(detail: impl Into<String>) -> Self {
        Reason {
            cause: DownCause::FatalError,
            by: String::new(),
            detail: detail.into(),
        }
    }

    /// What a record says, when it says anything.
    pub fn of(down: &DownRecord) -> Option<Self> {
        Some(Reason {
            cause: DownCause::from_code(&down.cause)?,
            by: down.by.clone(),
            detail: down.detail.clone(),
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.by.is_empty() {
            write!(formatter, "{} ({})", self.detail, self.cause)
        } else {
            write!(formatter, "{} ({} {})", self.detail, self.cause, self.by)
        }
    }
}

/// What is left of a boot.
#[derive(Debug, Clone)]
pub struct Evidence<'a> {
    /// The kernel's words before it panicked.
    pub panic: Option<&'a str>,
    /// What PID 1 said when it went down, if it did.
    pub said: Option<Reason>,
    /// Whether it came to the end of that.
    pub complete: bool,
    /// Whether the watchdog was what reset the machine.
    pub watchdog: bool,
}

/// See the head of this file.
pub fn decide(evidence: &Evidence<'_>) -> Reason {
    let unfinished = evidence.said.as_ref().map_or_else(String::new, |said| {
        format!(" It was on its way down: {said}.")
    });
    let by = || {
        evidence
            .said
            .as_ref()
            .map_or_else(String::new, |said| said.by.clone())
    };
    match evidence {
        Evidence {
            panic: Some(text), ..
        } => Reason {
            cause: DownCause::KernelPanic,
            by: String::new(),
            detail: headline(text),
        },
        Evidence {
            said: Some(said),
            complete: true,
            ..
        } => said.clone(),
        Evidence { watchdog: true, .. } => Reason {
            cause: DownCause::Watchdog,
            by: by(),
            detail: format!("PID 1 did not feed the watchdog in time.{unfinished}"),
        },
        _ => Reason {
            cause: DownCause::PowerLoss,
            by: by(),
            detail: format!(
                "Nothing was said: the power went, or a reset came from outside.{unfinished}"
            ),
        },
    }
}

/// Of a panic's text the line that says what happened.
fn headline(text: &str) -> String {
    let line = text
        .lines()
        .find(|line| line.contains("Kernel panic"))
        .or_else(|| text.lines().find(|line| line.contains("BUG: ")))
        .unwrap_or("The kernel panicked, and its message is lost");
    // `<0>[   12.345678][    T1] Kernel panic - not syncing: …`
    let words = line.find("Kernel panic").or_else(|| line.find("BUG: "));
    line.get(words.unwrap_or(0)..)
        .unwrap_or(line)
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PANIC: &str = "Panic#1 Part1\n<6>[    9.1] sysrq: Trigger a crash\n\
                         <0>[    9.2][  T1] Kernel panic - not syncing: sysrq triggered crash\n\
                         <4>[    9.3] CPU: 0\n";

    #[test]
    fn the_most_telling_evidence_decides() {
        let reboot = Reason::operator("api", "asked for");
        let table = [
            // panic, said, complete, watchdog: cause, by
            (true, true, true, true, DownCause::KernelPanic, ""),
            (true, false, false, false, DownCause::KernelPanic, ""),
            (false, true, true, true, DownCause::Operator, "api"),
            (false, true, true, false, DownCause::Operator, "api"),
            (false, true, false, true, DownCause::Watchdog, "api"),
            (false, false, false, true, DownCause::Watchdog, ""),
            (false, false, true, true, DownCause::Watchdog, ""),
            (false, true, false, false, DownCause::PowerLoss, "api"),
            (false, false, false, false, DownCause::PowerLoss, ""),
        ];
        for (panic, said, complete, watchdog, cause, by) in table {
            let evidence = Evidence {
                panic: panic.then_some(PANIC),
                said: said.then(|| reboot.clone()),
                complete,
                watchdog,
            };
            let reason = decide(&evidence);
            assert_eq!(
                (reason.cause, reason.by.as_str()),
                (cause, by),
                "{evidence:?}"
            );
            assert_eq!(
                reason
                    .detail
                    .contains("on its way down: asked for (operator api)"),
                said && !complete && !panic,
                "{evidence:?}"
            );
        }
    }

    #[test]
    fn a_panic_is_told_by_its_own_line() {
        assert_eq!(
            headline(PANIC),
            "Kernel panic - not syncing: sysrq triggered crash"
        );
        let oops = "<1>[ 1.0] BUG: kernel NULL pointer dereference, address: 0\n";
        assert_eq!(
            headline(oops),
            "BUG: kernel NULL pointer dereference, address: 0"
        );
        assert!(headline("").contains("lost"));
    }
}
