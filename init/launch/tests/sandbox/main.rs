//! What a sandbox holds and what it holds back, seen from inside, with all of the kernel's parts
//! real. Wants root; without it each test says that it was skipped.

#![allow(clippy::unwrap_used)] // Helpers of tests, which the lint does not see as tests.

mod fixture;
mod sets;

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::Path;

use fixture::{Sandbox, USER, calls, privileged, probe, run, spec, start, start_with};
use kos_manifest::launch::{Access, LAUNCH_FAILED, LaunchReport, ProcessLimits, View};
use kos_sys::filter::Internet;
use kos_sys::reap::Exit;

/// `name value` lines as a map.
fn lines(text: &str) -> BTreeMap<String, String> {
    let pair = |line: &str| {
        let (name, value) = line.split_once([' ', '\t'])?;
        let value: Vec<&str> = value.split_whitespace().collect();
        Some((name.trim_end_matches(':').to_owned(), value.join(" ")))
    };
    text.lines().filter_map(pair).collect()
}

fn view(source: &Path, target: &str, access: Access) -> View {
    View {
        source: source.to_owned(),
        target: target.into(),
        access,
        optional: false,
    }
}

#[test]
fn the_program_is_nobody_and_may_nothing() {
    if !privileged("the_program_is_nobody_and_may_nothing") {
        return;
    }
    let status = lines(&run(&spec(&["status"])).success());
    let ids = format!("{USER} {USER} {USER} {USER}");
    let nothing = "0000000000000000";
    for (key, expected) in [
        ("Uid", ids.as_str()),
        ("Gid", ids.as_str()),
        ("Groups", ""),
        ("CapInh", nothing),
        ("CapPrm", nothing),
        ("CapEff", nothing),
        ("CapBnd", nothing),
        ("CapAmb", nothing),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
        ("SigBlk", nothing),
        ("PPid", "1"),
    ] {
        assert_eq!(
            status.get(key).map_or("", String::as_str),
            expected,
            "{key}"
        );
    }
}

#[test]
fn a_user_namespace_has_one_user_and_no_rights() {
    if !privileged("a_user_namespace_has_one_user_and_no_rights") {
        return;
    }
    let mut spec = spec(&["user-namespace"]);
    // Below the filter: the namespace itself must refuse.
    spec.calls = calls(&["default", "processes"]);
    spec.calls
        .extend(["unshare", "setresuid"].map(str::to_owned));
    spec.user_namespace = true;
    let told = lines(&run(&spec).success());
    let map = format!("{USER} 1");
    let nothing = "0000000000000000";
    for (key, expected) in [
        (USER.to_string().as_str(), map.as_str()),
        ("Uid", &format!("{USER} {USER} {USER} {USER}")),
        ("CapEff", nothing),
        ("CapPrm", nothing),
        ("CapBnd", nothing),
        ("NoNewPrivs", "1"),
        // ENOSPC: none may be made; EINVAL: there is no such user.
        ("unshare", "28"),
        ("become-root", "22"),
    ] {
        assert_eq!(told.get(key).map_or("", String::as_str), expected, "{key}");
    }
    assert_eq!(told["namespace"], "own", "{told:?}");
}

/// Where such a file may even be executed: it is what the sandbox is made for.
#[test]
fn a_setuid_program_and_its_capabilities_give_nothing() {
    if !privileged("a_setuid_program_and_its_capabilities_give_nothing") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("root");
    std::fs::copy(probe(), &program).unwrap();
    let rights = std::os::unix::fs::PermissionsExt::from_mode(0o6755);
    std::fs::set_permissions(&program, rights).unwrap();
    // VFS_CAP_REVISION_2, effective, every capability that a kernel has.
    let mut all = vec![1, 0, 0, 2];
    all.extend([
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 1, 0, 0, 0, 0, 0, 0,
    ]);
    kos_sys::attempts::set_file_capability(&program, &all).unwrap();
    for namespace in [false, true] {
        let mut spec = spec(&["status"]);
        spec.program = program.clone();
        spec.user_namespace = namespace;
        let status = lines(&run(&spec).success());
        let nothing = "0000000000000000";
        assert_eq!(status["Uid"], format!("{USER} {USER} {USER} {USER}"));
        assert_eq!(status["Gid"], format!("{USER} {USER} {USER} {USER}"));
        assert_eq!(
            (status["CapPrm"].as_str(), status["CapEff"].as_str()),
            (nothing, nothing)
        );
    }
}

#[test]
fn sockets_and_secrets_are_passed_on() {
    if !privileged("sockets_and_secrets_are_passed_on") {
        return;
    }
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let other = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let secret = kos_sys::sockets::memfd_sealed("secret", b"open sesame").unwrap();
    let mut spec = spec(&["passed"]);
    spec.sockets = vec!["web".to_owned(), "dns".to_owned()];
    spec.credentials = vec!["code".to_owned()];
    spec.user_namespace = true;
    let passed = [socket.as_fd(), other.as_fd(), secret.as_fd()];
    let told = lines(&start_with(&spec, &passed).finish().success());
    for (key, expected) in [
        ("LISTEN_PID", "own"),
        ("LISTEN_FDS", "2"),
        ("LISTEN_FDNAMES", "web:dns"),
        ("CREDENTIALS_FDS", "code=5"),
        ("socket-3", "socket"),
        ("socket-4", "socket"),
        ("by-name", "open sesame"),
        ("by-descriptor", "open sesame"),
        ("write", "1"),
    ] {
        assert_eq!(told.get(key).map_or("", String::as_str), expected, "{key}");
    }
    assert_eq!(told["descriptors"], "0 1 2 3 4 5 6", "{told:?}");
}

#[test]
fn a_network_of_its_own_has_a_loopback_device() {
    if !privileged("a_network_of_its_own_has_a_loopback_device") {
        return;
    }
    let mut spec = spec(&["talk"]);
    spec.calls = calls(&["default", "network"]);
    spec.internet = Internet::Datagrams;
    // ENETUNREACH, ENETUNREACH
    assert_eq!(run(&spec).success(), "tcp 101\nudp 101\n");
    spec.loopback = true;
    assert_eq!(run(&spec).success(), "tcp 0\nudp 0\n");
}

#[test]
fn each_process_has_its_limits() {
    if !privileged("each_process_has_its_limits") {
        return;
    }
    let mut spec = spec(&["limits"]);
    spec.limits = ProcessLimits {
        open_files: 32,
        file_size: Some(4096),
        locked_memory: 8192,
        stack: 1 << 20,
    };
    let told = run(&spec).success();
    for line in [
        "Max open files 32 32 files",
        "Max file size 4096 4096 bytes",
        "Max locked memory 8192 8192 bytes",
        "Max stack size 1048576 1048576 bytes",
        "Max core file size 0 0 bytes",
        "Max msgqueue size 0 0 bytes",
    ] {
        assert!(told.contains(line), "{line} is not in {told}");
    }
}

#[test]
fn a_compiler_that_may_makes_code() {
    if !privileged("a_compiler_that_may_makes_code") {
        return;
    }
    let mut spec = spec(&["code"]);
    // EPERM of the filter, EACCES of the kernel's own refusal.
    assert_eq!(run(&spec).success(), "at once 1\nlater 13\n");
    spec.writable_code = true;
    assert_eq!(run(&spec).success(), "at once 0\nlater 0\n");
}

#[test]
fn a_named_capability_is_kept_and_no_other() {
    if !privileged("a_named_capability_is_kept_and_no_other") {
        return;
    }
    let mut spec = spec(&["status"]);
    spec.capabilities = vec!["net_bind_service".to_owned()];
    let status = lines(&run(&spec).success());
    for key in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status[key], "0000000000000400", "{key}");
    }
}

#[test]
fn nothing_outside_can_be_reached_or_changed() {
    if !privileged("nothing_outside_can_be_reached_or_changed") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (read, write) = (
        directory.path().join("read"),
        directory.path().join("write"),
    );
    for path in [&read, &write] {
        std::fs::create_dir(path).unwrap();
        std::os::unix::fs::chown(path, Some(USER), Some(USER)).unwrap();
    }
    std::fs::copy(probe(), write.join("copy")).unwrap();
    let mut spec = spec(&["try"]);
    spec.view.push(view(&read, "/view/read", Access::Read));
    spec.view.push(view(&write, "/view/write", Access::Write));
    spec.calls = calls(&["default", "network", "processes"]);
    spec.listen = Some(vec![]);
    let shared = lines(&run(&spec).success());
    spec.user_namespace = true;
    let result = lines(&run(&spec).success());
    assert_eq!(shared, result, "a user namespace changes no answer");
    use nix::errno::Errno::{EACCES, ENOENT, EPERM, EROFS};
    let denied: BTreeMap<&str, &[nix::errno::Errno]> = BTreeMap::from([
        ("read-passwd", &[ENOENT, EACCES] as &[_]),
        ("become-code", &[EACCES]),
        ("memory-file-executable", &[EPERM]),
        ("read-shadow-through-proc", &[ENOENT]),
        ("write-root", &[EROFS, EACCES]),
        ("write-program", &[EROFS, EACCES]),
        ("write-read-view", &[EROFS, EACCES]),
        ("write-comm", &[EROFS, EACCES]),
        ("write-sysctl", &[ENOENT, EROFS, EACCES]),
        ("udp", &[EPERM]),
        ("sysrq", &[ENOENT, EROFS, EACCES]),
        ("memory-of-init", &[ENOENT]),
        ("exec-from-view", &[EACCES]),
        ("tcp-bind", &[EACCES]),
        ("mount", &[EPERM]),
        ("unmount", &[EPERM]),
        ("unshare-user", &[EPERM]),
        ("chroot", &[EPERM]),
        ("ptrace", &[EPERM]),
        ("signal-init", &[EPERM]),
        ("become-root", &[EPERM]),
    ]);
    for (name, value) in &result {
        let errno = nix::errno::Errno::from_raw(value.parse().unwrap());
        match denied.get(name.as_str()) {
            Some(expected) => assert!(expected.contains(&errno), "{name}: {errno:?}"),
            None => assert_eq!(value, "0", "{name}: {errno:?}"),
        }
    }
    assert!(
        denied.keys().all(|name| result.contains_key(*name)),
        "{result:?}"
    );
    assert_eq!(std::fs::read_to_string(write.join("file")).unwrap(), "x");
}

#[test]
fn what_a_runtime_needs_works_with_the_default_calls() {
    if !privileged("what_a_runtime_needs_works_with_the_default_calls") {
        return;
    }
    for path in [None, Some("/proc/meminfo")] {
        let mut spec = spec(&["usable"]);
        spec.user_namespace = path.is_none();
        if let Some(path) = path {
            spec.view.push(view(Path::new(path), path, Access::Read));
        }
        assert_eq!(run(&spec).success(), "usable\n");
    }
}

#[test]
fn of_proc_only_processes_and_sizes_are_left() {
    if !privileged("of_proc_only_processes_and_sizes_are_left") {
        return;
    }
    assert_eq!(
        run(&spec(&["list", "/proc/self/net/../fd"])).success(),
        "0 1 2 3\n"
    );
    // Not even the launcher is seen.
    let seen = run(&spec(&["list", "/proc"])).success();
    assert_eq!(seen, "2 self thread-self\n");
    // Only what is named may be listed: `/dev` is not, its nodes are.
    assert_eq!(run(&spec(&["list", "/dev"])).exit, Exit::Code(101));
    let mut with_sysctl = spec(&["list", "/proc/sys/net"]);
    with_sysctl.view.push(view(
        Path::new("/proc/sys/net"),
        "/proc/sys/net",
        Access::Read,
    ));
    assert!(run(&with_sysctl).success().contains("ipv4"));
    with_sysctl.args = vec!["list".to_owned(), "/proc/fs".to_owned()];
    assert_eq!(run(&with_sysctl).success(), "\n");
}

#[test]
fn the_environment_and_the_descriptors_are_the_specs() {
    if !privileged("the_environment_and_the_descriptors_are_the_specs") {
        return;
    }
    let mut with_environment = spec(&["environment"]);
    with_environment.environment = BTreeMap::from([("NAME".to_owned(), "a value".to_owned())]);
    assert_eq!(run(&with_environment).success(), "NAME=a value\n");
    // 3 is the directory being listed.
    assert_eq!(run(&spec(&["descriptors"])).success(), "0 1 2 3\n");
}

#[test]
fn the_end_is_reported_as_it_was() {
    if !privileged("the_end_is_reported_as_it_was") {
        return;
    }
    for (arguments, code, signal, exit) in [
        (&["exit", "7"] as &[&str], Some(7), None, 7),
        (&["exit", "125"], Some(125), None, 125),
        (&["abort"], None, Some(6), 134),
    ] {
        let launch = start(&spec(arguments));
        let launcher = launch.child.pid;
        let outcome = launch.finish();
        let [(executing, program), (ended, supervisor)] = outcome.reports.as_slice() else {
            panic!("{:?}", outcome.reports);
        };
        assert_eq!(*executing, LaunchReport::Executing);
        assert_eq!(*ended, LaunchReport::Exited { code, signal });
        assert!(*program != launcher && *program > 1);
        assert_eq!((*supervisor, outcome.exit), (launcher, Exit::Code(exit)));
    }
}

#[test]
fn a_signal_reaches_the_program() {
    if !privileged("a_signal_reaches_the_program") {
        return;
    }
    // All that a manifest's `stop.signal` may be.
    for signal in [15, 2, 1, 3, 10, 12] {
        let mut launch = start(&spec(&["wait"]));
        launch.output_holds("ready");
        launch.child.signal(signal).unwrap();
        let outcome = launch.finish();
        let last = outcome.reports.last().unwrap();
        assert_eq!(
            last.0,
            LaunchReport::Exited {
                code: None,
                signal: Some(signal)
            }
        );
    }
}

#[test]
fn a_signal_that_comes_before_the_program_is_not_lost() {
    if !privileged("a_signal_that_comes_before_the_program_is_not_lost") {
        return;
    }
    // The sandbox has not even been begun: the launcher has just been executed.
    let launch = start(&spec(&["wait"]));
    launch.child.signal(15).unwrap();
    let outcome = launch.finish();
    let (code, signal) = (None, Some(15));
    let last = outcome.reports.last().unwrap();
    assert_eq!(last.0, LaunchReport::Exited { code, signal });
}

#[test]
fn orphans_are_collected() {
    if !privileged("orphans_are_collected") {
        return;
    }
    let mut spec = spec(&["orphans"]);
    spec.calls = calls(&["default", "processes"]);
    assert_eq!(run(&spec).success(), "all collected\n");
}

#[test]
fn without_the_set_no_process_is_started() {
    if !privileged("without_the_set_no_process_is_started") {
        return;
    }
    let denied = (nix::errno::Errno::EPERM as i32).to_string();
    assert_eq!(run(&spec(&["again"])).success().trim(), denied);
}

#[test]
fn what_cannot_be_launched_says_why() {
    if !privileged("what_cannot_be_launched_says_why") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/etc", directory.path().join("link")).unwrap();
    let missing = directory.path().join("missing");
    type Change<'a> = Box<dyn Fn(&mut Sandbox) + 'a>;
    let cases: [(Change, &[&str]); 5] = [
        (
            Box::new(|spec| spec.view.push(view(&missing, "/x", Access::Read))),
            &["Mounts", "missing"],
        ),
        (
            Box::new(|spec| {
                spec.view
                    .push(view(&directory.path().join("link"), "/x", Access::Read));
            }),
            &["Mounts", "link", "symbolic"],
        ),
        (
            Box::new(|spec| spec.program = "/bin/no-such".into()),
            &["Mounts", "/bin/no-such"],
        ),
        (
            Box::new(|spec| spec.capabilities = vec!["all".into()]),
            &["Identity", "all"],
        ),
        (
            Box::new(|spec| spec.program = "/etc/passwd".into()),
            &["Exec", "/etc/passwd"],
        ),
    ];
    for (change, expected) in cases {
        let mut spec = spec(&[]);
        change(&mut spec);
        let outcome = run(&spec);
        let failure = outcome.failure();
        for part in expected {
            assert!(failure.contains(part), "{part} is not in: {failure}");
        }
        assert_eq!(outcome.exit, Exit::Code(LAUNCH_FAILED));
    }
}

/// Not an assertion about time: it prints what a launch costs here.
#[test]
fn a_launch_is_measured() {
    if !privileged("a_launch_is_measured") {
        return;
    }
    let mut milliseconds = Vec::new();
    for _ in 0..20 {
        let launch = start(&spec(&["exit", "0"]));
        assert_eq!(launch.report().unwrap().0, LaunchReport::Executing);
        milliseconds.push(launch.started.elapsed().as_secs_f64() * 1000.0);
        launch.finish().success();
    }
    milliseconds.sort_by(f64::total_cmp);
    let mut launch = start(&spec(&["wait"]));
    launch.output_holds("ready");
    let pid = launch.child.pid;
    let memory = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let memory = lines(&memory);
    println!(
        "spawn to exec: median {:.2} ms, worst {:.2} ms; supervisor: {} resident, {} its own",
        milliseconds[10], milliseconds[19], memory["VmRSS"], memory["RssAnon"],
    );
    launch.child.signal(9).unwrap();
    assert_eq!(launch.finish().exit, Exit::Signal(9));
}
