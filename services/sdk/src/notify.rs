//! `sd_notify`: telling PID 1 how the service is.
//!
//! A service that was started by hand has no `$NOTIFY_SOCKET`; then nothing is sent, and nothing
//! fails. The environment is read at each call: services call this a few times in their lives.

use std::os::unix::net::UnixDatagram;

/// The service does its work from now on.
pub fn ready() {
    send("READY=1");
}

/// One line about what the service is doing, shown on the console.
pub fn status(text: &str) {
    // A newline would start another assignment.
    send(&format!("STATUS={}", text.replace(['\n', '\r'], " ")));
}

/// The service is ready and says with what, in one message.
pub fn ready_with(text: &str) {
    send(&format!(
        "READY=1\nSTATUS={}",
        text.replace(['\n', '\r'], " ")
    ));
}

/// The service has begun to stop.
pub fn stopping() {
    send("STOPPING=1");
}

fn send(message: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let sent = UnixDatagram::unbound().and_then(|socket| {
        // PID 1 drains its sockets in its own loop; a full one must not stop the service.
        socket.set_nonblocking(true)?;
        socket.send_to(message.as_bytes(), path)
    });
    if let Err(error) = sent {
        tracing::warn!("cannot notify PID 1: {error}");
    }
}
