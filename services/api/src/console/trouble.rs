//! What is wrong with the data disk, as the console says it: a title, PID 1's own sentences, and
//! the acts that can help.

use kos_sdk::control::{DataProblem, SystemStatus};

/// A notice about the data disk.
pub struct Trouble {
    /// A few words.
    pub title: &'static str,
    /// What is so, by PID 1.
    pub detail: String,
    /// What the owner can do, by PID 1.
    pub advice: String,
    /// Nothing is lost or at risk: it is said, and not warned of.
    pub is_calm: bool,
    /// Another boot may help.
    pub offers_reboot: bool,
    /// An empty data partition would help.
    pub offers_reset: bool,
}

impl Trouble {
    /// The notice for the machine as it is; `None` when its data disk is well.
    pub fn of(system: &SystemStatus) -> Option<Self> {
        if system.data_problem.is_empty() {
            return None;
        }
        let problem = DataProblem::ALL
            .into_iter()
            .find(|problem| problem.as_str() == system.data_problem);
        Some(Trouble {
            title: problem.map_or("The data disk is not well", title),
            detail: system.data_detail.clone(),
            advice: system.data_advice.clone(),
            is_calm: matches!(problem, Some(DataProblem::NotNamed | DataProblem::NotGrown)),
            offers_reboot: matches!(
                problem,
                Some(
                    DataProblem::Missing
                        | DataProblem::Ambiguous
                        | DataProblem::Errors
                        | DataProblem::ReadOnly
                        | DataProblem::NotGrown
                )
            ),
            offers_reset: matches!(
                problem,
                Some(
                    DataProblem::Missing
                        | DataProblem::Corrupt
                        | DataProblem::Errors
                        | DataProblem::Full
                        | DataProblem::NotGrown
                )
            ),
        })
    }
}

fn title(problem: DataProblem) -> &'static str {
    match problem {
        DataProblem::NotNamed => "No data disk",
        DataProblem::Missing => "The data disk is missing",
        DataProblem::Ambiguous => "Two disks claim to be this box's",
        DataProblem::Corrupt => "The data disk cannot be read",
        DataProblem::Errors => "The data disk has errors",
        DataProblem::Full => "The data disk is full",
        DataProblem::ReadOnly => "The data disk cannot be written",
        DataProblem::NotGrown => "The data disk did not grow",
    }
}

#[cfg(test)]
mod tests {
    use kos_sdk::control::Holdings;

    use super::*;

    #[test]
    fn what_may_be_lost_is_warned_of_and_only_what_helps_is_offered() {
        let offered = |code: &str| {
            let system = SystemStatus {
                hostname: "attic".to_owned(),
                version: String::new(),
                uptime_ms: 0,
                board: String::new(),
                board_description: String::new(),
                boot_disk: String::new(),
                data_kind: "disk".to_owned(),
                data_detail: "A detail.".to_owned(),
                data_problem: code.to_owned(),
                data_advice: "An advice.".to_owned(),
                data_bytes: 0,
                data_free: 0,
                setup_problem: String::new(),
                processes: 0,
                zombies: 0,
                orphans_reaped: 0,
                init_memory: 0,
                ready_ms: 0,
                phases: Vec::new(),
                boot_id: String::new(),
                watchdog: String::new(),
                watchdog_timeout_ms: 0,
                watchdog_problem: String::new(),
                holdings: Holdings::default(),
            };
            Trouble::of(&system)
                .map(|trouble| (trouble.is_calm, trouble.offers_reboot, trouble.offers_reset))
        };
        assert_eq!(offered(""), None);
        for (code, expected) in [
            ("not-named", (true, false, false)),
            ("missing", (false, true, true)),
            ("ambiguous", (false, true, false)),
            ("corrupt", (false, false, true)),
            ("errors", (false, true, true)),
            ("full", (false, false, true)),
            ("read-only", (false, true, false)),
            ("not-grown", (true, true, true)),
            ("of-a-later-version", (false, false, false)),
        ] {
            assert_eq!(offered(code), Some(expected), "{code}");
        }
    }
}
