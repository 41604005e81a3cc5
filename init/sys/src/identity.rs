//! Who a process is and what it may: ids, capabilities, `no_new_privs`, memory that is no code,
//! resource limits.
//!
//! Everything here acts on the calling thread; only a single-threaded process may use it.

use kos_manifest::launch::ProcessLimits;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, Gid, Uid, capabilities,
    clear_ambient_capability_set, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits,
    set_keep_capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use crate::error::{SysError, Told};

/// No capability at all.
pub const NO_CAPABILITIES: CapabilitySet = CapabilitySet::empty();

/// Capabilities are bits of 64; the kernel says where its own end.
const CAPABILITY_BITS: u32 = 64;

/// The capabilities of these names (lower case, without `CAP_`).
///
/// # Errors
/// A name that no kernel knows.
pub fn capabilities_by_name(names: &[String]) -> Result<CapabilitySet, SysError> {
    let mut set = CapabilitySet::empty();
    for name in names {
        set |= CapabilitySet::from_name(&name.to_ascii_uppercase())
            .ok_or_else(|| SysError::refused("find capability", name, "there is none"))?;
    }
    Ok(set)
}

/// Becomes `uid`:`gid` with no other group and exactly the capabilities of `keep`, which also
/// survive `exec` (ambient); every other one is gone for good, from the bounding set too.
///
/// # Errors
/// A step is refused, or the kernel's answer afterwards is not what was asked for.
pub fn assume(uid: u32, gid: u32, keep: CapabilitySet) -> Result<(), SysError> {
    set_thread_groups(&[]).told("leave", "all groups")?;
    clear_ambient_capability_set().told("clear", "the ambient capabilities")?;
    drop_bounding_set(keep)?;
    // User id 0 means nothing special any more, and nobody can undo that.
    let bits = CapabilitiesSecureBits::NO_ROOT | CapabilitiesSecureBits::NO_ROOT_LOCKED;
    set_capabilities_secure_bits(bits).told("lock", "the rights of user 0")?;
    set_keep_capabilities(!keep.is_empty()).told("keep", "capabilities")?;
    let (group, user) = (Gid::from_raw(gid), Uid::from_raw(uid));
    set_thread_res_gid(group, group, group).told("become group", gid)?;
    set_thread_res_uid(user, user, user).told("become user", uid)?;
    let wanted = CapabilitySets {
        effective: keep,
        permitted: keep,
        inheritable: keep,
    };
    set_capabilities(None, wanted).told("reduce", "the capabilities")?;
    for capability in keep.iter() {
        configure_capability_in_ambient_set(capability, true)
            .told("keep capability", format!("{capability:?}"))?;
    }
    set_keep_capabilities(false).told("end keeping", "capabilities")?;
    verify(uid, gid, wanted)
}

/// Gives up every capability for good: what is left of [`assume`] for a process in a user namespace
/// that it has just made, where it has all of them.
///
/// # Errors
/// As [`assume`].
pub fn give_up_capabilities(uid: u32, gid: u32) -> Result<(), SysError> {
    clear_ambient_capability_set().told("clear", "the ambient capabilities")?;
    drop_bounding_set(NO_CAPABILITIES)?;
    let bits = CapabilitiesSecureBits::NO_ROOT | CapabilitiesSecureBits::NO_ROOT_LOCKED;
    set_capabilities_secure_bits(bits).told("lock", "the rights of user 0")?;
    let none = CapabilitySets {
        effective: NO_CAPABILITIES,
        permitted: NO_CAPABILITIES,
        inheritable: NO_CAPABILITIES,
    };
    set_capabilities(None, none).told("reduce", "the capabilities")?;
    verify(uid, gid, none)
}

fn drop_bounding_set(keep: CapabilitySet) -> Result<(), SysError> {
    for bit in 0..CAPABILITY_BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        if keep.contains(capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // The first number that this kernel does not know: there are no more.
            Err(rustix::io::Errno::INVAL) => return Ok(()),
            Err(error) => return Err(error).told("drop capability", bit),
        }
    }
    Ok(())
}

fn verify(uid: u32, gid: u32, wanted: CapabilitySets) -> Result<(), SysError> {
    let now = capabilities(None).told("read", "the capabilities")?;
    let ids = (
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw(),
    );
    if now != wanted || ids != (uid, gid) {
        let reason = format!("the kernel says {ids:?} with {now:?}");
        return Err(SysError::refused("become", format!("{uid}:{gid}"), reason));
    }
    Ok(())
}

/// Gives up ever gaining a right by executing a program. Cannot be undone.
///
/// # Errors
/// The kernel is older than 3.5.
pub fn no_new_privileges() -> Result<(), SysError> {
    rustix::thread::set_no_new_privs(true).told("give up", "new privileges")
}

/// Whether other processes of the same user may look into this one (ptrace, `/proc/…/mem`) and a
/// crash may write its memory out.
///
/// # Errors
/// None that is known.
pub fn set_dumpable(dumpable: bool) -> Result<(), SysError> {
    let behavior = if dumpable {
        DumpableBehavior::Dumpable
    } else {
        DumpableBehavior::NotDumpable
    };
    set_dumpable_behavior(behavior).told("change", "who may look into this process")
}

/// Memory that was not executable cannot become so, and none can be mapped writable and executable
/// (`PR_SET_MDWE`). It stays so for the programs that this process executes.
///
/// # Errors
/// The kernel is older than 6.3, which is `EINVAL`.
pub fn refuse_new_code() -> Result<(), SysError> {
    /// `PR_MDWE_REFUSE_EXEC_GAIN`.
    const REFUSE_EXECUTION: libc::c_ulong = 1;
    let none: libc::c_ulong = 0;
    // SAFETY: numbers only; the setting changes what later calls for memory are answered.
    let result = unsafe { libc::prctl(libc::PR_SET_MDWE, REFUSE_EXECUTION, none, none, none) };
    if result < 0 {
        return Err(std::io::Error::last_os_error()).told("refuse", "memory that becomes code");
    }
    Ok(())
}

/// Allows this process so many open descriptors. What it starts inherits that.
///
/// # Errors
/// More than the present hard limit, without `CAP_SYS_RESOURCE`, or than `fs.nr_open`.
pub fn allow_open_files(count: u64) -> Result<(), SysError> {
    let limit = Rlimit {
        current: Some(count),
        maximum: Some(count),
    };
    setrlimit(Resource::Nofile, limit).told("allow open files:", count)
}

/// Puts the limits of a process in place, for good, and forbids core files, queues of messages and
/// scheduling before others.
///
/// # Errors
/// More than the present hard limit, without `CAP_SYS_RESOURCE`.
pub fn limit_resources(limits: &ProcessLimits) -> Result<(), SysError> {
    for (resource, name, value) in [
        (Resource::Core, "core files", Some(0)),
        (Resource::Msgqueue, "message queues", Some(0)),
        (Resource::Nice, "niceness", Some(0)),
        (Resource::Rtprio, "real-time priority", Some(0)),
        (Resource::Nofile, "open files", Some(limits.open_files)),
        (Resource::Fsize, "file size", limits.file_size),
        (
            Resource::Memlock,
            "locked memory",
            Some(limits.locked_memory),
        ),
        (Resource::Stack, "stack", Some(limits.stack)),
    ] {
        let limit = Rlimit {
            current: value,
            maximum: value,
        };
        setrlimit(resource, limit).told("limit", name)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capability_names_are_the_kernels() {
        let names = |names: &[&str]| {
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()
        };
        let set = capabilities_by_name(&names(&["net_admin", "net_raw"])).unwrap();
        assert_eq!(set, CapabilitySet::NET_ADMIN | CapabilitySet::NET_RAW);
        let error = capabilities_by_name(&names(&["everything"])).unwrap_err();
        assert!(error.to_string().contains("everything"));
    }
}
