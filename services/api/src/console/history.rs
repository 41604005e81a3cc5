//! What became of a service lately: PID 1 writes each change of a state and its reason in its log.

use crate::app::App;
use crate::store::clock;

/// Changes that are shown.
const SHOWN: usize = 12;
/// Lines of PID 1's log that are looked through.
const LINES: u32 = 1000;
/// PID 1's own log.
const INIT: &str = "init";

/// One change.
pub struct Change {
    /// When, for people.
    pub clock: String,
    /// When, for programs.
    pub stamp: String,
    /// The state that it came into.
    pub state: String,
    /// Why.
    pub reason: String,
}

/// The latest changes, newest first; none when PID 1 does not tell.
pub async fn history(app: &App, name: &str) -> Vec<Change> {
    let Ok(page) = crate::api::logs::tail(&app.control, INIT, LINES).await else {
        return Vec::new();
    };
    let changes = page.entries.iter().rev().filter_map(|entry| {
        let (state, reason) = change(&entry.message, name)?;
        let stamp = clock::stamp(i64::try_from(entry.time_unix_ms / 1000).unwrap_or(0));
        Some(Change {
            clock: stamp
                .trim_end_matches('Z')
                .split_once('T')
                .map_or("", |(_, time)| time)
                .to_owned(),
            stamp,
            state,
            reason,
        })
    });
    changes.take(SHOWN).collect()
}

/// State and reason out of `service infer ready (said that it is ready)`.
fn change(message: &str, name: &str) -> Option<(String, String)> {
    let rest = message.strip_prefix("service ")?.strip_prefix(name)?;
    let (state, reason) = rest.strip_prefix(' ')?.split_once(" (")?;
    Some((state.to_owned(), reason.strip_suffix(')')?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_read_out_of_its_line() {
        let line = "service infer backoff (exited with code 1 (a bug))";
        let read = change(line, "infer").unwrap();
        assert_eq!(
            read,
            (
                "backoff".to_owned(),
                "exited with code 1 (a bug)".to_owned()
            )
        );
        assert!(change(line, "inf").is_none());
        assert!(change("service infer is lost: x", "infer").is_none());
    }
}
