//! What a reload has to do: for each service, whether its process can stay.

use std::collections::BTreeMap;

use super::{Limits, Service};

/// What becomes of one service when a set takes the place of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was not there before.
    Added,
    /// It is there no more.
    Removed,
    /// Something has changed that only a new process can have.
    Restart,
    /// Something has changed that its running process takes, or that PID 1 alone looks at.
    Update,
    /// Nothing has changed.
    Unchanged,
}

pub(super) fn between<'a>(
    old: &'a BTreeMap<String, Service>,
    new: &'a BTreeMap<String, Service>,
) -> BTreeMap<&'a str, Change> {
    let mut changes: BTreeMap<&str, Change> = old
        .keys()
        .map(|name| (name.as_str(), Change::Removed))
        .collect();
    for (name, service) in new {
        let change = match old.get(name) {
            None => Change::Added,
            Some(before) if before == service => Change::Unchanged,
            Some(before) if needs_new_process(before, service) => Change::Restart,
            Some(_) => Change::Update,
        };
        changes.insert(name, change);
    }
    changes
}

/// Whether the process that runs cannot become what the new manifest says. Each field is named, so
/// that a new one cannot be forgotten here.
fn needs_new_process(old: &Service, new: &Service) -> bool {
    let Service {
        // What the process is and was given.
        name: _,
        program,
        args,
        uid,
        environment,
        credentials,
        sockets,
        sandbox,
        watchdog,
        limits,
        // What PID 1 looks at when the time comes: at the next start, stop or end.
        instance_of: _,
        origin: _,
        description: _,
        enabled: _,
        essential: _,
        after: _,
        requires: _,
        wants: _,
        stop_before: _,
        conditions: _,
        readiness: _,
        restart: _,
        stop: _,
        pre_start: _,
        post_stop: _,
        timer: _,
        pressure: _,
    } = old;
    // The program has been told how often to speak: it can do so more often than it must, not the
    // other way about.
    let must_speak_sooner = match (watchdog, &new.watchdog) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(told), Some(wanted)) => wanted < told,
    };
    must_speak_sooner
        || *program != new.program
        || *args != new.args
        || *uid != new.uid
        || *environment != new.environment
        || *credentials != new.credentials
        || *sockets != new.sockets
        || *sandbox != new.sandbox
        || fixed_limits(limits) != fixed_limits(&new.limits)
}

/// The limits that a process has from its birth (`setrlimit`); all others are its cgroup's or its
/// directories', and change under it.
fn fixed_limits(limits: &Limits) -> (u32, Option<u64>, u64, u64) {
    let Limits {
        open_files,
        file_size,
        locked_memory,
        stack,
        memory: _,
        memory_high: _,
        memory_low: _,
        memory_swap: _,
        oom_group: _,
        cpu_millis: _,
        cpu_weight: _,
        io_weight: _,
        io_read: _,
        io_write: _,
        pids: _,
        disk: _,
        disk_files: _,
    } = limits;
    (*open_files, *file_size, *locked_memory, *stack)
}
