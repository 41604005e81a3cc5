//! Lets the host speak to PID 1: each connection to TCP port 7700 becomes one to the control socket.
//!
//! PID 1 sees this service's uid, and so grants what this service's manifest says.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread;

const CONTROL: &str = "/run/kos/init.sock";

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("0.0.0.0:7700")?;
    println!("listening");
    for client in listener.incoming() {
        let client = client?;
        thread::spawn(move || {
            if let Err(error) = bridge(&client) {
                println!("a connection ended: {error}");
            }
        });
    }
    Ok(())
}

fn bridge(client: &TcpStream) -> io::Result<()> {
    let control = UnixStream::connect(CONTROL)?;
    let (mut from_client, mut to_control) = (client.try_clone()?, control.try_clone()?);
    let up = thread::spawn(move || {
        let copied = io::copy(&mut from_client, &mut to_control);
        // PID 1 hears that nothing more comes.
        let _ = to_control.shutdown(Shutdown::Write);
        copied
    });
    let (mut from_control, mut to_client) = (control, client.try_clone()?);
    io::copy(&mut from_control, &mut to_client)?;
    client.shutdown(Shutdown::Both)?;
    match up.join() {
        Ok(copied) => copied.map(drop),
        Err(_) => Err(io::Error::other("the other direction panicked")),
    }
}
