//! Floods: of PID 1 with output, notifications or D-Bus, of the kernel with descriptors, watches or
//! work. Each goes on until the service is stopped.

use std::fs::{self, File};
use std::io::{self, IoSlice, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::thread;
use std::time::Duration;

use kos_manifest::control::SOCKET;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// A refused attempt is made again so much later: what is asked is whether others suffer, not how
/// hot the processor gets.
const PAUSE: Duration = Duration::from_millis(20);

fn main() -> io::Result<()> {
    let kind = std::env::args().nth(1).unwrap_or_default();
    println!("flood of {kind} begins");
    match kind.as_str() {
        "output" => output(),
        "notifications" => notifications(),
        "bus" => bus(),
        "descriptors" => descriptors(),
        "watches" => watches(),
        "work" => work(),
        other => Err(io::Error::other(format!("there is no flood of {other}"))),
    }
}

fn output() -> io::Result<()> {
    let mut output = io::stdout().lock();
    let line = [b"flood ".repeat(200), vec![b'\n']].concat();
    let endless = vec![b'x'; 64 * 1024];
    loop {
        for _ in 0..64 {
            output.write_all(&line)?;
        }
        output.write_all(&endless)?;
    }
}

fn notifications() -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(std::env::var("NOTIFY_SOCKET").unwrap_or_default())?;
    // Never waits: a datagram that finds no room is lost, and the next one tried.
    socket.set_nonblocking(true)?;
    let long = [b"STATUS=".to_vec(), vec![b'y'; 8000]].concat();
    let null = File::open("/dev/null")?;
    let mut number = 0u64;
    loop {
        number += 1;
        if number == 1000 {
            println!("a thousand notifications were sent");
        }
        let status = format!("STATUS=flood {number}\nREADY=1\nWATCHDOG=1\n");
        let sent = [
            socket.send(status.as_bytes()),
            socket.send(&long),
            socket.send(b"\xff\0\n=\n"),
            socket.send(b""),
            send_descriptor(&socket, &null),
        ];
        if sent.iter().all(Result::is_err) {
            thread::sleep(PAUSE / 10);
        }
    }
}

/// A descriptor that comes along with a notification must not pile up in PID 1.
fn send_descriptor(socket: &UnixDatagram, file: &File) -> io::Result<usize> {
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    use std::os::fd::AsRawFd;
    let descriptors = [file.as_raw_fd(); 16];
    let message = [IoSlice::new(b"FDSTORE=1\n")];
    let control = [ControlMessage::ScmRights(&descriptors)];
    sendmsg::<()>(
        socket.as_raw_fd(),
        &message,
        &control,
        MsgFlags::MSG_DONTWAIT,
        None,
    )
    .map_err(io::Error::from)
}

/// Connections that say nothing, that say nonsense, and that ask and never read the answers.
fn bus() -> io::Result<()> {
    let mut open = Vec::new();
    let mut connections = 0u64;
    loop {
        match UnixStream::connect(SOCKET) {
            Ok(stream) => {
                connections += 1;
                if connections == 50 {
                    println!("fifty connections were made");
                }
                let _ = stream.set_nonblocking(true);
                open.push(stream);
            }
            Err(_) => thread::sleep(PAUSE),
        }
        for (index, stream) in open.iter_mut().enumerate() {
            let _ = match index % 3 {
                0 => Ok(0),
                1 => stream.write(&[0xff; 4096]),
                // The beginning of a conversation, which then asks without end.
                _ => stream.write(b"\0AUTH EXTERNAL 30\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\nl\x01\0\x01\xff\xff\xff\x07"),
            };
        }
        // As many as a service may have open, and then new ones.
        if open.len() >= 200 {
            open.drain(..100);
            thread::sleep(PAUSE);
        }
    }
}

fn descriptors() -> io::Result<()> {
    let mut open = Vec::new();
    let mut told = false;
    loop {
        match File::open("/dev/null") {
            Ok(file) => open.push(file),
            Err(error) => {
                if !told {
                    // The line needs no descriptor of its own.
                    println!("descriptors end at {} ({error})", open.len());
                    told = true;
                }
                thread::sleep(PAUSE);
            }
        }
    }
}

fn watches() -> io::Result<()> {
    let directory = std::env::var("STATE_DIRECTORY").unwrap_or_default();
    let mut instances = Vec::new();
    let mut watches = 0usize;
    loop {
        let Ok(instance) = Inotify::init(InitFlags::IN_NONBLOCK) else {
            println!("watches end at {watches} in {} instances", instances.len());
            loop {
                thread::park();
            }
        };
        for name in 0..4 {
            let path = format!("{directory}/{name}");
            let _ = fs::create_dir(&path);
            match instance.add_watch(path.as_str(), AddWatchFlags::IN_ALL_EVENTS) {
                Ok(_) => watches += 1,
                Err(_) => break,
            }
        }
        instances.push(instance);
    }
}

/// Keeps more threads busy than there are processors.
fn work() -> io::Result<()> {
    let threads: Vec<_> = (0..16)
        .map(|_| {
            thread::spawn(|| {
                loop {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    for thread in threads {
        let _ = thread.join();
    }
    Ok(())
}
