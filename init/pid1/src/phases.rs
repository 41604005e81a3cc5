//! Boot and shutdown as lists of named phases, each timed and told on the console.
//!
//! A phase that fails does not end the boot: what failed is kept with the phase, and the next one
//! runs. A phase that the box cannot do without says so itself, through the one funnel.

use std::time::Instant;

use anyhow::Result;
use kos_manifest::control::PhaseRecord;

use crate::console::Console;

/// Runs phases and keeps their records.
pub struct Phases<'a> {
    console: &'a Console,
    records: Vec<PhaseRecord>,
}

impl<'a> Phases<'a> {
    /// No phase has run yet.
    pub fn new(console: &'a Console) -> Self {
        Phases {
            console,
            records: Vec::new(),
        }
    }

    /// Runs one phase; gives back what it made, or `None` when it failed.
    pub fn run<T>(&mut self, name: &str, phase: impl FnOnce() -> Result<T>) -> Option<T> {
        let started_ms = kos_sys::clock::boottime_milliseconds();
        let begin = Instant::now();
        let result = phase();
        let took_usec = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
        let took = format!("{}.{:03} ms", took_usec / 1000, took_usec % 1000);
        let (made, error) = match result {
            Ok(made) => {
                self.console.say(6, &format!("phase {name} ok {took}"));
                (Some(made), String::new())
            }
            Err(error) => {
                // `:#` shows the whole chain of an anyhow error.
                let error = format!("{error:#}");
                self.console
                    .say(3, &format!("phase {name} failed {took}: {error}"));
                (None, error)
            }
        };
        self.records.push(PhaseRecord {
            name: name.to_owned(),
            started_ms,
            took_usec,
            error,
        });
        made
    }

    /// The records, in order.
    pub fn finish(self) -> Vec<PhaseRecord> {
        self.records
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_phase_is_recorded_and_the_next_one_runs() {
        let console = Console::silent();
        let mut phases = Phases::new(&console);
        let first: Option<()> = phases.run("first", || anyhow::bail!("no disk"));
        let second = phases.run("second", || Ok(7));
        assert_eq!((first, second), (None, Some(7)));
        let records = phases.finish();
        assert_eq!(records[0].error, "no disk");
        assert_eq!(
            (records[1].name.as_str(), records[1].error.as_str()),
            ("second", "")
        );
    }
}
