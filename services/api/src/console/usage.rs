//! What a service uses of what it may, as rows with a bar where there is a bound.

use kos_sdk::control::ServiceStatus;
use kos_sdk::service_facts::{ServiceFacts, Waiting};

use super::bar::Bar;
use super::show;

/// One row.
pub struct Use {
    /// Of what.
    pub what: &'static str,
    /// How much, and of how much.
    pub text: String,
    /// Drawn where there is a bound.
    pub bar: Bar,
    /// What else there is to say.
    pub note: String,
}

/// All rows; `cpu` is the share of one processor in percent.
pub fn uses(status: &ServiceStatus, facts: &ServiceFacts, cpu: Option<f64>) -> Vec<Use> {
    let limits = &facts.limits;
    let memory = Use {
        what: "Memory",
        text: of(show::bytes(status.memory), limits.memory.map(show::bytes)),
        bar: Bar::new(status.memory, limits.memory.unwrap_or_default()),
        note: sentences([
            limits
                .memory_high
                .map(|high| format!("slowed down beyond {}", show::bytes(high))),
            (facts.oom_kills > 0).then(|| format!("{} killed for memory", facts.oom_kills)),
            waits(facts.memory_pressure, "memory"),
        ]),
    };
    let processors = limits.cpu_millis.map(|millis| {
        let (whole, rest) = (millis / 1000, millis % 1000);
        format!("{whole}.{:02} processors", rest / 10)
    });
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a percentage of a few processors, drawn as a bar"
    )]
    let used_millis = cpu.map_or(0, |percent| (percent * 10.0) as u64);
    let processor = Use {
        what: "Processor",
        text: of(
            cpu.map_or_else(|| "–".to_owned(), |percent| format!("{percent:.1} %")),
            processors,
        ),
        bar: Bar::new(used_millis, limits.cpu_millis.unwrap_or_default()),
        note: sentences([
            Some(format!("weight {}", limits.cpu_weight)),
            waits(facts.cpu_pressure, "the processor"),
        ]),
    };
    let tasks = Use {
        what: "Processes and threads",
        text: of(
            status.tasks.to_string(),
            limits.tasks.map(|tasks| tasks.to_string()),
        ),
        bar: Bar::new(status.tasks.into(), limits.tasks.unwrap_or_default()),
        note: String::new(),
    };
    let disk = Use {
        what: "Disk",
        text: limits.disk.map_or_else(
            || "no limit".to_owned(),
            |most| format!("at most {}", show::bytes(most)),
        ),
        bar: Bar::new(0, 0),
        note: sentences([
            Some(format!("weight {}", limits.io_weight)),
            waits(facts.io_pressure, "the disk"),
        ]),
    };
    vec![memory, processor, tasks, disk]
}

fn of(used: String, most: Option<String>) -> String {
    match most {
        Some(most) => format!("{used} of {most}"),
        None => used,
    }
}

/// What is worth a word: a tenth of the time or more.
fn waits(waiting: Waiting, what: &str) -> Option<String> {
    (waiting.some >= 10.0).then(|| format!("waits for {what} {:.0} % of the time", waiting.some))
}

fn sentences<const N: usize>(parts: [Option<String>; N]) -> String {
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
