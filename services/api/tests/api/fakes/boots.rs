//! What a fake PID 1 remembers of its boots: one of each kind that looks different.

use kos_sdk::control::{BootRecord, DownRecord, KilledService, PhaseRecord};

/// Newest first; the first runs.
pub fn boots(now_unix_ms: u64, running: &[PhaseRecord]) -> Vec<BootRecord> {
    let hour = 3_600_000;
    let boot = |age: u64, ran: u64, down: DownRecord| BootRecord {
        boot_id: format!("5f0c1d5e-7a52-4c3f-9d1a-{age:012}"),
        version: "0.1.0".to_owned(),
        kernel: "6.12.117".to_owned(),
        started_unix_ms: now_unix_ms.saturating_sub(age * hour),
        ready_ms: 2_480,
        seen_ms: ran,
        phases: running.to_vec(),
        down,
    };
    let down = |cause: &str, by: &str, detail: &str| DownRecord {
        cause: cause.to_owned(),
        by: by.to_owned(),
        detail: detail.to_owned(),
        complete: true,
        ..DownRecord::default()
    };
    let phase = |name: &str, started_ms: u64, took_usec: u64| PhaseRecord {
        name: name.to_owned(),
        started_ms,
        took_usec,
        error: String::new(),
    };
    vec![
        boot(0, 4_000, DownRecord::default()),
        boot(
            3,
            hour,
            DownRecord {
                phases: vec![
                    phase("services", 3_600_000, 2_180_000),
                    phase("kill", 3_602_180, 400),
                    phase("sync", 3_602_181, 61_000),
                ],
                killed: vec![KilledService {
                    name: "camera".to_owned(),
                    reason: "not gone within 2 s".to_owned(),
                }],
                ..down("operator", "api", "through the API")
            },
        ),
        boot(
            30,
            9 * hour,
            DownRecord {
                panic: "<6>[32400.1] sysrq: Trigger a crash\n\
                        <0>[32400.2] Kernel panic - not syncing: sysrq <triggered> crash\n"
                    .to_owned(),
                ..down(
                    "kernel-panic",
                    "",
                    "Kernel panic - not syncing: sysrq <triggered> crash",
                )
            },
        ),
        boot(
            50,
            20 * hour,
            down("watchdog", "", "PID 1 did not feed the watchdog in time."),
        ),
        boot(
            70,
            2 * hour,
            down(
                "power-loss",
                "",
                "Nothing was said: the power went, or a reset came from outside.",
            ),
        ),
    ]
}
