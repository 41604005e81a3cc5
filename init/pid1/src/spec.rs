//! From a validated service to the spec that `kos-launch` builds a sandbox from.
//!
//! Pure: what a sandbox contains can be read, and tested, here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use kos_manifest::control::SOCKET;
use kos_manifest::launch::{Access, CREDENTIALS_DIRECTORY, LaunchSpec, ProcessLimits, View};
use kos_manifest::seccomp::SyscallSets;
use kos_manifest::service::{ControlGrant, Network, Service, StepProgram};
use kos_sys::filter::{Calls, Internet};

/// Below it each service has its runtime directory, and finds what PID 1 gives it.
pub const RUN: &str = "/run/kos";
/// Where data outlives the boot.
pub const DATA: &str = "/data";
/// Where a service finds its notification socket, whatever it is called outside.
const NOTIFY_INSIDE: &str = "/run/kos/notify";

/// The notification socket of a service, outside of its sandbox.
pub fn notify_socket(name: &str) -> PathBuf {
    Path::new(NOTIFY_INSIDE).join(name)
}

/// The directory that is the service's own until the box goes down.
pub fn runtime_directory(name: &str) -> PathBuf {
    Path::new(RUN).join(name)
}

/// The directory that is the service's own and outlives the boot.
pub fn state_directory(name: &str) -> PathBuf {
    Path::new(DATA).join(name)
}

/// The directory that is the service's own and that PID 1 may empty.
pub fn cache_directory(name: &str) -> PathBuf {
    Path::new(DATA).join("cache").join(name)
}

/// Makes the spec, without what is found out at each start: its secrets and its filters.
pub fn launch_spec(service: &Service) -> LaunchSpec {
    let sandbox = &service.sandbox;
    let name = service.name.as_str();
    let mut environment: BTreeMap<String, String> = service.environment.clone();
    let mut tell = |key: &str, value: &Path| {
        environment.insert(key.to_owned(), value.to_string_lossy().into_owned());
    };
    let mut view = vec![bind(
        notify_socket(name),
        NOTIFY_INSIDE.into(),
        Access::Read,
    )];
    tell("NOTIFY_SOCKET", Path::new(NOTIFY_INSIDE));
    if sandbox.control != ControlGrant::None {
        view.push(bind(SOCKET.into(), SOCKET.into(), Access::Read));
    }
    if !service.credentials.is_empty() {
        // The launcher puts a name there for each that there is.
        tell("CREDENTIALS_DIRECTORY", Path::new(CREDENTIALS_DIRECTORY));
    }
    if sandbox.runtime {
        let path = runtime_directory(name);
        tell("RUNTIME_DIRECTORY", &path);
        view.push(bind(path.clone(), path, Access::Write));
    }
    if sandbox.state {
        let path = state_directory(name);
        tell("STATE_DIRECTORY", &path);
        view.push(bind(path.clone(), path, Access::Write));
    }
    if sandbox.cache {
        let path = cache_directory(name);
        tell("CACHE_DIRECTORY", &path);
        view.push(bind(path.clone(), path, Access::Write));
    }
    for (paths, access) in [
        (&sandbox.read, Access::Read),
        (&sandbox.write, Access::Write),
        (&sandbox.execute, Access::Execute),
    ] {
        for path in paths {
            view.push(View {
                optional: true,
                ..bind(path.clone(), path.clone(), access)
            });
        }
    }
    environment.insert("KOS_SERVICE".to_owned(), name.to_owned());
    if let Some(silence) = service.watchdog {
        environment.insert("WATCHDOG_USEC".to_owned(), silence.as_micros().to_string());
    }
    if let Some(memory) = service.limits.memory {
        environment.insert("KOS_MEMORY_LIMIT".to_owned(), memory.to_string());
    }
    if let Some(millis) = service.limits.cpu_millis {
        let processors = f64::from(millis) / 1000.0;
        environment.insert("KOS_CPU_LIMIT".to_owned(), processors.to_string());
    }
    // A namespace with no network has no ports to guard.
    let ports = |ports: &[u16]| (sandbox.network == Network::Host).then(|| ports.to_vec());
    LaunchSpec {
        name: name.to_owned(),
        program: service.program.clone(),
        args: service.args.clone(),
        environment,
        uid: service.uid,
        gid: service.uid,
        view,
        tmp_bytes: sandbox.tmp_bytes,
        devices: sandbox.devices.clone(),
        capabilities: sandbox.capabilities.clone(),
        filter: Vec::new(),
        own_filter: Vec::new(),
        listen: ports(&sandbox.listen),
        connect: ports(&sandbox.connect),
        loopback: sandbox.network == Network::Own,
        user_namespace: sandbox.user_namespace,
        writable_code: sandbox.writable_code,
        limits: ProcessLimits {
            open_files: u64::from(service.limits.open_files),
            file_size: service.limits.file_size,
            locked_memory: service.limits.locked_memory,
            stack: service.limits.stack,
        },
        sockets: service
            .sockets
            .iter()
            .map(|socket| socket.name.clone())
            .collect(),
        credentials: Vec::new(),
    }
}

/// Makes the spec of a step: the service's sandbox with another program in it, which gets none of
/// the sockets that are kept for the service itself.
pub fn step_spec(service: &Service, step: &StepProgram) -> LaunchSpec {
    LaunchSpec {
        program: step.program.clone(),
        args: step.args.clone(),
        sockets: Vec::new(),
        ..launch_spec(service)
    }
}

/// The system calls that a service may make.
pub fn calls(service: &Service, sets: &SyscallSets) -> Calls {
    let sandbox = &service.sandbox;
    let names: BTreeSet<&String> = sandbox
        .syscalls
        .iter()
        .filter_map(|set| sets.get(set))
        .flatten()
        .chain(&sandbox.syscalls_add)
        .filter(|call| !sandbox.syscalls_remove.contains(call))
        .filter(|call| *call != "listen" || may_listen(service))
        .collect();
    let internet = if sandbox.capabilities.iter().any(|name| name == "net_raw") {
        Internet::Any
    } else if sandbox.udp || sandbox.network != Network::Host {
        // What its own namespace has in it is nobody else's.
        Internet::Datagrams
    } else {
        Internet::Streams
    };
    Calls {
        names: names.into_iter().cloned().collect(),
        internet,
        writable_code: sandbox.writable_code,
    }
}

/// Whether a service has anything to listen on. A TCP socket that listens without having been bound
/// gets a port from the kernel, and no rule about ports is asked.
fn may_listen(service: &Service) -> bool {
    let sandbox = &service.sandbox;
    sandbox.network != Network::Host
        || sandbox.runtime
        || !sandbox.listen.is_empty()
        || sandbox.syscalls_add.iter().any(|call| call == "listen")
}

fn bind(source: PathBuf, target: PathBuf, access: Access) -> View {
    View {
        source,
        target,
        access,
        optional: false,
    }
}

#[cfg(test)]
mod tests {
    use kos_manifest::service::ServiceSet;

    use super::*;

    fn echo(extra: &str) -> (Service, SyscallSets) {
        let set = "name = \"default\"\ndescription = \"d\"\nsyscalls = [\"read\", \"write\", \"listen\"]\n";
        let sets = SyscallSets::parse([("default.toml".to_owned(), set.to_owned())]).unwrap();
        let text = format!(
            "name = \"echo\"\ndescription = \"d\"\nprogram = \"/bin/echo\"\nuid = 1001\n{extra}"
        );
        let services = ServiceSet::parse([("echo.toml".to_owned(), text)], &sets).unwrap();
        (services.get("echo").unwrap().clone(), sets)
    }

    fn spec(extra: &str) -> LaunchSpec {
        launch_spec(&echo(extra).0)
    }

    fn targets(spec: &LaunchSpec) -> Vec<&str> {
        spec.view
            .iter()
            .filter_map(|view| view.target.to_str())
            .collect()
    }

    #[test]
    fn by_default_there_is_nothing_but_the_notification_socket() {
        let spec = spec("");
        assert_eq!(targets(&spec), ["/run/kos/notify"]);
        assert_eq!(spec.view[0].source, Path::new("/run/kos/notify/echo"));
        assert_eq!((spec.listen.as_ref(), spec.capabilities.len()), (None, 0));
        let (service, sets) = echo("");
        assert_eq!(calls(&service, &sets).names, ["listen", "read", "write"]);
    }

    #[test]
    fn without_a_port_there_is_no_listening() {
        let has = |extra: &str| {
            let (service, sets) = echo(extra);
            calls(&service, &sets).names.contains(&"listen".to_owned())
        };
        assert!(has(""));
        assert!(!has("[sandbox]\nnetwork = \"host\"\n"));
        assert!(has("[sandbox]\nnetwork = \"host\"\nlisten = [80]\n"));
    }

    #[test]
    fn sockets_are_as_free_as_the_network_is_narrow() {
        let internet = |extra: &str| {
            let (service, sets) = echo(extra);
            calls(&service, &sets).internet
        };
        assert_eq!(internet(""), Internet::Datagrams);
        let host = "[sandbox]\nnetwork = \"host\"\n";
        assert_eq!(internet(host), Internet::Streams);
        assert_eq!(
            internet(&format!("{host}udp = true\n")),
            Internet::Datagrams
        );
        let raw = format!("{host}capabilities = [\"net_raw\"]\n");
        assert_eq!(internet(&raw), Internet::Any);
    }

    #[test]
    fn what_the_manifest_names_exists_and_is_told() {
        let spec = spec(
            "credentials = [\"pairing-code\"]\n[sandbox]\nstate = true\nruntime = true\n\
             network = \"host\"\nlisten = [80]\nread = [\"/data/models\"]\ncontrol = \"observe\"\n",
        );
        assert_eq!(
            targets(&spec),
            [
                "/run/kos/notify",
                "/run/kos/init.sock",
                "/run/kos/echo",
                "/data/echo",
                "/data/models"
            ]
        );
        assert_eq!(spec.environment["STATE_DIRECTORY"], "/data/echo");
        assert_eq!((spec.listen, spec.connect), (Some(vec![80]), Some(vec![])));
    }

    #[test]
    fn limits_that_a_program_plans_by_are_told() {
        let spec = spec("[limits]\nmemory = \"64M\"\ncpu = 1.5\n");
        assert_eq!(spec.environment["KOS_MEMORY_LIMIT"], "67108864");
        assert_eq!(spec.environment["KOS_CPU_LIMIT"], "1.5");
        let none = self::spec("[limits]\nmemory = \"none\"\n").environment;
        assert!(!none.contains_key("KOS_MEMORY_LIMIT") && !none.contains_key("KOS_CPU_LIMIT"));
    }

    #[test]
    fn a_step_has_the_sandbox_and_not_the_sockets() {
        let sockets = "[[sockets]]\nname = \"web\"\nlisten = \"tcp:0.0.0.0:8080\"\n";
        let (service, _) = echo(sockets);
        let step = StepProgram {
            program: "/bin/step".into(),
            args: vec!["now".to_owned()],
            timeout: std::time::Duration::from_secs(1),
        };
        let own = launch_spec(&service);
        assert_eq!(own.sockets, ["web"]);
        let spec = step_spec(&service, &step);
        assert_eq!(spec.sockets, [""; 0]);
        assert_eq!(
            (spec.program.as_path(), spec.args.as_slice(), spec.view),
            (Path::new("/bin/step"), &["now".to_owned()][..], own.view)
        );
    }
}
