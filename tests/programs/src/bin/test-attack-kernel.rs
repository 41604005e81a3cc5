//! Tries every call with which a process changes the machine, its mounts, its namespaces, its rights
//! or another process, and every kind of socket that goes past ports.

use std::fs::File;
use std::io;

use kos_sys::attempts;
use kos_test_programs::{attempt_at_kernel, end};
use nix::sched::{CloneFlags, setns};

fn main() {
    for attempt in attempts::KERNEL {
        attempt_at_kernel(attempt.name, attempts::make(&attempt));
    }
    for (name, kind) in attempts::SOCKETS {
        attempt_at_kernel(&format!("socket {name}"), attempts::socket(kind));
    }
    attempt_at_kernel("adjtimex", attempts::adjust_clock());
    let own_mounts = File::open("/proc/self/ns/mnt")
        .and_then(|file| setns(file, CloneFlags::CLONE_NEWNS).map_err(io::Error::from));
    attempt_at_kernel("setns", own_mounts);
    attempt_at_kernel(
        "clone into a user namespace",
        attempts::clone_into_user_namespace(),
    );
    let user = nix::sched::unshare(CloneFlags::CLONE_NEWUSER).map_err(io::Error::from);
    attempt_at_kernel("unshare a user namespace", user);
    attempt_at_kernel("process_vm_readv of process 1", attempts::read_memory_of(1));
    attempt_at_kernel("pidfd_getfd of process 1", attempts::take_descriptor_of(1));
    attempt_at_kernel("memory writable and executable", attempts::make_code(true));
    attempt_at_kernel("memory that becomes executable", attempts::make_code(false));
    attempt_at_kernel("executable memory file", attempts::executable_memory_file());
    attempt_at_kernel("type into the terminal", attempts::type_into_terminal());
    end()
}
