//! A case for every key: what is written arrives in the validated service.

use core::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::*;

/// Every key of a service that is no template, with a value that is not its default.
pub(super) const FULL: &str = r#"
name = "echo"
description = "Says what it hears"
program = "/bin/echo"
args = ["--loud", "two\nlines"]
uid = 1001
enabled = false
essential = true
after = ["first"]
requires = ["second"]
wants = ["third"]
stop-before = ["first"]
credentials = ["pairing-code"]
watchdog = "30s"

[environment]
GREETING = "hello"

[conditions]
profiles = ["server"]
boards = ["rpi4"]
devices = ["input/event0"]

[readiness]
kind = "http"
address = "unix:/run/kos/echo/http/echo.sock"
path = "/ready"
timeout = "5s"

[restart]
policy = "on-failure"
delay = "300ms"
max-delay = "4s"
start-limit = 7
start-window = "2m"

[stop]
signal = "SIGINT"
timeout = "3s"

[[steps.pre-start]]
program = "/bin/prepare"
args = ["now"]
timeout = "1m"

[[steps.post-stop]]
program = "/bin/tidy-up"

[[sockets]]
name = "web"
listen = "tcp:[::1]:8080"
backlog = 7

[[sockets]]
name = "datagrams"
listen = "udp:127.0.0.1:53"

[[sockets]]
name = "local"
listen = "unix:/run/kos/echo/local.sock"

[timer]
at = "sun 03:30"
spread = "1h"

[limits]
memory = "64M"
memory-high = "48M"
memory-low = "16M"
memory-swap = "8M"
oom-group = false
cpu = 0.5
cpu-weight = 200
io-weight = 300
io-read = "10M"
io-write = "5M"
pids = 8
disk = "1G"
disk-files = 100
open-files = 99
file-size = "2M"
locked-memory = "1M"
stack = "4M"

[[pressure]]
resource = "memory"
level = "full"
threshold = "100ms"
window = "1s"
action = "signal"
signal = "SIGUSR1"

[[pressure]]
resource = "io"
threshold = "1s"
action = "freeze"
freeze-for = "3s"

[sandbox]
network = "host"
listen = [81, 82]
connect = [443]
udp = true
read = ["/data/models"]
write = ["/data/shared"]
execute = ["/bin"]
devices = ["video0", "null"]
state = true
cache = true
runtime = true
tmp = "1M"
capabilities = ["net_raw"]
syscalls = ["network"]
syscalls-add = ["ptrace", "clone/thread"]
syscalls-remove = ["chmod"]
writable-code = true
user-namespace = false
control = "observe"
"#;

/// Services that [`FULL`] names.
pub(super) fn others() -> Vec<(String, String)> {
    ["first", "second", "third"]
        .into_iter()
        .zip(1100..)
        .map(|(name, uid)| {
            let text = GOOD
                .replace("\"echo\"", &format!("\"{name}\""))
                .replace("1001", &format!("{uid}"));
            (format!("{name}.toml"), text)
        })
        .collect()
}

fn full() -> Service {
    let files = others()
        .into_iter()
        .chain([("echo.toml".to_owned(), FULL.to_owned())]);
    let set = ServiceSet::parse(files, &sets()).unwrap();
    set.get("echo").unwrap().clone()
}

#[test]
fn who_it_is_and_what_it_depends_on() {
    let echo = full();
    assert_eq!(echo.args, ["--loud", "two\nlines"]);
    assert_eq!(
        (echo.program.as_path(), echo.uid),
        (Path::new("/bin/echo"), 1001)
    );
    assert_eq!((echo.enabled, echo.essential), (false, true));
    assert_eq!((echo.origin, echo.instance_of), (Origin::Image, None));
    assert_eq!(echo.description, "Says what it hears");
    assert_eq!(echo.after, ["first", "second"]);
    assert_eq!(
        (echo.requires, echo.wants),
        (vec!["second".into()], vec!["third".into()])
    );
    assert_eq!(echo.stop_before, ["first"]);
    assert_eq!(echo.environment["GREETING"], "hello");
    assert_eq!(echo.credentials, ["pairing-code"]);
    assert_eq!(echo.conditions.profiles, ["server"]);
    assert_eq!(echo.conditions.boards, ["rpi4"]);
    assert_eq!(echo.conditions.devices, ["input/event0"]);
}

#[test]
fn how_it_lives() {
    let echo = full();
    let seconds = Duration::from_secs;
    let readiness = Readiness {
        kind: ReadinessKind::Http,
        address: Some(Address::Unix("/run/kos/echo/http/echo.sock".into())),
        path: "/ready".into(),
        timeout: seconds(5),
    };
    assert_eq!(echo.readiness, readiness);
    assert_eq!(echo.watchdog, Some(seconds(30)));
    let restart = Restart {
        policy: RestartPolicy::OnFailure,
        delay: Duration::from_millis(300),
        max_delay: seconds(4),
        start_limit: 7,
        start_window: seconds(120),
    };
    assert_eq!(echo.restart, restart);
    let stop = Stop {
        signal: 2,
        timeout: seconds(3),
    };
    assert_eq!(echo.stop, stop);
    let step = |program: &str, args: &[&str], timeout| StepProgram {
        program: program.into(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        timeout: seconds(timeout),
    };
    assert_eq!(echo.pre_start, [step("/bin/prepare", &["now"], 60)]);
    assert_eq!(echo.post_stop, [step("/bin/tidy-up", &[], 30)]);
    let at = |text: &str| text.parse::<SocketAddr>().unwrap();
    let socket = |name: &str, address, backlog| ListenSocket {
        name: name.into(),
        address,
        backlog,
    };
    let sockets = [
        socket("web", Address::Tcp(at("[::1]:8080")), 7),
        socket("datagrams", Address::Udp(at("127.0.0.1:53")), 128),
        socket(
            "local",
            Address::Unix("/run/kos/echo/local.sock".into()),
            128,
        ),
    ];
    assert_eq!(echo.sockets, sockets);
    let timer = Timer {
        schedule: Schedule::At {
            weekday: Some(6),
            minute: 210,
        },
        spread: seconds(3600),
    };
    assert_eq!(echo.timer, Some(timer));
    let pressure = |resource, level, threshold, window, action| Pressure {
        resource,
        level,
        threshold: Duration::from_millis(threshold),
        window: Duration::from_millis(window),
        action,
    };
    let triggers = [
        pressure(
            PressureResource::Memory,
            PressureLevel::Full,
            100,
            1000,
            PressureResponse::Signal(10),
        ),
        pressure(
            PressureResource::Io,
            PressureLevel::Some,
            1000,
            2000,
            PressureResponse::Freeze(seconds(3)),
        ),
    ];
    assert_eq!(echo.pressure, triggers);
}

#[test]
fn what_it_may_use_and_do() {
    let echo = full();
    let limits = Limits {
        memory: Some(64 << 20),
        memory_high: Some(48 << 20),
        memory_low: 16 << 20,
        memory_swap: 8 << 20,
        oom_group: false,
        cpu_millis: Some(500),
        cpu_weight: 200,
        io_weight: 300,
        io_read: Some(10 << 20),
        io_write: Some(5 << 20),
        pids: 8,
        disk: Some(1 << 30),
        disk_files: 100,
        open_files: 99,
        file_size: Some(2 << 20),
        locked_memory: 1 << 20,
        stack: 4 << 20,
    };
    assert_eq!(echo.limits, limits);
    let sandbox = Sandbox {
        network: Network::Host,
        listen: vec![81, 82],
        connect: vec![443],
        udp: true,
        read: vec!["/data/models".into()],
        write: vec!["/data/shared".into()],
        execute: vec!["/bin".into()],
        devices: ["null", "zero", "full", "random", "urandom", "video0"]
            .map(str::to_owned)
            .to_vec(),
        state: true,
        cache: true,
        runtime: true,
        tmp_bytes: 1 << 20,
        capabilities: vec!["net_raw".into()],
        syscalls: vec!["network".into()],
        syscalls_add: vec!["clone/thread".into(), "ptrace".into()],
        syscalls_remove: vec!["chmod".into()],
        writable_code: true,
        user_namespace: false,
        control: ControlGrant::Observe,
    };
    assert_eq!(echo.sandbox, sandbox);
}

#[test]
fn the_other_forms_of_a_value() {
    let one = |extra: &str| {
        let set = parse(&[("echo.toml", &format!("{GOOD}{extra}\n"))]).unwrap();
        set.get("echo").unwrap().clone()
    };
    let unlimited = one("[limits]\nmemory = \"none\"\ndisk = \"none\"");
    assert_eq!(
        (unlimited.limits.memory, unlimited.limits.disk),
        (None, None)
    );
    let every = one("[timer]\nevery = \"15m\"").timer.unwrap();
    assert_eq!(every.schedule, Schedule::Every(Duration::from_secs(900)));
    assert_eq!(every.spread, Duration::ZERO);
    let asked = one(
        "[readiness]\nkind = \"socket\"\naddress = \"tcp:8080\"\n[sandbox]\nnetwork = \"host\"\nlisten = [8080]",
    );
    let loopback = Address::Tcp("127.0.0.1:8080".parse().unwrap());
    assert_eq!(asked.readiness.address, Some(loopback.clone()));
    assert!(!asked.sandbox.user_namespace);
    // PID 1 keeps the socket, and asks through it whether anybody answers.
    let kept = one(
        "[readiness]\nkind = \"http\"\naddress = \"tcp:8080\"\n[[sockets]]\nname = \"web\"\nlisten = \"tcp:0.0.0.0:8080\"",
    );
    assert_eq!(kept.readiness.address, Some(loopback));
    assert!(kept.sandbox.user_namespace);
    // A delay that is longer than the longest one by default lengthens that.
    let slow = one("[restart]\ndelay = \"2m\"");
    assert_eq!(slow.restart.max_delay, Duration::from_secs(120));
    assert_eq!(one("[sandbox]\ntmp = \"0\"").sandbox.tmp_bytes, 0);
}

#[test]
fn a_template_becomes_its_instances() {
    let text = r#"
name = "camera@"
description = "Camera in the %i"
program = "/bin/camera"
args = ["--name", "%i", "100%%"]
[environment]
WHERE = "%i"
[instances]
garage = 1501
front-door = 1502
[conditions]
devices = ["video-%i"]
[readiness]
kind = "http"
address = "unix:/run/kos/camera@%i/http"
path = "/%i"
[[steps.pre-start]]
program = "/bin/camera"
args = ["--probe", "%i"]
[[sockets]]
name = "frames"
listen = "unix:/run/kos/camera@%i/frames"
[sandbox]
runtime = true
read = ["/data/masks/%i"]
write = ["/data/films/%i"]
execute = ["/bin/%i"]
devices = ["video-%i"]
"#;
    let set = parse(&[("camera@.toml", text)]).unwrap();
    let names: Vec<&str> = set.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, ["camera@front-door", "camera@garage"]);
    let garage = set.get("camera@garage").unwrap();
    let template = Some(("camera".to_owned(), "garage".to_owned()));
    assert_eq!((garage.uid, garage.instance_of.clone()), (1501, template));
    assert_eq!(garage.description, "Camera in the garage");
    assert_eq!(garage.args, ["--name", "garage", "100%"]);
    assert_eq!(garage.environment["WHERE"], "garage");
    assert_eq!(garage.conditions.devices, ["video-garage"]);
    let unix = |path: &str| Address::Unix(path.into());
    assert_eq!(
        garage.readiness.address,
        Some(unix("/run/kos/camera@garage/http"))
    );
    assert_eq!(garage.readiness.path, "/garage");
    assert_eq!(garage.pre_start[0].args, ["--probe", "garage"]);
    assert_eq!(
        garage.sockets[0].address,
        unix("/run/kos/camera@garage/frames")
    );
    let sandbox = &garage.sandbox;
    assert_eq!(sandbox.read, [Path::new("/data/masks/garage")]);
    assert_eq!(sandbox.write, [Path::new("/data/films/garage")]);
    assert_eq!(sandbox.execute, [Path::new("/bin/garage")]);
    assert_eq!(sandbox.devices.last().unwrap(), "video-garage");
}

/// The sources of the raw types name their keys; each must have a case in [`FULL`] or be one of a
/// template's.
#[test]
fn no_key_has_been_forgotten_here() {
    let sources = [
        include_str!("../../raw.rs"),
        include_str!("../../raw/limits.rs"),
        include_str!("../../raw/sandbox.rs"),
        include_str!("../../raw/supervision.rs"),
    ];
    let keys = sources.iter().flat_map(|text| {
        text.lines()
            .filter_map(|line| line.strip_prefix("    pub ")?.split_once(": "))
            .map(|(field, _)| field.replace('_', "-"))
    });
    let mut count = 0;
    for key in keys {
        count += 1;
        let written = FULL.contains(&format!("\n{key} = "))
            || FULL.contains(&format!("[{key}]"))
            || FULL.contains(&format!("{key}]]"));
        assert!(
            written || ["instances", "every"].contains(&key.as_str()) || key == "steps",
            "{key} has no case"
        );
    }
    assert!(count > 80, "{count} keys found in the sources");
}
