//! What of a manifest decides about the life of its service.

use std::time::Duration;

use kos_manifest::service::{Readiness, Restart, Service, StepProgram, Stop};

/// The rules by which one service lives.
#[derive(Debug, Clone)]
pub struct Policy {
    /// When it is started again.
    pub restart: Restart,
    /// How it becomes ready, and within what time.
    pub readiness: Readiness,
    /// How it is asked to end.
    pub stop: Stop,
    /// Whether its final failure is the box's.
    pub essential: bool,
    /// What is run before each start.
    pub pre_start: Vec<StepProgram>,
    /// What is run after each end.
    pub post_stop: Vec<StepProgram>,
}

impl From<&Service> for Policy {
    fn from(service: &Service) -> Self {
        Policy {
            restart: service.restart.clone(),
            readiness: service.readiness.clone(),
            stop: service.stop.clone(),
            essential: service.essential,
            pre_start: service.pre_start.clone(),
            post_stop: service.post_stop.clone(),
        }
    }
}

/// A step as people find it in the manifest: `pre-start step 1 (/bin/program)`.
pub(super) fn name_of(kind: &str, steps: &[StepProgram], index: usize) -> String {
    let program = steps
        .get(index)
        .map(|step| step.program.display().to_string())
        .unwrap_or_default();
    format!("{kind} step {} ({program})", index + 1)
}

/// How long a step may take, in milliseconds.
pub(super) fn step_ms(steps: &[StepProgram], index: usize) -> u64 {
    steps.get(index).map_or(0, |step| millis(step.timeout))
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
