//! Every change of state that there is: the diagram of ARCHITECTURE.md as a table.
//!
//! An event in a state that has no row here changes the reason at most. The tests walk at random
//! and find that they never leave the table, and that every row of it is met.

use kos_manifest::control::State::{
    self, Backoff, Failed, Frozen, Quarantined, Ready, Starting, Stopped, Stopping,
};

/// From, the event's word, to.
pub const TRANSITIONS: [(State, &str, State); 69] = [
    (Stopped, "start", Starting),
    (Stopped, "scheduled", Starting),
    (Stopped, "restart", Starting),
    (Stopped, "conditions-met", Starting),
    (Stopped, "quarantine", Quarantined),
    (Starting, "stop", Stopped),
    (Starting, "condition-unmet", Stopped),
    (Starting, "ended", Stopped),
    (Starting, "stop", Stopping),
    (Starting, "restart", Stopping),
    (Starting, "quarantine", Stopping),
    (Starting, "dependency-failed", Stopping),
    (Starting, "leaving", Stopping),
    (Starting, "timer", Stopping),
    (Starting, "ended", Stopping),
    (Starting, "spawn-failed", Stopping),
    (Starting, "quarantine", Quarantined),
    (Starting, "executing", Ready),
    (Starting, "notified", Ready),
    (Starting, "answered", Ready),
    (Starting, "ended", Backoff),
    (Starting, "spawn-failed", Backoff),
    (Starting, "ended", Failed),
    (Starting, "spawn-failed", Failed),
    (Starting, "dependency-failed", Failed),
    (Starting, "dependencies-ready", Failed),
    (Ready, "stop", Stopping),
    (Ready, "restart", Stopping),
    (Ready, "quarantine", Stopping),
    (Ready, "dependency-failed", Stopping),
    (Ready, "leaving", Stopping),
    (Ready, "watchdog-missed", Stopping),
    (Ready, "unfit", Stopping),
    (Ready, "ended", Stopping),
    (Ready, "ended", Stopped),
    (Ready, "ended", Backoff),
    (Ready, "ended", Failed),
    (Ready, "froze", Frozen),
    (Frozen, "thaw", Ready),
    (Frozen, "timer", Ready),
    (Frozen, "stop", Stopping),
    (Frozen, "restart", Stopping),
    (Frozen, "quarantine", Stopping),
    (Frozen, "dependency-failed", Stopping),
    (Frozen, "ended", Stopping),
    (Frozen, "ended", Stopped),
    (Frozen, "ended", Backoff),
    (Frozen, "ended", Failed),
    (Stopping, "ended", Stopped),
    (Stopping, "ended", Starting),
    (Stopping, "ended", Backoff),
    (Stopping, "ended", Failed),
    (Stopping, "ended", Quarantined),
    (Stopping, "spawn-failed", Stopped),
    (Stopping, "spawn-failed", Starting),
    (Stopping, "spawn-failed", Backoff),
    (Stopping, "spawn-failed", Failed),
    (Stopping, "spawn-failed", Quarantined),
    (Backoff, "timer", Starting),
    (Backoff, "start", Starting),
    (Backoff, "restart", Starting),
    (Backoff, "stop", Stopped),
    (Backoff, "quarantine", Quarantined),
    (Failed, "start", Starting),
    (Failed, "scheduled", Starting),
    (Failed, "restart", Starting),
    (Failed, "stop", Stopped),
    (Failed, "quarantine", Quarantined),
    (Quarantined, "release", Stopped),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// From whatever is in the first column to whatever is in the second, by the states' names.
    fn drawn() -> BTreeSet<(String, String)> {
        let page = include_str!("../../../../ARCHITECTURE.md");
        let (_, life) = page.split_once("\n## A service's life\n").unwrap();
        let (_, table) = life
            .split_once("\n| from | to | when |\n|---|---|---|\n")
            .unwrap();
        let rows = table.lines().take_while(|line| line.starts_with('|'));
        let mut drawn = BTreeSet::new();
        for row in rows {
            let mut cells = row.split('|').skip(1).map(str::trim);
            let (from, to) = (cells.next().unwrap(), cells.next().unwrap());
            for from in from.split(", ") {
                for to in to.split(", ") {
                    drawn.insert((from.to_owned(), to.to_owned()));
                }
            }
        }
        drawn
    }

    #[test]
    fn the_page_says_the_same_as_the_table() {
        let listed: BTreeSet<(String, String)> = TRANSITIONS
            .iter()
            .map(|(from, _, to)| (from.to_string(), to.to_string()))
            .collect();
        let drawn = drawn();
        let missing: Vec<_> = listed.difference(&drawn).collect();
        let invented: Vec<_> = drawn.difference(&listed).collect();
        assert!(
            missing.is_empty() && invented.is_empty(),
            "ARCHITECTURE.md lacks {missing:?} and has besides {invented:?}"
        );
    }
}
