//! Many services on many open consoles: telling all of them must not cost more than `api` may have.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fixture::{Fixture, run};

const SERVICES: usize = 1000;
/// As many as there are places for streams.
const CONSOLES: usize = 64;
const CHANGES: usize = 3;
/// A quarter of what `image/services/api.toml` allows; 28 MiB were seen, and 152 MiB when each console
/// had a copy of its own.
const MOST: u64 = 64 << 20;

/// An open console, read as a browser does: to the end of what there is, keeping nothing.
struct Console(TcpStream);

impl Console {
    async fn open(kos: &Fixture) -> Self {
        let address = kos.api.console;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let ask = format!(
            "GET /console/stream HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer ab12cd34\r\n\r\n"
        );
        stream.write_all(ask.as_bytes()).await.unwrap();
        Console(stream)
    }

    async fn read_until(&mut self, word: &str) {
        let mut seen = Vec::new();
        let mut piece = vec![0; 64 * 1024];
        while !seen.windows(word.len()).any(|part| part == word.as_bytes()) {
            // The word may come in two pieces.
            seen.drain(..seen.len().saturating_sub(word.len()));
            let length = self.0.read(&mut piece).await.unwrap();
            assert_ne!(length, 0, "the stream ended before '{word}'");
            seen.extend_from_slice(&piece[..length]);
        }
    }
}

#[test]
fn a_thousand_services_on_64_consoles_fit() {
    run(async {
        let kos = Fixture::start().await;
        kos.init.grow(SERVICES);
        let mut consoles = Vec::new();
        for _ in 0..CONSOLES {
            let mut console = Console::open(&kos).await;
            console.read_until("agent-999").await;
            consoles.push(console);
        }
        for change in 0..CHANGES {
            let word = format!("change {change} is here");
            kos.init.set_state("infer", "backoff", &word);
            for console in &mut consoles {
                console.read_until(&word).await;
            }
        }
        let peak = kos.api.peak_memory();
        println!("{} KiB at most", peak >> 10);
        assert!(peak < MOST, "{} MiB, allowed: {}", peak >> 20, MOST >> 20);
    });
}
