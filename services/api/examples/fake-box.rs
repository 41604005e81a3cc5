//! A box to look at the console with, without a box: fake neighbours, and the sockets for
//! `kos-api --control DIR/init.sock --infer DIR/infer.sock`.
//!
//! `cargo run --release -p kos-api --example fake-box -- DIR [--no-model]`

#![allow(clippy::unwrap_used, reason = "the fakes are those of the tests")]

#[path = "../tests/api/fakes/mod.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod fakes;

use std::path::PathBuf;
use std::time::Duration;

use fakes::infer::FakeInfer;
use fakes::init::FakeInit;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().expect("a directory for the sockets"));
    let has_model = arguments.next().as_deref() != Some("--no-model");
    let (control, infer) = (directory.join("init.sock"), directory.join("infer.sock"));
    for socket in [&control, &infer] {
        let _ = std::fs::remove_file(socket);
    }
    let init = FakeInit::start(&control);
    let _infer = FakeInfer::start(&infer, Duration::from_millis(60), has_model);
    for (level, line) in [
        (6, "Linux version 6.12.117 (kos@build)"),
        (
            6,
            "virtio_blk virtio1: [vda] 1048576 512-byte logical blocks",
        ),
        (
            4,
            "clocksource: timekeeping watchdog: marking clocksource 'tsc' as unstable",
        ),
        (3, "ata1: SRST failed (errno=-16)"),
    ] {
        init.log("kernel", level, line);
    }
    for line in ["phase mounts ok 9 ms", "phase data ok 212 ms", "ready"] {
        init.log("init", 6, line);
    }
    init.change("infer", |infer| {
        infer.status_text = "tiny-llama:latest loaded".to_owned();
        infer.memory_max = 2 << 30;
        infer.memory = 312 << 20;
        infer.restarts = 1;
        infer.last_failure = "killed by SIGKILL".to_owned();
    });
    let mut round: u64 = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        round += 1;
        let level = match round % 17 {
            0 => 3,
            5 => 4,
            9 => 7,
            _ => 6,
        };
        let line = format!(
            "answered request {round} in {} ms, 12 tokens, client 10.0.2.2",
            round % 90
        );
        init.log("infer", level, &line);
        init.change("infer", |infer| {
            infer.cpu_usec += 180_000;
            infer.uptime_ms += 500;
        });
        init.change("api", |api| {
            api.cpu_usec += 9_000;
            api.uptime_ms += 500;
        });
        match round % 120 {
            40 => init.set_state("net", "starting", "waits for an address"),
            50 => init.set_state("net", "ready", ""),
            80 => init.set_state("net", "backoff", "exited with 1; again in 4 s"),
            90 => init.set_state("net", "ready", ""),
            _ => {}
        }
    }
}
