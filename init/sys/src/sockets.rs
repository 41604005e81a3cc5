//! The channels between PID 1 and what it starts: reports, readiness, specs, output.
//!
//! Every received packet carries the sender's process and user as the kernel knows them; a sender
//! cannot choose them (short of `CAP_SYS_ADMIN` or `CAP_SETUID`, which no service has).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with, socketpair,
};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::error::{SysError, Told};

/// Longest packet that is taken; the rest of a longer one is cut off by the kernel. Reports are
/// below 4096 bytes and readiness messages are a few lines.
pub const MAX_PACKET_BYTES: usize = 8192;

/// Takes a descriptor that this process was started with, by its number; it gets another number
/// and closes at exec. Once per number, before anything else could have opened it: until then
/// such a descriptor has no owner.
///
/// # Errors
/// There is none, or the number is one of the three standard ones.
pub fn take_inherited(number: RawFd) -> Result<OwnedFd, SysError> {
    if number < 3 {
        return Err(SysError::refused(
            "take descriptor",
            number,
            "it is a standard one",
        ));
    }
    // SAFETY: a number; the copy is a new descriptor that nothing else owns, or -1.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, number + 1) };
    if copy < 0 {
        return Err(io::Error::last_os_error()).told("take descriptor", number);
    }
    // SAFETY: `copy` was just made; `number` was given by the parent and has no owner in this
    // process, which is the contract of this function.
    unsafe {
        libc::close(number);
        Ok(OwnedFd::from_raw_fd(copy))
    }
}

/// A pair of sequenced-packet sockets, close-on-exec; the first is ours: non-blocking, and told
/// who sends. The second is for the child and blocks.
///
/// # Errors
/// No descriptors.
pub fn seqpacket_pair() -> Result<(OwnedFd, OwnedFd), SysError> {
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .told("make", "a pair of sockets")?;
    set_socket_passcred(&ours, true).told("ask for senders of", "a socket")?;
    rustix::io::ioctl_fionbio(&ours, true).told("make non-blocking", "a socket")?;
    Ok((ours, theirs))
}

/// A datagram socket at `path` that is told who sends, non-blocking and close-on-exec. A socket
/// left there by a former run is replaced.
///
/// # Errors
/// The directory is missing, or the path is longer than 107 bytes.
pub fn notify_socket(path: &Path) -> Result<OwnedFd, SysError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(SysError::new("replace", path.display(), error));
        }
        _ => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)
        .told("make", "a socket")?;
    // Before there is an address to send to, so that no message comes without its sender.
    set_socket_passcred(&socket, true).told("ask for senders of", path.display())?;
    let address = SocketAddrUnix::new(path).told("name a socket", path.display())?;
    bind(&socket, &address).told("name a socket", path.display())?;
    Ok(socket)
}

/// One received packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// What was sent, at most [`MAX_PACKET_BYTES`].
    pub bytes: Vec<u8>,
    /// The process that sent it, in our pid namespace; 0 when it is not in it.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
}

/// What a socket had for us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A packet.
    Packet(Packet),
    /// Nothing now.
    Nothing,
    /// The other side is closed (sequenced-packet sockets only).
    Closed,
}

/// Room for one `SCM_CREDENTIALS`: a header of 16 bytes and 12 bytes, rounded up. Descriptors that
/// somebody sends along find no room and are dropped by the kernel.
#[repr(C, align(8))]
struct Control([MaybeUninit<u8>; 32]);

/// Takes one packet with its sender, without waiting.
///
/// An empty datagram from a datagram socket counts as [`Received::Closed`] on a connected one
/// only; see the socket's kind.
///
/// # Errors
/// The descriptor is no socket or was not made by this module.
pub fn receive(socket: BorrowedFd<'_>) -> Result<Received, SysError> {
    let mut bytes = vec![0u8; MAX_PACKET_BYTES];
    let mut control = Control([MaybeUninit::uninit(); 32]);
    let mut vector = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: msghdr is a plain structure for which all zero is valid (no name, no flags).
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut control).cast();
    header.msg_controllen = size_of::<Control>() as _;
    let length = loop {
        let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
        // SAFETY: the header points to one buffer and one control buffer of the lengths given,
        // both alive and not otherwise used until the call returns.
        let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
        if length >= 0 {
            break length.unsigned_abs();
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::Interrupted => {}
            io::ErrorKind::WouldBlock => return Ok(Received::Nothing),
            io::ErrorKind::ConnectionReset => return Ok(Received::Closed),
            _ => return Err(SysError::new("receive from", "a socket", error)),
        }
    };
    let Some((pid, uid)) = credentials(&header) else {
        // The end of a sequenced-packet stream is the only thing that comes without a sender.
        if length == 0 {
            return Ok(Received::Closed);
        }
        return Err(SysError::refused(
            "receive from",
            "a socket",
            "the sender is not told",
        ));
    };
    bytes.truncate(length);
    Ok(Received::Packet(Packet { bytes, pid, uid }))
}

/// The sender in the control messages of a received header.
fn credentials(header: &libc::msghdr) -> Option<(i32, u32)> {
    // SAFETY: the kernel filled `msg_control` and set `msg_controllen` to what it wrote; the
    // macros stay within that, and a credentials message that claims the full length has it.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            let length = libc::CMSG_LEN(size_of::<libc::ucred>() as u32) as usize;
            if (*message).cmsg_level == libc::SOL_SOCKET
                && (*message).cmsg_type == libc::SCM_CREDENTIALS
                && (*message).cmsg_len as usize >= length
            {
                let sender: libc::ucred = libc::CMSG_DATA(message)
                    .cast::<libc::ucred>()
                    .read_unaligned();
                return Some((sender.pid, sender.uid));
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    None
}

/// Sends one packet, waiting while the receiver's queue is full.
///
/// # Errors
/// The receiver is gone, or the packet is too long.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> Result<(), SysError> {
    let flags = rustix::net::SendFlags::NOSIGNAL;
    rustix::io::retry_on_intr(|| rustix::net::send(socket, bytes, flags))
        .map(|_| ())
        .told("send to", "a socket")
}

/// A memory file with these bytes that nobody can change any more, close-on-exec, at its start.
///
/// # Errors
/// No memory or no descriptor.
pub fn memfd_sealed(name: &str, bytes: &[u8]) -> Result<OwnedFd, SysError> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::NOEXEC_SEAL;
    let file = match memfd_create(name, flags) {
        // NOEXEC_SEAL is of Linux 6.3.
        Err(rustix::io::Errno::INVAL) => memfd_create(name, flags - MemfdFlags::NOEXEC_SEAL),
        other => other,
    }
    .told("make the memory file", name)?;
    let mut rest = bytes;
    let mut offset = 0;
    while !rest.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::pwrite(&file, rest, offset))
            .told("fill the memory file", name)?;
        offset += written as u64;
        rest = &rest[written..];
    }
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(&file, seals).told("seal the memory file", name)?;
    Ok(file)
}

/// Reads a memory file (or any other seekable one) from its start.
///
/// # Errors
/// It is longer than `limit`, or cannot be read.
pub fn read_whole(file: BorrowedFd<'_>, limit: usize) -> Result<Vec<u8>, SysError> {
    let mut bytes = vec![0u8; limit + 1];
    let mut length = 0;
    while length < bytes.len() {
        let rest = &mut bytes[length..];
        match rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut *rest, length as u64)) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) => return Err(error).told("read", "a memory file"),
        }
    }
    if length > limit {
        let reason = format!("it is longer than {limit} bytes");
        return Err(SysError::refused("read", "a memory file", reason));
    }
    bytes.truncate(length);
    Ok(bytes)
}

/// A pipe: the reading end non-blocking for us, the writing end blocking for the child; both
/// close-on-exec.
///
/// # Errors
/// No descriptors.
pub fn pipe_cloexec_nonblocking() -> Result<(OwnedFd, OwnedFd), SysError> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).told("make", "a pipe")?;
    rustix::io::ioctl_fionbio(reader.as_fd(), true).told("make non-blocking", "a pipe")?;
    Ok((reader, writer))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn a_packet_tells_its_sender_and_the_end_is_told() {
        let (ours, theirs) = seqpacket_pair().unwrap();
        assert_eq!(receive(ours.as_fd()).unwrap(), Received::Nothing);
        send(theirs.as_fd(), b"one").unwrap();
        send(theirs.as_fd(), b"two").unwrap();
        let own = std::process::id() as i32;
        for expected in [b"one", b"two"] {
            let Received::Packet(packet) = receive(ours.as_fd()).unwrap() else {
                panic!("nothing has come");
            };
            assert_eq!(
                (packet.bytes.as_slice(), packet.pid),
                (expected.as_slice(), own)
            );
            assert_eq!(packet.uid, rustix::process::getuid().as_raw());
        }
        drop(theirs);
        assert_eq!(receive(ours.as_fd()).unwrap(), Received::Closed);
    }

    #[test]
    fn a_datagram_tells_its_sender_and_long_ones_are_cut() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        drop(notify_socket(&path).unwrap());
        let socket = notify_socket(&path).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        sender.send_to(&vec![b'x'; 20_000], &path).unwrap();
        sender.send_to(b"", &path).unwrap();
        let lengths: Vec<usize> = std::iter::from_fn(|| match receive(socket.as_fd()).unwrap() {
            Received::Packet(packet) => Some(packet.bytes.len()),
            _ => None,
        })
        .collect();
        assert_eq!(lengths, [MAX_PACKET_BYTES, 0]);
    }

    #[test]
    fn a_sealed_file_is_read_and_not_written() {
        let file = memfd_sealed("spec", b"text").unwrap();
        assert_eq!(read_whole(file.as_fd(), 4).unwrap(), b"text");
        assert!(read_whole(file.as_fd(), 3).is_err());
        assert_eq!(
            rustix::io::pwrite(&file, b"y", 0),
            Err(rustix::io::Errno::PERM)
        );
    }
}
