//! A service with the machine's network that may listen on TCP 9001 and connect to TCP 11434, and
//! tries everything else.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use kos_sys::attempts;
use kos_test_programs::{attempt_at_kernel, end, must_work};

/// Only a packet that is let out waits so long for an answer.
const LIMIT: Duration = Duration::from_secs(3);

fn main() {
    must_work("listen on TCP 9001", TcpListener::bind("0.0.0.0:9001"));
    must_work("connect to TCP 11434", connect("127.0.0.1:11434"));
    for address in ["0.0.0.0:9002", "127.0.0.1:80", "127.0.0.1:0", "[::]:9002"] {
        let bound = TcpListener::bind(address);
        attempt_at_kernel(&format!("listen on TCP {address}"), bound);
    }
    for address in ["127.0.0.1:80", "10.0.2.2:22", "127.0.0.1:9001", "[::1]:80"] {
        attempt_at_kernel(&format!("connect to TCP {address}"), connect(address));
    }
    let udp = |address: &str| UdpSocket::bind(address).map(drop);
    for address in ["0.0.0.0:0", "0.0.0.0:9001", "[::]:0"] {
        attempt_at_kernel(&format!("UDP from {address}"), udp(address));
    }
    attempt_at_kernel("TCP fast open to port 80", attempts::fast_open(80));
    for (name, kind) in attempts::SOCKETS {
        attempt_at_kernel(&format!("socket {name}"), attempts::socket(kind));
    }
    attempt_at_kernel("take the network card down", attempts::take_network_down());
    end()
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    TcpStream::connect_timeout(&address, LIMIT)
}
