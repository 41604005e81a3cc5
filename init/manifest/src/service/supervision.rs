//! How a service comes up, stays up and ends.

use std::time::Duration;

use toml::Spanned;

use super::parse::arguments;
use super::sockets::readiness_address;
use super::{ListenSocket, Readiness, Restart, Sandbox, StepProgram, Stop};
use crate::error::ManifestError;
use crate::quantity;
use crate::raw::{RawReadiness, RawRestart, RawStep, RawSteps, RawStop, ReadinessKind};
use crate::source::Source;

/// Signals that a program is asked with: each is one that it can take or that ends it.
const SIGNALS: [(&str, i32); 6] = [
    ("SIGHUP", 1),
    ("SIGINT", 2),
    ("SIGQUIT", 3),
    ("SIGUSR1", 10),
    ("SIGUSR2", 12),
    ("SIGTERM", 15),
];
const SIGTERM: i32 = 15;
/// More steps than this are a program of their own.
const MAX_STEPS: usize = 8;
/// Longest path that is asked for over HTTP, in bytes: the request fits into one packet.
const MAX_HTTP_PATH: usize = 200;
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
/// Shorter deadlines and delays than this are shorter than starting a process.
const MOMENT: Duration = Duration::from_millis(10);

pub(super) fn readiness(
    source: &Source<'_>,
    raw: &RawReadiness,
    service: &str,
    sandbox: &Sandbox,
    sockets: &[ListenSocket],
) -> Result<Readiness, ManifestError> {
    let kind = raw.kind.as_ref().map(|kind| *kind.get_ref());
    let kind = kind.unwrap_or_default();
    // A socket that PID 1 keeps takes connections before the program runs: that proves nothing.
    let kept = match kind {
        ReadinessKind::Http => sockets,
        _ => &[],
    };
    let address = match (&raw.address, &raw.kind) {
        (Some(address), _) if asked(kind) => {
            Some(readiness_address(source, address, service, sandbox, kept)?)
        }
        (Some(address), _) => {
            let message = "found one, allowed: only for the kinds 'socket' and 'http'".to_owned();
            return Err(source.error("readiness.address", address, message));
        }
        (None, Some(written)) if asked(kind) => {
            let message = "found none, allowed: 'tcp:PORT' or 'unix:PATH'".to_owned();
            return Err(source.error("readiness.address", written, message));
        }
        (None, _) => None,
    };
    let path = match &raw.path {
        None => "/".to_owned(),
        Some(path) if kind == ReadinessKind::Http => {
            let allowed = "'/' and printable ASCII without spaces, at most 200 bytes";
            source.word("readiness.path", path, allowed, |path| {
                path.starts_with('/')
                    && path.len() <= MAX_HTTP_PATH
                    && path.bytes().all(|b| b.is_ascii_graphic())
            })?
        }
        Some(path) => {
            let message = "found one, allowed: only for the kind 'http'".to_owned();
            return Err(source.error("readiness.path", path, message));
        }
    };
    let timeout = source.time(
        "readiness.timeout",
        raw.timeout.as_ref(),
        60 * SECOND,
        MOMENT..=HOUR,
    )?;
    Ok(Readiness {
        kind,
        address,
        path,
        timeout,
    })
}

/// Whether PID 1 asks at an address.
fn asked(kind: ReadinessKind) -> bool {
    matches!(kind, ReadinessKind::Socket | ReadinessKind::Http)
}

pub(super) fn restart(source: &Source<'_>, raw: &RawRestart) -> Result<Restart, ManifestError> {
    // 200 ms is too short to notice once and too long to burn a processor for ever; five starts
    // within a minute are systemd's order of patience, and a loop that a person can watch.
    let delay = source.time(
        "restart.delay",
        raw.delay.as_ref(),
        Duration::from_millis(200),
        MOMENT..=HOUR,
    )?;
    let max_delay = source.time(
        "restart.max-delay",
        raw.max_delay.as_ref(),
        delay.max(30 * SECOND),
        MOMENT..=DAY,
    )?;
    if let Some(text) = raw.max_delay.as_ref().filter(|_| max_delay < delay) {
        let message = format!(
            "found '{}', allowed: at least 'delay', which is {}",
            text.get_ref(),
            quantity::show_duration(delay)
        );
        return Err(source.error("restart.max-delay", text, message));
    }
    Ok(Restart {
        policy: raw.policy,
        delay,
        max_delay,
        start_limit: source.in_range(
            "restart.start-limit",
            raw.start_limit.as_ref(),
            5,
            1..=100,
        )?,
        start_window: source.time(
            "restart.start-window",
            raw.start_window.as_ref(),
            60 * SECOND,
            SECOND..=7 * DAY,
        )?,
    })
}

pub(super) fn stop(source: &Source<'_>, raw: &RawStop) -> Result<Stop, ManifestError> {
    Ok(Stop {
        signal: match &raw.signal {
            None => SIGTERM,
            Some(text) => signal_number(source, "stop.signal", text)?,
        },
        timeout: source.time(
            "stop.timeout",
            raw.timeout.as_ref(),
            10 * SECOND,
            Duration::ZERO..=HOUR,
        )?,
    })
}

/// One of the signals that a program is asked with.
pub(super) fn signal_number(
    source: &Source<'_>,
    key: &str,
    raw: &Spanned<String>,
) -> Result<i32, ManifestError> {
    if let Some((_, number)) = SIGNALS.iter().find(|(name, _)| name == raw.get_ref()) {
        return Ok(*number);
    }
    let allowed: Vec<&str> = SIGNALS.iter().map(|(name, _)| *name).collect();
    let message = format!("found {:?}, allowed: {}", raw.get_ref(), allowed.join(", "));
    Err(source.error(key, raw, message))
}

/// What is run before a service, and after it.
pub(super) fn steps(
    source: &Source<'_>,
    raw: &RawSteps,
) -> Result<(Vec<StepProgram>, Vec<StepProgram>), ManifestError> {
    Ok((
        programs(source, "steps.pre-start", &raw.pre_start)?,
        programs(source, "steps.post-stop", &raw.post_stop)?,
    ))
}

fn programs(
    source: &Source<'_>,
    key: &str,
    list: &[RawStep],
) -> Result<Vec<StepProgram>, ManifestError> {
    source.few(key, list, MAX_STEPS, |step| step.program.span())?;
    list.iter()
        .map(|step| {
            Ok(StepProgram {
                program: source.path(&format!("{key}.program"), &step.program)?,
                args: arguments(source, &format!("{key}.args"), &step.args)?,
                timeout: source.time(
                    &format!("{key}.timeout"),
                    step.timeout.as_ref(),
                    30 * SECOND,
                    MOMENT..=HOUR,
                )?,
            })
        })
        .collect()
}
