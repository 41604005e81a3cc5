//! The loopback device of a network namespace: down when the namespace is made.

use std::io;
use std::os::fd::AsRawFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::error::{SysError, Told};

/// Brings the loopback device of this network namespace up; the kernel gives it 127.0.0.1 and ::1.
///
/// # Errors
/// There is no IPv4, or no `CAP_NET_ADMIN`.
pub fn bring_up() -> Result<(), SysError> {
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .told("make", "a socket")?;
    // SAFETY: `ifreq` is a plain structure for which all zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *place = *byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request reads one `ifreq`, which outlives the call.
    let result = unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS as _,
            &raw const request,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error()).told("bring up", "the loopback device");
    }
    Ok(())
}
