//! The measured services, written as each supervisor reads them: the same program in the nearest
//! equal sandbox that the supervisor can make by itself. `docs/supervise.md` says what that is.

use anyhow::{Context, Result};
use kos_manifest::seccomp::SyscallSets;
use kos_manifest::service::ServiceSet;

use super::peer::Peer;
use crate::cpio::Archive;
use crate::services::read_texts;
use crate::workspace::Workspace;

/// The first service's number, which is its uid as well; the guest's part counts from the same.
const FIRST_NUMBER: u32 = 2001;

/// How many services there are, and how many of them the boot starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Plan {
    /// The guest's word for it.
    pub name: &'static str,
    /// How many there are.
    pub services: u32,
    /// How many are started at boot.
    pub at_boot: u32,
    /// The guest's memory.
    pub memory_mib: u32,
}

impl Plan {
    /// Ten, one at a time.
    pub const FEW: Plan = Plan {
        name: "few",
        services: 10,
        at_boot: 10,
        memory_mib: 1024,
    };
    /// A hundred together.
    pub const MANY: Plan = Plan {
        name: "many",
        services: 100,
        at_boot: 100,
        memory_mib: 1024,
    };
    /// A thousand, for their memory.
    pub const MOST: Plan = Plan {
        name: "most",
        services: 1000,
        at_boot: 1,
        memory_mib: 4096,
    };

    fn numbers(self) -> impl Iterator<Item = (u32, bool)> {
        (0..self.services).map(move |index| (FIRST_NUMBER + index, index < self.at_boot))
    }
}

/// The files that make a peer run this plan's services.
pub fn archive(workspace: &Workspace, peer: Peer, plan: Plan) -> Result<Archive> {
    let mut archive = Archive::default();
    match peer {
        Peer::Kos => kos(workspace, plan, &mut archive)?,
        Peer::Systemd => systemd(plan, &mut archive),
        Peer::Finit => finit(plan, &mut archive),
        Peer::Runit => runit(plan, &mut archive),
        Peer::S6 => s6(plan, &mut archive),
    }
    if peer != Peer::Kos {
        archive.file("etc/passwd", 0o644, passwd(plan).into_bytes());
        archive.file("etc/group", 0o644, group(plan).into_bytes());
        archive.file(
            "etc/nsswitch.conf",
            0o644,
            b"passwd: files\ngroup: files\n".to_vec(),
        );
        archive.file("etc/fstab", 0o644, Vec::new());
    }
    Ok(archive)
}

fn kos(workspace: &Workspace, plan: Plan, archive: &mut Archive) -> Result<()> {
    let image = workspace.image();
    let sets = SyscallSets::parse(read_texts(&image.join("seccomp"))?)?;
    let mut files = Vec::new();
    // The peers run nothing else either.
    for (path, text) in read_texts(&image.join("services"))? {
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        files.push((name, format!("enabled = false\n{text}")));
    }
    for (number, at_boot) in plan.numbers() {
        files.push((
            format!("probe-{number}.toml"),
            kos_manifest(number, at_boot),
        ));
    }
    ServiceSet::parse(files.clone(), &sets).context("the bench's manifests")?;
    for (name, text) in files {
        archive.file(
            &format!("etc/kos/services/{name}"),
            0o644,
            text.into_bytes(),
        );
    }
    Ok(())
}

fn kos_manifest(number: u32, at_boot: bool) -> String {
    format!(
        r#"name = "probe-{number}"
description = "Bench: says when it began"
program = "/bench/kos-bench-probe"
args = ["/bench/report.sock", "{number}"]
uid = {number}
enabled = {at_boot}

[restart]
delay = "10ms"
max-delay = "10ms"
start-limit = 100
start-window = "1s"

[limits]
memory = "128M"
pids = 64

[sandbox]
read = ["/bench"]
"#
    )
}

/// The nearest that systemd 252 has to what kOS does without being told. It has no pid namespace
/// and no Landlock; its device and address filters need BPF and `PrivateIPC` POSIX message queues,
/// which this kernel does not have.
const UNIT: &str = "\
[Unit]
Description=Bench: says when it began
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart=/bench/kos-bench-probe /bench/report.sock %i
Restart=always
RestartSec=0
User=%i
Group=%i
UMask=0077
RootDirectory=/srv/bare
BindReadOnlyPaths=/bench
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
DevicePolicy=closed
PrivateNetwork=yes
PrivateUsers=yes
ProtectProc=invisible
ProcSubset=pid
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX
LockPersonality=yes
MemoryDenyWriteExecute=yes
NoNewPrivileges=yes
CapabilityBoundingSet=
SystemCallArchitectures=native
SystemCallFilter=@system-service
MemoryMax=128M
MemorySwapMax=0
TasksMax=64
CPUWeight=100
IOWeight=100
LimitNOFILE=1024
OOMPolicy=kill

[Install]
WantedBy=multi-user.target
";

/// Logins have no place in an appliance.
const MASKED: &[&str] = &["getty.target", "systemd-logind.service"];

fn systemd(plan: Plan, archive: &mut Archive) {
    let system = "etc/systemd/system";
    archive.file(
        &format!("{system}/probe@.service"),
        0o644,
        UNIT.as_bytes().to_vec(),
    );
    archive.symbolic_link(
        &format!("{system}/default.target"),
        "/usr/lib/systemd/system/multi-user.target",
    );
    for name in MASKED {
        archive.symbolic_link(&format!("{system}/{name}"), "/dev/null");
    }
    for (number, at_boot) in plan.numbers() {
        if at_boot {
            archive.symbolic_link(
                &format!("{system}/multi-user.target.wants/probe@{number}.service"),
                &format!("/{system}/probe@.service"),
            );
        }
    }
    archive.file(
        "etc/machine-id",
        0o444,
        b"0123456789abcdef0123456789abcdef\n".to_vec(),
    );
    // Not the first boot: that would make users and catalogues first.
    archive.file("etc/.updated", 0o644, Vec::new());
    archive.file("var/.updated", 0o644, Vec::new());
}

fn finit(plan: Plan, archive: &mut Archive) {
    let mut text = String::from(
        "runlevel 2\nrlimit soft nofile 1024\nrlimit hard nofile 1024\n\
         cgroup system cpu.weight:100\n",
    );
    for (number, at_boot) in plan.numbers() {
        let manual = if at_boot { "" } else { "manual:yes " };
        text.push_str(&format!(
            "service [2345] name:probe :{number} {manual}respawn \
             cgroup.system:pids.max:64,memory.max:134217728 \
             /usr/sbin/chroot --userspec={number}:{number} /bench /kos-bench-probe /report.sock \
             {number} -- Bench\n"
        ));
    }
    archive.file("etc/finit.conf", 0o644, text.into_bytes());
    // The package's own examples start logins and daemons that are not here.
    for name in ["acpid", "getty", "modules", "rsyslogd", "sshd"] {
        archive.file(&format!("etc/finit.d/{name}.conf"), 0o644, Vec::new());
    }
}

fn runit(plan: Plan, archive: &mut Archive) {
    archive.file("etc/runit/1", 0o755, b"#!/bin/dash\nexit 0\n".to_vec());
    archive.file(
        "etc/runit/2",
        0o755,
        b"#!/bin/dash\nexec /usr/bin/runsvdir -P /srv/services\n".to_vec(),
    );
    for (number, at_boot) in plan.numbers() {
        let run = format!(
            "#!/bin/dash\nexec /usr/bin/chpst -u :{number}:{number} -/ /bench -o 1024 -p 64 \
             -m 134217728 /kos-bench-probe /report.sock {number}\n"
        );
        pipes(archive, number, at_boot, run);
    }
}

fn s6(plan: Plan, archive: &mut Archive) {
    for (number, at_boot) in plan.numbers() {
        // The probe writes its line to descriptor 1, which is the pipe of readiness here.
        let run = format!(
            "#!/usr/bin/execlineb -P\nfdmove 1 3\ns6-softlimit -o 1024 -p 64 -a 134217728\n\
             /usr/sbin/chroot --userspec={number}:{number} /bench\n\
             /kos-bench-probe /report.sock {number} newline\n"
        );
        pipes(archive, number, at_boot, run);
        let path = format!("srv/services/probe-{number}/notification-fd");
        archive.file(&path, 0o644, b"3\n".to_vec());
    }
}

/// A service directory of daemontools' kind.
fn pipes(archive: &mut Archive, number: u32, at_boot: bool, run: String) {
    let directory = format!("srv/services/probe-{number}");
    archive.file(&format!("{directory}/run"), 0o755, run.into_bytes());
    if !at_boot {
        archive.file(&format!("{directory}/down"), 0o644, Vec::new());
    }
}

fn passwd(plan: Plan) -> String {
    let mut text = String::from(
        "root:x:0:0:root:/root:/bin/sh\nsystemd-network:x:998:998::/:/bin/false\n\
         systemd-timesync:x:997:997::/:/bin/false\n",
    );
    for (number, _) in plan.numbers() {
        text.push_str(&format!(
            "probe{number}:x:{number}:{number}::/:/bin/false\n"
        ));
    }
    text
}

fn group(plan: Plan) -> String {
    // Debian's base, and what systemd's package makes when it is installed.
    let mut text = String::from("root:x:0:\nadm:x:4:\ntty:x:5:\n");
    for (id, name) in [
        (43, "utmp"),
        (999, "systemd-journal"),
        (998, "systemd-network"),
        (997, "systemd-timesync"),
    ] {
        text.push_str(&format!("{name}:x:{id}:\n"));
    }
    for (number, _) in plan.numbers() {
        text.push_str(&format!("probe{number}:x:{number}:\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_gets_every_service_and_kos_takes_its_manifests() {
        let workspace = Workspace::find().unwrap();
        for peer in Peer::ALL {
            for plan in [Plan::FEW, Plan::MANY, Plan::MOST] {
                let archive = archive(&workspace, peer, plan).unwrap();
                let last = FIRST_NUMBER + plan.services - 1;
                let named = |(path, bytes): (&str, &[u8])| {
                    path.contains(&last.to_string())
                        || String::from_utf8_lossy(bytes).contains(&last.to_string())
                };
                assert!(archive.files().any(named), "{peer:?} {plan:?}");
            }
        }
    }
}
