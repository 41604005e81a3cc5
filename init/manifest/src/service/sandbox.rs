//! What a service can see and do, checked for rights that would cancel each other.

use std::collections::BTreeSet;

use toml::Spanned;

use super::parse::is_node;
use super::{Network, Sandbox};
use crate::error::ManifestError;
use crate::raw::{Port, RawSandbox, SyscallName};
use crate::seccomp::SyscallSets;
use crate::source::Source;

/// Capabilities that a service may keep: each is one that a kOS service could be built on
/// without becoming root by another name.
const CAPABILITIES: [&str; 5] = [
    "net_admin",
    "net_raw",
    "net_bind_service",
    "sys_time",
    "sys_nice",
];
/// Devices that exist in each sandbox.
const COMMON_DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];
/// Private `/tmp` of a service that does not say.
const TMP_BYTES: u64 = 16 << 20;

pub(super) fn parse(
    source: &Source<'_>,
    raw: &RawSandbox,
    sets: &SyscallSets,
) -> Result<Sandbox, ManifestError> {
    let paths = |key: &str, list: &[Spanned<String>]| {
        list.iter()
            .map(|text| source.path(key, text))
            .collect::<Result<Vec<_>, _>>()
    };
    let mut devices: Vec<String> = COMMON_DEVICES.map(str::to_owned).to_vec();
    for device in &raw.devices {
        let name = source.word("sandbox.devices", device, "a name below /dev", is_node)?;
        // A node that is bound twice would be an error when the sandbox is made.
        if !devices.contains(&name) {
            devices.push(name);
        }
    }
    let mut capabilities = Vec::new();
    for capability in &raw.capabilities {
        capabilities.push(source.one_of("sandbox.capabilities", capability, &CAPABILITIES)?);
    }
    let known: Vec<&str> = sets.names().collect();
    let mut syscalls = Vec::new();
    for set in raw.syscalls.iter().flatten() {
        syscalls.push(source.one_of("sandbox.syscalls", set, &known)?);
    }
    if raw.syscalls.is_none() {
        syscalls.push("default".to_owned());
    }
    let syscalls_add = calls(source, "sandbox.syscalls-add", &raw.syscalls_add)?;
    let syscalls_remove = calls(source, "sandbox.syscalls-remove", &raw.syscalls_remove)?;
    if let Some(call) = raw
        .syscalls_remove
        .iter()
        .find(|call| syscalls_add.contains(call.get_ref()))
    {
        let message = format!(
            "found '{}', allowed: one that 'syscalls-add' does not name",
            call.get_ref()
        );
        return Err(source.error("sandbox.syscalls-remove", call, message));
    }
    Ok(Sandbox {
        network: raw.network,
        listen: ports(source, "sandbox.listen", &raw.listen, raw.network)?,
        connect: ports(source, "sandbox.connect", &raw.connect, raw.network)?,
        udp: datagrams(source, raw)?,
        read: paths("sandbox.read", &raw.read)?,
        write: paths("sandbox.write", &raw.write)?,
        execute: paths("sandbox.execute", &raw.execute)?,
        devices,
        state: raw.state,
        cache: raw.cache,
        runtime: raw.runtime,
        tmp_bytes: source
            .size("sandbox.tmp", raw.tmp.as_ref(), 0)?
            .unwrap_or(TMP_BYTES),
        user_namespace: user_namespace(source, raw)?,
        capabilities,
        syscalls,
        syscalls_add,
        syscalls_remove,
        writable_code: raw.writable_code,
        control: raw.control,
    })
}

/// Names of system calls. Only their form is checked: which exist differs by architecture, and
/// `kos-sys` passes over those that do not.
fn calls(
    source: &Source<'_>,
    key: &str,
    list: &[SyscallName],
) -> Result<Vec<String>, ManifestError> {
    let mut calls = BTreeSet::new();
    for call in list {
        let allowed = "the kernel's name of a system call, such as 'ptrace' or 'socket/unix'";
        calls.insert(source.word(key, call, allowed, is_call)?);
    }
    Ok(calls.into_iter().collect())
}

fn is_call(name: &str) -> bool {
    let (call, form) = match name.split_once('/') {
        Some((call, form)) => (call, Some(form)),
        None => (name, None),
    };
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    let form_is_plain = form.is_none_or(|form| {
        !form.is_empty()
            && form
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    });
    call.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && call.bytes().all(plain)
        && form_is_plain
        && name.len() <= 64
}

fn ports(
    source: &Source<'_>,
    key: &str,
    list: &[Port],
    network: Network,
) -> Result<Vec<u16>, ManifestError> {
    let mut ports = BTreeSet::new();
    for port in list {
        let found = *port.get_ref();
        if network == Network::None {
            let message = format!(
                "found {found}, allowed: none with the network \"none\", which has no ports"
            );
            return Err(source.error(key, port, message));
        }
        if found == 0 {
            return Err(source.error(key, port, "found 0, allowed: 1 to 65535".to_owned()));
        }
        ports.insert(found);
    }
    Ok(ports.into_iter().collect())
}

fn datagrams(source: &Source<'_>, raw: &RawSandbox) -> Result<bool, ManifestError> {
    match &raw.udp {
        Some(udp) if *udp.get_ref() && raw.network == Network::None => {
            let message = "found true, allowed: false with the network \"none\"".to_owned();
            Err(source.error("sandbox.udp", udp, message))
        }
        udp => Ok(udp.as_ref().is_some_and(|udp| *udp.get_ref())),
    }
}

fn user_namespace(source: &Source<'_>, raw: &RawSandbox) -> Result<bool, ManifestError> {
    let needs_machine = if !raw.capabilities.is_empty() {
        Some("capabilities")
    } else if raw.network == Network::Host {
        Some("the network \"host\"")
    } else {
        None
    };
    match (&raw.user_namespace, needs_machine) {
        (Some(wanted), Some(needs)) if *wanted.get_ref() => {
            let message =
                format!("found true, allowed: false with {needs}, void in a user namespace");
            Err(source.error("sandbox.user-namespace", wanted, message))
        }
        (Some(wanted), _) => Ok(*wanted.get_ref()),
        (None, needs) => Ok(needs.is_none()),
    }
}
