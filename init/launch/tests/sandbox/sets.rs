//! The image's sets of system calls: every name exists, and none lets a sandbox at the kernel.

use kos_sys::filter::{Calls, Filter, Internet};

use crate::fixture::calls;

/// Parts of the kernel that no service of kOS needs and that its flaws have come from.
const NEVER: [&str; 24] = [
    "add_key",
    "bpf",
    "chroot",
    "clone3",
    "delete_module",
    "finit_module",
    "init_module",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "kexec_load",
    "keyctl",
    "mount",
    "move_mount",
    "open_by_handle_at",
    "perf_event_open",
    "pivot_root",
    "process_vm_writev",
    "ptrace",
    "reboot",
    "request_key",
    "setns",
    "unshare",
    "userfaultfd",
];

#[test]
fn every_set_compiles_and_holds_nothing_dangerous() {
    for set in ["default", "network", "clock-set", "execute", "processes"] {
        let calls = calls(&[set]);
        let all = Calls {
            names: calls.clone(),
            internet: Internet::Streams,
            writable_code: false,
        };
        Filter::compile(&all).unwrap();
        for call in &calls {
            assert!(!NEVER.contains(&call.as_str()), "{set} allows {call}");
        }
    }
}
