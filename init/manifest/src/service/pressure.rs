//! Triggers of pressure stall information, such that the kernel takes them.

use std::time::Duration;

use super::supervision::signal_number;
use super::{Pressure, PressureResponse};
use crate::error::ManifestError;
use crate::quantity;
use crate::raw::{PressureAction, RawPressure};
use crate::source::Source;

/// More triggers on one service than kinds of waiting are a mistake; each is a descriptor in PID 1.
const MAX_TRIGGERS: usize = 8;
/// Bounds of the kernel (`WINDOW_MIN_US` and `WINDOW_MAX_US` of its `psi.h`). That a window be a
/// whole multiple of 2 s is asked only of those without `CAP_SYS_RESOURCE`, and PID 1 has it.
const MIN_WINDOW: Duration = Duration::from_millis(500);
const MAX_WINDOW: Duration = Duration::from_secs(10);

pub(super) fn parse(
    source: &Source<'_>,
    list: &[RawPressure],
) -> Result<Vec<Pressure>, ManifestError> {
    source.few("pressure", list, MAX_TRIGGERS, |raw| raw.threshold.span())?;
    list.iter().map(|raw| trigger(source, raw)).collect()
}

fn trigger(source: &Source<'_>, raw: &RawPressure) -> Result<Pressure, ManifestError> {
    let window = source.time(
        "pressure.window",
        raw.window.as_ref(),
        Duration::from_secs(2),
        MIN_WINDOW..=MAX_WINDOW,
    )?;
    let threshold = source.time(
        "pressure.threshold",
        Some(&raw.threshold),
        window,
        Duration::from_millis(1)..=MAX_WINDOW,
    )?;
    if threshold >= window {
        let message = format!(
            "found '{}', allowed: less than the window of {}",
            raw.threshold.get_ref(),
            quantity::show_duration(window)
        );
        return Err(source.error("pressure.threshold", &raw.threshold, message));
    }
    if let Some(signal) = &raw.signal
        && raw.action != PressureAction::Signal
    {
        let message = format!(
            "found '{}', allowed: only with action = \"signal\"",
            signal.get_ref()
        );
        return Err(source.error("pressure.signal", signal, message));
    }
    if let Some(time) = &raw.freeze_for
        && raw.action != PressureAction::Freeze
    {
        let message = format!(
            "found '{}', allowed: only with action = \"freeze\"",
            time.get_ref()
        );
        return Err(source.error("pressure.freeze-for", time, message));
    }
    let action = match (raw.action, &raw.signal) {
        (PressureAction::Tell, _) => PressureResponse::Tell,
        (PressureAction::Restart, _) => PressureResponse::Restart,
        (PressureAction::Signal, Some(signal)) => {
            PressureResponse::Signal(signal_number(source, "pressure.signal", signal)?)
        }
        (PressureAction::Signal, None) => {
            let message = "found none, allowed: a signal's name, with action = \"signal\"";
            return Err(source.error("pressure.signal", &raw.threshold, message.to_owned()));
        }
        (PressureAction::Freeze, _) => PressureResponse::Freeze(source.time(
            "pressure.freeze-for",
            raw.freeze_for.as_ref(),
            Duration::from_secs(10),
            Duration::from_millis(100)..=Duration::from_secs(3600),
        )?),
    };
    Ok(Pressure {
        resource: raw.resource,
        level: raw.level,
        threshold,
        window,
        action,
    })
}
