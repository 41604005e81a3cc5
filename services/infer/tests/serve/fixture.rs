//! The program in a process of its own, and a small HTTP client that can misbehave.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

/// Longest wait for anything here; far more than it takes on a busy machine.
pub const LONG: Duration = Duration::from_secs(120);

pub struct Service {
    pub child: Child,
    directory: tempfile::TempDir,
    /// Behind a lock, so that clients on several threads can share the service.
    log: Mutex<Receiver<String>>,
}

impl Service {
    /// Starts the program on a copy of the models, with more arguments.
    pub fn start(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let models = directory.path().join("models");
        std::fs::create_dir(&models).unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models");
        for name in ["tiny-q4_0.gguf", "tiny-f32.gguf"] {
            std::fs::copy(source.join(name), models.join(name)).unwrap();
        }
        let whole = std::fs::read(source.join("tiny-f16.gguf")).unwrap();
        std::fs::write(models.join("cut.gguf"), &whole[..whole.len() / 2]).unwrap();
        let socket = directory.path().join("s");
        // A socket left by a run before.
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        let mut child = Command::new(env!("CARGO_BIN_EXE_kos-infer"))
            .args(["--threads", "1", "--models"])
            .arg(&models)
            .arg("--socket")
            .arg(&socket)
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, log) = channel();
        std::thread::spawn(move || {
            // The pipe is read to its end, whether or not the test still looks.
            for line in lines.map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let service = Self {
            child,
            directory,
            log: Mutex::new(log),
        };
        // Its first line comes when it listens.
        service.wait_for_log("serving");
        service
    }

    /// Waits for a line of the log that has `part` in it.
    pub fn wait_for_log(&self, part: &str) {
        let log = self.log.lock().unwrap();
        while !log.recv_timeout(LONG).expect(part).contains(part) {}
    }

    pub fn models(&self) -> PathBuf {
        self.directory.path().join("models")
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("s")
    }

    /// Sends a request; returns the connection, to be read from.
    pub fn send(&self, method: &str, path: &str, body: &[u8]) -> BufReader<UnixStream> {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        // The server may refuse a body before it has read all of it.
        let _ = stream.write_all(body);
        BufReader::new(stream)
    }

    /// Status and body, chunks put together.
    pub fn call(&self, method: &str, path: &str, body: &[u8]) -> (u16, String) {
        let mut reader = self.send(method, path, body);
        let (status, chunked) = read_head(&mut reader);
        let mut text = String::new();
        if chunked {
            while let Some(chunk) = read_chunk(&mut reader) {
                text.push_str(&chunk);
            }
        } else {
            let _ = reader.read_to_string(&mut text);
        }
        (status, text)
    }

    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let (status, text) = self.call("POST", path, body.to_string().as_bytes());
        (
            status,
            serde_json::from_str(&text).unwrap_or(Value::String(text)),
        )
    }

    pub fn get(&self, path: &str) -> Value {
        let (status, text) = self.call("GET", path, b"");
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Asks for the end, as PID 1 does.
    pub fn terminate(&self) {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &id])
                .status()
                .unwrap()
                .success()
        );
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn read_head(reader: &mut impl BufRead) -> (u16, bool) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
    }
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (
        status,
        head.to_lowercase().contains("transfer-encoding: chunked"),
    )
}

pub fn read_chunk(reader: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let length = usize::from_str_radix(line.trim(), 16).ok()?;
    let mut bytes = vec![0; length + 2];
    reader.read_exact(&mut bytes).unwrap();
    bytes.truncate(length);
    (length > 0).then(|| String::from_utf8(bytes).unwrap())
}
