//! What a service writes to PID 1's control socket: after the handshake any bytes, which zbus takes
//! apart inside PID 1. An object with arguments of the shapes that PID 1's have listens.

#![no_main]

use std::cell::OnceCell;
use std::time::Duration;

use kos_manifest::control::{OBJECT_PATH, ServiceStatus};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

/// `EXTERNAL` with the uid 0 in hexadecimal digits of its decimal digits, and on to messages.
const HANDSHAKE: &[u8] = b"\0AUTH EXTERNAL 30\r\nBEGIN\r\n";

/// A server that does not notice that its client is gone is a finding.
const PATIENCE: Duration = Duration::from_secs(10);

struct Listener;

#[zbus::interface(name = "org.kos.Init1")]
impl Listener {
    fn services(&self) -> Vec<ServiceStatus> {
        Vec::new()
    }

    fn kill(&self, name: &str, signal: i32) -> String {
        format!("{name} {signal}")
    }

    fn read_log(&self, name: &str, cursor: u64, max: u32, wait_ms: u32) -> (String, u64, u32, u32) {
        (name.to_owned(), cursor, max, wait_ms)
    }

    fn read_logs(&self, cursors: Vec<(String, u64)>, max: u32) -> (u32, u32) {
        (cursors.len() as u32, max)
    }
}

thread_local! {
    static RUNTIME: OnceCell<Runtime> = const { OnceCell::new() };
}

fuzz_target!(|data: &[u8]| {
    RUNTIME.with(|cell| {
        let runtime = cell.get_or_init(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("an event loop")
        });
        runtime.block_on(converse(data));
    });
});

async fn converse(data: &[u8]) {
    let (mut client, server) = UnixStream::pair().expect("a pair of sockets");
    let server = zbus::connection::Builder::unix_stream(server.into_std().expect("a socket"))
        .server(zbus::Guid::generate())
        .p2p()
        .serve_at(OBJECT_PATH, Listener)
        .build();
    let talk = async {
        // A server that breaks off early makes these fail, as it may.
        let _ = client.write_all(HANDSHAKE).await;
        let _ = client.write_all(data).await;
        let _ = client.shutdown().await;
        let mut answer = [0; 4096];
        while matches!(client.read(&mut answer).await, Ok(1..)) {}
    };
    let serve = async {
        if let Ok(connection) = server.await {
            connection.closed().await;
        }
    };
    let both = async { tokio::join!(talk, serve) };
    tokio::time::timeout(PATIENCE, both)
        .await
        .expect("the server noticed that its client is gone");
}
