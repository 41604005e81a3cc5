//! Boot and shutdown as lists of named phases, each timed and told on the console.
//!
//! A phase that fails does not end the boot: what failed is kept with the phase, and the next one
//! runs. A phase that the box cannot do without says so itself, through the one funnel.

use std::time::Instant;

use anyhow::Result;
use kos_manifest::control::PhaseRecord;

use crate::console::Console;
use crate::watchdog::Keeper;

/// Runs phases and keeps their records.
pub struct Phases<'a> {
    console: &'a Console,
    watchdog: Option<&'a Keeper>,
    records: Vec<PhaseRecord>,
}

/// A phase that runs.
struct Running {
    started_ms: u64,
    begun: Instant,
}

impl<'a> Phases<'a> {
    /// No phase has run yet.
    pub fn new(console: &'a Console) -> Self {
        Phases {
            console,
            watchdog: None,
            records: Vec::new(),
        }
    }

    /// Each phase has the watchdog's whole time.
    pub fn watched(mut self, watchdog: &'a Keeper) -> Self {
        self.watchdog = Some(watchdog);
        self
    }

    /// These have run already.
    pub fn after(mut self, records: Vec<PhaseRecord>) -> Self {
        self.records = records;
        self
    }

    /// Runs one phase; gives back what it made, or `None` when it failed.
    pub fn run<T>(&mut self, name: &str, phase: impl FnOnce() -> Result<T>) -> Option<T> {
        let running = self.begin();
        let result = phase();
        self.done(name, &running, result)
    }

    /// As [`Phases::run`], for a phase that waits in the event loop.
    pub async fn wait<T>(
        &mut self,
        name: &str,
        phase: impl Future<Output = Result<T>>,
    ) -> Option<T> {
        let running = self.begin();
        let result = phase.await;
        self.done(name, &running, result)
    }

    fn begin(&self) -> Running {
        if let Some(watchdog) = self.watchdog {
            watchdog.phase();
        }
        Running {
            started_ms: kos_sys::clock::boottime_milliseconds(),
            begun: Instant::now(),
        }
    }

    fn done<T>(&mut self, name: &str, running: &Running, result: Result<T>) -> Option<T> {
        let took_usec = u64::try_from(running.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
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
            started_ms: running.started_ms,
            took_usec,
            error,
        });
        made
    }

    /// The records so far, in order.
    pub fn records(&self) -> &[PhaseRecord] {
        &self.records
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
