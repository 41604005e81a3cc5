//! Talks to a real QEMU that runs no guest: what the library promises about its process.

use std::time::Duration;

use kos_qemu::{Accelerator, Arch, Attachment, Disk, Error, Firmware, Machine};
use serde_json::json;

/// Generous: the host may be running two guests under TCG.
const LIMIT: Duration = Duration::from_secs(30);

fn halted() -> Machine {
    Machine::new(Arch::X86_64)
        .memory_mib(64)
        .accelerator(Accelerator::Tcg)
        .paused(true)
}

#[test]
fn a_halted_machine_answers_and_quits() {
    let guest = halted().forward(80).forward(11434).start().unwrap();
    let status = guest.qmp("query-status", json!({})).unwrap();
    assert_eq!(status["running"], json!(false));
    let (console, models) = (
        guest.host_port(80).unwrap(),
        guest.host_port(11434).unwrap(),
    );
    assert!(console != 0 && models != 0 && console != models);
    assert!(matches!(
        guest.host_port(81),
        Err(Error::NotForwarded { port: 81, .. })
    ));
    let refused = guest.qmp("no-such-command", json!({})).unwrap_err();
    assert!(matches!(refused, Error::Refused { .. }), "{refused}");
    assert!(guest.is_running());
    assert!(guest.quit().unwrap().success());
    assert_eq!(
        guest.wait_event("SHUTDOWN", LIMIT).unwrap().data["reason"],
        "host-qmp-quit"
    );
    assert!(!guest.is_running());
}

#[test]
fn a_wait_ends_in_time_and_shows_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("serial.log");
    let guest = halted().serial_log(&log).start().unwrap();
    let error = guest
        .wait_line(
            "the ready line",
            |line| line == "ready",
            Duration::from_millis(50),
        )
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("no the ready line within 0.05 s"),
        "{error}"
    );
    assert!(error.contains(log.to_str().unwrap()), "{error}");
    let error = guest.wait_exit(Duration::from_millis(50)).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
}

#[test]
fn what_qemu_says_against_its_arguments_is_shown() {
    let error = halted()
        .argument("-device")
        .argument("warp-drive")
        .start()
        .unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::Ended { .. }), "{text}");
    assert!(text.contains("warp-drive"), "{text}");
}

#[test]
fn dropping_a_guest_ends_its_process() {
    let guest = halted().start().unwrap();
    let answer = guest.qmp("query-name", json!({})).unwrap();
    assert!(answer.is_object());
    let port = halted()
        .forward(80)
        .start()
        .and_then(|other| other.host_port(80))
        .unwrap();
    // The other guest was dropped, so its port is free again.
    drop(std::net::TcpListener::bind(("127.0.0.1", port)).unwrap());
}

#[test]
fn the_accelerator_is_found_in_bounded_time() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("accelerator");
    let host = Arch::of_host().expect("tests run on an architecture of ours");
    let found = Accelerator::detect_remembered(host, &file);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), found.name());
    assert_eq!(Accelerator::detect_remembered(host, &file), found);
}

#[test]
fn every_attachment_is_one_that_qemu_knows() {
    let directory = tempfile::tempdir().unwrap();
    for arch in Arch::ALL {
        let mut machine = Machine::new(arch)
            .memory_mib(64)
            .accelerator(Accelerator::Tcg)
            .paused(true);
        for (index, attachment) in [
            Attachment::Virtio,
            Attachment::Nvme,
            Attachment::Ahci,
            Attachment::Usb,
            Attachment::SdCard,
        ]
        .into_iter()
        .enumerate()
        {
            let path = image(directory.path(), &format!("{index}.img"));
            machine = machine.disk(Disk::new(path).attached(attachment).serial("one"));
        }
        let log = directory.path().join("writes.log");
        let read_only = Disk::new(image(directory.path(), "read-only.img")).read_only(true);
        let logged = Disk::new(image(directory.path(), "logged.img")).write_log(log);
        let guest = machine.disk(read_only).disk(logged).start().unwrap();
        assert!(guest.quit().unwrap().success());
    }
}

#[test]
fn a_disk_grows_while_the_guest_runs() {
    let directory = tempfile::tempdir().unwrap();
    let path = image(directory.path(), "disk.img");
    let guest = halted().disk(Disk::new(&path)).start().unwrap();
    guest.resize_disk(0, 8 << 20).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 8 << 20);
}

#[test]
fn uefi_says_on_the_serial_line_that_it_has_nothing_to_boot() {
    for arch in Arch::ALL {
        let guest = Machine::new(arch)
            .firmware(Firmware::uefi(arch))
            .network(false)
            .accelerator(Accelerator::Tcg)
            .start()
            .unwrap();
        let boots = |line: &str| line.contains("BdsDxe");
        guest
            .wait_line("line of the firmware's boot manager", boots, LIMIT)
            .unwrap();
        assert!(guest.line_time(boots).unwrap() < LIMIT);
        assert_eq!(guest.line_time(|line| line == "never"), None);
    }
}

/// An empty disk of 4 MiB.
fn image(directory: &std::path::Path, name: &str) -> std::path::PathBuf {
    let path = directory.join(name);
    std::fs::File::create(&path)
        .and_then(|file| file.set_len(4 << 20))
        .expect("a temporary directory can be written");
    path
}
