//! A box to look at the console with, without a box: fake neighbours, and the sockets for
//! `kos-api --control DIR/init.sock --infer DIR/infer.sock`.
//!
//! `cargo run --release -p kos-api --example fake-box -- DIR [--no-model] [--services COUNT] [--trouble CODE]`
//!
//! CODE is one of PID 1's codes for what is wrong with the data disk, such as `full` or `corrupt`.

#![allow(clippy::unwrap_used, reason = "the fakes are those of the tests")]

#[path = "../tests/api/fakes/mod.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod fakes;

use std::path::PathBuf;
use std::time::Duration;

use fakes::infer::FakeInfer;
use fakes::init::{Data, FakeInit};

/// What PID 1 says in each kind of trouble.
const TROUBLES: [Data; 8] = [
    Data {
        kind: "tmpfs",
        detail: "No disk is named for the data of this box.",
        problem: "not-named",
        advice: "What is stored now is lost when the box turns off. Start the box from a disk that \
                 was written with 'cargo xtask flash', or name its disk with the kernel argument \
                 kos.disk or kos.data.",
        free: 7_700_000_000,
    },
    Data {
        kind: "tmpfs",
        detail: "/dev/mmcblk0 has no data partition.",
        problem: "missing",
        advice: "What is stored now is lost when the box turns off. Check that the disk is plugged \
                 in and restart the box. If the disk is there and only its data partition is gone, \
                 a factory reset makes a new one.",
        free: 7_700_000_000,
    },
    Data {
        kind: "tmpfs",
        detail: "Both /dev/sda and /dev/sdb have the identity of this box's disk.",
        problem: "ambiguous",
        advice: "What is stored now is lost when the box turns off. One of the disks is a copy of \
                 the other: unplug it and restart the box.",
        free: 7_700_000_000,
    },
    Data {
        kind: "tmpfs",
        detail: "There is no file system on /dev/mmcblk0p4, or its beginning is damaged.",
        problem: "corrupt",
        advice: "What is stored now is lost when the box turns off. To rescue what is on the disk, \
                 connect it to another computer and repair it there (fsck.ext4). A factory reset \
                 makes it empty and usable again.",
        free: 7_700_000_000,
    },
    Data {
        kind: "disk",
        detail: "The file system on /dev/nvme0n1p2 has met 3 errors.",
        problem: "errors",
        advice: "Copy what matters from the box soon, as the disk may be failing. A factory reset \
                 makes the file system anew; if the errors come back, replace the disk.",
        free: 5_400_000_000,
    },
    Data {
        kind: "disk",
        detail: "/dev/nvme0n1p2 is full: 3.1 MB of 7.8 GB are free.",
        problem: "full",
        advice: "Delete models or files that are not needed. Until then nothing can be stored.",
        free: 3_100_000,
    },
    Data {
        kind: "tmpfs",
        detail: "The disk of /dev/mmcblk0p4 cannot be written to.",
        problem: "read-only",
        advice: "What is stored now is lost when the box turns off. Models on the disk can be used. \
                 Move the card's write-protect switch, or make the machine let the disk be \
                 written, and restart the box. A card that stays read-only is worn out: replace it.",
        free: 7_700_000_000,
    },
    Data {
        kind: "disk",
        detail: "The data partition could not be made larger: the kernel uses the table as it was.",
        problem: "not-grown",
        advice: "The box works with the room that it had before. Restart it to try again; if that \
                 does not help, a factory reset does.",
        free: 5_400_000_000,
    },
];

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().expect("a directory for the sockets"));
    let arguments: Vec<String> = arguments.collect();
    let has_model = !arguments.iter().any(|argument| argument == "--no-model");
    let trouble = arguments
        .iter()
        .position(|argument| argument == "--trouble")
        .map(|index| &arguments[index + 1]);
    let services = arguments
        .iter()
        .position(|argument| argument == "--services")
        .map(|index| arguments[index + 1].parse().expect("a number of services"));
    let (control, infer) = (directory.join("init.sock"), directory.join("infer.sock"));
    for socket in [&control, &infer] {
        let _ = std::fs::remove_file(socket);
    }
    let init = FakeInit::start(&control);
    if let Some(services) = services {
        init.grow(services);
    }
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
    if let Some(code) = trouble {
        let data = TROUBLES.into_iter().find(|data| data.problem == code);
        // One that goes with everything, to see both.
        let setup = if code == "corrupt" {
            "kos-box.toml, line 3, column 11: network.gateway: found '192.168.2.1', allowed: \
             another address in the network of 192.168.1.20/24"
        } else {
            ""
        };
        init.set_machine(data.expect("a code of PID 1"), setup);
    }
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
