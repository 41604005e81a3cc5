//! The parts of the console that change by themselves, as templates. Each is rendered into the
//! page, and again into the event stream whenever its text has changed.

use askama::Template;
use kos_sdk::control::PhaseRecord;

use super::bar::Bar;
use super::show;
use super::trouble::Trouble;
use crate::live::{ServiceView, Snapshot};

/// Width of the boot's chart, in units of its drawing.
const CHART: u64 = 1000;
/// Name of this service in PID 1's list: stopping it closes the console.
const SELF: &str = "api";

/// Version, uptime, data and memory, in the header.
#[derive(Template)]
#[template(path = "part_status.html")]
pub struct Status {
    version: String,
    uptime: String,
    data: Option<DataBadge>,
    memory: Option<Bar>,
    processes: u32,
    zombies: u32,
}

struct DataBadge {
    text: &'static str,
    /// On a disk, and well.
    is_good: bool,
    detail: String,
}

impl From<&Snapshot> for Status {
    fn from(snapshot: &Snapshot) -> Self {
        let system = snapshot.system.as_ref();
        Status {
            version: system.map_or_else(String::new, |system| system.version.clone()),
            uptime: system.map_or_else(String::new, |system| show::duration(system.uptime_ms)),
            data: system.map(|system| {
                let on_disk = system.data_kind == "disk";
                let is_good = on_disk && system.data_problem.is_empty();
                DataBadge {
                    text: match (on_disk, is_good) {
                        (true, true) => "data on disk",
                        (true, false) => "data on disk, not well",
                        (false, _) => "in memory only",
                    },
                    is_good,
                    detail: system.data_detail.clone(),
                }
            }),
            memory: snapshot.memory.map(|memory| {
                Bar::new(memory.total.saturating_sub(memory.available), memory.total)
            }),
            processes: system.map_or(0, |system| system.processes),
            zombies: system.map_or(0, |system| system.zombies),
        }
    }
}

/// What is wrong, above everything.
#[derive(Template)]
#[template(path = "part_warnings.html")]
pub struct Warnings {
    warnings: Vec<String>,
    /// The data disk's.
    trouble: Option<Trouble>,
    /// That of the settings on the boot partition.
    setup: String,
}

impl Warnings {
    /// Those of PID 1, of the disk, of the owner's settings and of the store.
    pub fn new(snapshot: &Snapshot, store: Option<&str>) -> Self {
        let system = snapshot.system.as_ref();
        let control = snapshot
            .error
            .as_ref()
            .map(|error| format!("{error}. What is below may be out of date."));
        Warnings {
            warnings: control
                .into_iter()
                .chain(store.map(str::to_owned))
                .collect(),
            trouble: system.and_then(Trouble::of),
            setup: system.map_or_else(String::new, |system| system.setup_problem.clone()),
        }
    }
}

/// The table of services.
#[derive(Template)]
#[template(path = "part_services.html")]
pub struct Services {
    rows: Vec<Row>,
}

struct Row {
    name: String,
    description: String,
    state: String,
    reason: String,
    status_text: String,
    uptime: String,
    memory: Bar,
    cpu: String,
    restarts: u32,
    last_failure: String,
    buttons: Vec<Button>,
}

/// What can be done to a service.
pub struct Button {
    /// Its name in the path.
    pub action: &'static str,
    /// What stands on it.
    pub label: &'static str,
    /// Asked before it is done.
    pub question: String,
}

impl Button {
    /// Whether a reason can be given.
    pub fn takes_reason(&self) -> bool {
        self.action == "quarantine"
    }
}

impl From<&Snapshot> for Services {
    fn from(snapshot: &Snapshot) -> Self {
        Services {
            rows: snapshot.services.iter().map(Row::from).collect(),
        }
    }
}

impl From<&ServiceView> for Row {
    fn from(view: &ServiceView) -> Self {
        let status = &view.status;
        let running = status.pid != 0;
        Row {
            name: status.name.clone(),
            description: status.description.clone(),
            state: status.state.clone(),
            reason: status.reason.clone(),
            status_text: status.status_text.clone(),
            uptime: if running {
                show::duration(status.uptime_ms)
            } else {
                "–".to_owned()
            },
            memory: Bar::new(status.memory, status.memory_max),
            cpu: match view.cpu_percent {
                Some(percent) if running && percent < 10.0 => format!("{percent:.1} %"),
                Some(percent) if running => format!("{percent:.0} %"),
                _ => "–".to_owned(),
            },
            restarts: status.restarts,
            last_failure: status.last_failure.clone(),
            // The rest is on the service's own page.
            buttons: buttons(&status.name, &status.state)
                .into_iter()
                .filter(|button| !matches!(button.action, "freeze" | "quarantine"))
                .collect(),
        }
    }
}

/// What an operator would do in that state.
pub fn buttons(name: &str, state: &str) -> Vec<Button> {
    let is_self = name == SELF;
    let start = |label| Button {
        action: "start",
        label,
        question: String::new(),
    };
    let stop = || Button {
        action: "stop",
        label: "Stop",
        question: if is_self {
            "Stop the API service? This console and every API go away until the box is restarted."
                .to_owned()
        } else {
            format!("Stop {name}? It stays stopped until it is started again.")
        },
    };
    let restart = || Button {
        action: "restart",
        label: "Restart",
        question: if is_self {
            "Restart the API service? The console is away for a moment.".to_owned()
        } else {
            String::new()
        },
    };
    let freeze = || Button {
        action: "freeze",
        label: "Freeze",
        question: if is_self {
            "Freeze the API service? This console and every API stand still until the box is \
             restarted."
                .to_owned()
        } else {
            format!("Freeze {name}? It keeps its memory and does nothing until it is thawed.")
        },
    };
    let quarantine = || Button {
        action: "quarantine",
        label: "Quarantine",
        question: if is_self {
            "Quarantine the API service? This console and every API go away until the box is \
             restarted."
                .to_owned()
        } else {
            format!("Quarantine {name}? It is stopped, and nothing starts it until it is released.")
        },
    };
    let plain = |action, label| Button {
        action,
        label,
        question: String::new(),
    };
    match state {
        "ready" => vec![restart(), stop(), freeze(), quarantine()],
        "starting" => vec![restart(), stop(), quarantine()],
        "frozen" => vec![plain("thaw", "Thaw"), stop(), quarantine()],
        "backoff" => vec![start("Start now"), stop(), quarantine()],
        "stopping" => vec![],
        "quarantined" => vec![plain("release", "Release")],
        _ => vec![start("Start"), quarantine()],
    }
}

/// The boot as a chart.
#[derive(Template)]
#[template(path = "part_boot.html")]
pub struct Boot {
    phases: Vec<Phase>,
    summary: String,
}

struct Phase {
    name: String,
    took: String,
    error: String,
    /// Start and width of its bar, of [`CHART`].
    start: u64,
    width: u64,
}

impl From<&Snapshot> for Boot {
    fn from(snapshot: &Snapshot) -> Self {
        match &snapshot.system {
            Some(system) => Boot::new(&system.phases, system.ready_ms),
            None => Boot {
                phases: Vec::new(),
                summary: String::new(),
            },
        }
    }
}

impl Boot {
    /// The chart of these phases; `ready_ms` is 0 for a boot that has not settled.
    pub fn new(records: &[PhaseRecord], ready_ms: u64) -> Self {
        let end = |phase: &PhaseRecord| phase.started_ms + phase.took_usec.div_ceil(1000);
        let total = records
            .iter()
            .map(end)
            .chain([ready_ms, 1])
            .max()
            .unwrap_or(1);
        let mut phases = Vec::new();
        // Before PID 1 there is the kernel: its start is the zero of every time here.
        if let Some(first) = records.first() {
            phases.push(Phase::new(
                "kernel",
                (0, first.started_ms * 1000),
                "",
                total,
            ));
        }
        phases.extend(records.iter().map(|phase| {
            let time = (phase.started_ms, phase.took_usec);
            Phase::new(&phase.name, time, &phase.error, total)
        }));
        let began = records.iter().map(end).max().unwrap_or(0);
        if ready_ms > began {
            let time = (began, (ready_ms - began) * 1000);
            phases.push(Phase::new("services", time, "", total));
        }
        Boot {
            phases,
            summary: match ready_ms {
                0 => "Not every service has settled yet.".to_owned(),
                ready => format!(
                    "Ready {} after the kernel started.",
                    show::span(ready * 1000)
                ),
            },
        }
    }

    /// The chart of a way down, which begins at its first phase.
    pub fn down(records: &[PhaseRecord]) -> Self {
        let start = records.first().map_or(0, |phase| phase.started_ms);
        let from = |phase: &PhaseRecord| phase.started_ms.saturating_sub(start);
        let end = |phase: &PhaseRecord| from(phase) + phase.took_usec.div_ceil(1000);
        let total = records.iter().map(end).max().unwrap_or(0).max(1);
        let phases = records.iter().map(|phase| {
            let time = (from(phase), phase.took_usec);
            Phase::new(&phase.name, time, &phase.error, total)
        });
        Boot {
            phases: phases.collect(),
            summary: format!("{} until its disks were written.", show::span(total * 1000)),
        }
    }
}

impl Phase {
    /// `time` is its start in milliseconds and its length in microseconds; `total` is the chart's
    /// length in milliseconds.
    fn new(name: &str, time: (u64, u64), error: &str, total: u64) -> Self {
        let scale = |milliseconds: u64| milliseconds.saturating_mul(CHART) / total;
        Phase {
            name: name.to_owned(),
            took: show::span(time.1),
            error: error.to_owned(),
            start: scale(time.0),
            // A phase too short to see is drawn as a hair.
            width: scale(time.1 / 1000).max(4),
        }
    }
}
