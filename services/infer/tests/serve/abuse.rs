//! Clients and files that mean no good. Whatever they do, nothing hangs, memory and descriptors come back,
//! and the next request is answered.
//!
//! `KOS_ABUSE=N` does all of it N times over.

use std::fs::{self, File};
use std::io::{BufRead, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use kos_infer::gguf;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::json;

use super::fixture::{LONG, Service, read_chunk, read_head};
use super::{expected, raw};

/// What a service may keep beyond what it had: the allocator's and the threads' own.
const SLACK: u64 = 24 << 20;

fn rounds() -> usize {
    let rounds = std::env::var("KOS_ABUSE").ok();
    rounds.map_or(1, |text| text.parse().expect("KOS_ABUSE is a number"))
}

/// A line of `/proc/PID/status`, in bytes.
fn memory(service: &Service, name: &str) -> u64 {
    let path = format!("/proc/{}/status", service.child.id());
    let text = fs::read_to_string(path).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kibibytes: u64 = line
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap();
    kibibytes * 1024
}

fn descriptors(service: &Service) -> usize {
    fs::read_dir(format!("/proc/{}/fd", service.child.id()))
        .unwrap()
        .count()
}

/// What a service has when it has nothing to do.
struct Calm {
    memory: u64,
    descriptors: usize,
}

impl Calm {
    fn of(service: &Service) -> Self {
        answers(service);
        forget(service);
        Self {
            memory: memory(service, "VmRSS:"),
            descriptors: descriptors(service),
        }
    }

    /// Waits until the service has no more than that.
    fn returns(&self, service: &Service) {
        answers(service);
        forget(service);
        let until = Instant::now() + LONG;
        loop {
            let (memory, open) = (memory(service, "VmRSS:"), descriptors(service));
            // One connection may still be closing.
            if memory <= self.memory + SLACK && open <= self.descriptors + 1 {
                return;
            }
            assert!(
                Instant::now() < until,
                "{memory} bytes of {}, {open} descriptors of {}",
                self.memory,
                self.descriptors
            );
            // Closing has no event that another process could wait for.
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Unloads everything.
fn forget(service: &Service) {
    for model in service.get("/api/ps")["models"].as_array().unwrap() {
        let request = json!({"model": model["name"], "keep_alive": 0});
        assert_eq!(service.post("/api/generate", &request).0, 200);
    }
}

/// The next request works.
fn answers(service: &Service) {
    let mut request = raw("tiny-q4_0");
    request["stream"] = false.into();
    let (status, answer) = service.post("/api/generate", &request);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["response"], expected("tiny-q4_0")["greedy_text"]);
}

#[test]
fn two_hundred_clients_of_every_kind() {
    let service = &Service::start(&["--patience", "1"]);
    let calm = Calm::of(service);
    for _ in 0..rounds() {
        std::thread::scope(|scope| {
            for number in 0..200_usize {
                scope.spawn(move || {
                    let mut request = raw(["tiny-q4_0", "tiny-f32"][number / 4 % 2]);
                    request["options"] = json!({"temperature": 1, "seed": number});
                    let body = request.to_string();
                    let mut reader = service.send("POST", "/api/generate", body.as_bytes());
                    match number % 4 {
                        // Reads nothing, and stays until the others are done.
                        0 => {
                            let _ = reader.fill_buf();
                        }
                        // Vanishes in the middle.
                        1 => {
                            let _ = reader.read_exact(&mut [0; 300]);
                        }
                        kind => {
                            let (status, _) = read_head(&mut reader);
                            assert!(matches!(status, 200 | 503), "{status}");
                            let mut last = String::new();
                            while status == 200
                                && let Some(chunk) = read_chunk(&mut reader)
                            {
                                last = chunk;
                                // Slowly.
                                if kind == 2 && last.len().is_multiple_of(16) {
                                    std::thread::sleep(Duration::from_millis(2));
                                }
                            }
                            assert!(status == 503 || last.contains("\"done\":true"), "{last}");
                        }
                    }
                });
            }
        });
        answers(service);
    }
    calm.returns(service);
}

#[test]
fn prompts_far_beyond_the_context_hold_nobody_up() {
    let service = &Service::start(&[]);
    let calm = Calm::of(service);
    let words = "the box wakes up and ".repeat(7_000_000 / 21);
    let letters = "x".repeat(7_000_000);
    for _ in 0..rounds() {
        std::thread::scope(|scope| {
            for (name, prompt) in [
                ("tiny-q4_0", &words),
                ("tiny-f32", &words),
                ("tiny-q4_0", &letters),
                ("tiny-f32", &letters),
            ] {
                scope.spawn(move || {
                    let request = json!({"model": name, "prompt": prompt, "raw": true});
                    let started = Instant::now();
                    let (status, answer) = service.post("/api/generate", &request);
                    assert_eq!(status, 400, "{answer}");
                    let text = answer["error"].as_str().unwrap();
                    assert!(text.contains("allowed: at most 511"), "{text}");
                    println!("{name}: refused in {:?}", started.elapsed());
                });
            }
        });
        answers(service);
    }
    calm.returns(service);
}

#[test]
fn bodies_without_measure_are_refused_and_not_held() {
    let service = &Service::start(&[]);
    let calm = Calm::of(service);
    let peak = memory(service, "VmHWM:");
    let part = vec![b' '; 1 << 20];
    for chunked in [false, true] {
        std::thread::scope(|scope| {
            for _ in 0..8 * rounds() {
                let part = &part;
                scope.spawn(move || {
                    let mut stream =
                        std::os::unix::net::UnixStream::connect(service.socket()).unwrap();
                    stream.set_read_timeout(Some(LONG)).unwrap();
                    let length = match chunked {
                        true => "transfer-encoding: chunked".to_owned(),
                        false => format!("content-length: {}", 100 << 20),
                    };
                    let head = format!("POST /api/chat HTTP/1.1\r\nhost: x\r\n{length}\r\n\r\n");
                    stream.write_all(head.as_bytes()).unwrap();
                    let mut sent = 0;
                    for _ in 0..100 {
                        let whole = match chunked {
                            true => {
                                [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat()
                            }
                            false => part.clone(),
                        };
                        if stream.write_all(&whole).is_err() {
                            break;
                        }
                        sent += 1;
                    }
                    assert!(sent < 20, "{sent} MiB were taken");
                    let mut answer = Vec::new();
                    // The answer may be lost with the rest of the connection.
                    let _ = stream.read_to_end(&mut answer);
                    let answer = String::from_utf8_lossy(&answer);
                    assert!(
                        answer.is_empty() || answer.starts_with("HTTP/1.1 413"),
                        "{answer}"
                    );
                });
            }
        });
        let more = memory(service, "VmHWM:").saturating_sub(peak);
        // What tells its length is refused at once; the other is held up to the limit.
        let allowed = if chunked {
            8 * rounds() as u64 * (16 << 20)
        } else {
            8 << 20
        };
        println!("{more} bytes more at the peak, allowed: {allowed}");
        assert!(more <= allowed, "{more} bytes more at the peak");
    }
    calm.returns(service);
}

/// splitmix64.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        (self.next() % most as u64) as usize
    }
}

#[test]
fn random_bytes_as_models() {
    let service = Service::start(&[]);
    let calm = Calm::of(&service);
    let path = service.models().join("odd.gguf");
    let sources = ["tiny-q4_0", "tiny-f32"];
    let sources =
        sources.map(|name| fs::read(service.models().join(format!("{name}.gguf"))).unwrap());
    let mut chance = Chance(1);
    let mut statuses = Vec::new();
    for round in 0..60 * rounds() {
        let mut bytes = sources[round % 2].clone();
        match round % 3 {
            // All of it, with or without the first words.
            0 => {
                let from = if round % 2 == 0 { 0 } else { 24 };
                bytes[from..].fill_with(|| chance.next() as u8);
            }
            // A few bytes of the header.
            1 => (0..4).for_each(|_| {
                let place = chance.below(12_000);
                bytes[place] = chance.next() as u8;
            }),
            // A few bytes of the weights.
            _ => (0..4).for_each(|_| {
                let place = bytes.len() / 2 + chance.below(bytes.len() / 2);
                bytes[place] = chance.next() as u8;
            }),
        }
        fs::write(&path, &bytes).unwrap();
        let request = json!({
            "model": "odd", "prompt": "Hello", "stream": false, "options": {"num_predict": 4},
        });
        let (status, answer) = service.post("/api/generate", &request);
        println!("{round}: {status} {}", answer["error"]);
        assert!(
            matches!(status, 200 | 400 | 500),
            "{round}: {status} {answer}"
        );
        assert!(
            status == 200 || answer["error"].is_string(),
            "{round}: {answer}"
        );
        statuses.push(status);
    }
    assert!(
        statuses.contains(&200) && statuses.contains(&500),
        "{statuses:?}"
    );
    calm.returns(&service);
    fs::remove_file(&path).unwrap();
}

#[test]
fn a_file_that_changes_while_it_is_loaded() {
    let service = Service::start(&[]);
    let calm = Calm::of(&service);
    let path = service.models().join("tiny-f32.gguf");
    let whole = fs::read(&path).unwrap();
    let mut request = raw("tiny-f32");
    request["stream"] = false.into();
    let ask = || service.post("/api/generate", &request);
    let load = json!({"model": "tiny-f32"});
    for length in [whole.len() / 2, 100, 0] {
        fs::write(&path, &whole).unwrap();
        assert_eq!(service.post("/api/generate", &load).0, 200);
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(length as u64)
            .unwrap();
        let (status, answer) = ask();
        assert_eq!(status, 500, "{answer}");
        assert!(
            answer["error"].as_str().unwrap().contains("tiny-f32.gguf"),
            "{answer}"
        );
    }
    // Another model under the same name, and the old one back again.
    for (bytes, name) in [
        (
            fs::read(service.models().join("tiny-q4_0.gguf")).unwrap(),
            "tiny-q4_0",
        ),
        (whole.clone(), "tiny-f32"),
    ] {
        fs::write(&path, bytes).unwrap();
        request["prompt"] = expected(name)["prompt"].take();
        let (status, answer) = service.post("/api/generate", &request);
        assert_eq!(
            (status, &answer["response"]),
            (200, &expected(name)["greedy_text"])
        );
        assert_eq!(
            service.get("/api/ps")["models"].as_array().unwrap().len(),
            1
        );
    }
    // Other weights, which nobody can see from the outside.
    assert_eq!(
        service
            .post(
                "/api/generate",
                &json!({"model": "tiny-f32", "keep_alive": 0})
            )
            .0,
        200
    );
    assert_eq!(service.post("/api/generate", &load).0, 200);
    let file = File::options().write(true).open(&path).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    file.set_len(20_000).unwrap();
    file.set_len(whole.len() as u64).unwrap();
    file.set_modified(modified).unwrap();
    let (status, answer) = service.post("/api/generate", &request);
    assert!(matches!(status, 200 | 500), "{answer}");
    calm.returns(&service);
}

/// A copy of `tiny-f32` with so wide a feed-forward part that its weights, which are zero and take no room on
/// the disk, have half a gigabyte.
fn wide_model(service: &Service, name: &str) -> PathBuf {
    let source = fs::read(service.models().join("tiny-f32.gguf")).unwrap();
    let header = gguf::File::read(source.as_slice(), source.len() as u64).unwrap();
    let mut bytes = source[..header.header_bytes as usize].to_vec();
    let end_of = |bytes: &[u8], text: &str| {
        let whole = [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
        let place = bytes.windows(whole.len()).position(|part| part == whole);
        place.unwrap() + whole.len()
    };
    let mut set = |place: usize, new: &[u8]| bytes[place..place + new.len()].copy_from_slice(new);
    let key = "llama.feed_forward_length";
    let narrow = header.tensors["blk.0.ffn_up.weight"].shape[0];
    let layers = header
        .tensors
        .keys()
        .filter(|name| name.ends_with("ffn_up.weight"))
        .count();
    let columns = header.tensors["blk.0.ffn_up.weight"].shape[1];
    let wide = (512 << 20) / (3 * layers * columns * 4) / 256 * 256;
    set(end_of(&source, key) + 4, &(wide as u32).to_le_bytes());
    let mut offset = 0;
    let mut narrow_ones = Vec::new();
    for (name, tensor) in &header.tensors {
        let place = end_of(&source, name) + 4;
        let mut numbers = 1;
        for (index, &size) in tensor.shape.iter().rev().enumerate() {
            let widened = name.contains("ffn_") && size == narrow;
            let size = if widened { wide } else { size };
            set(place + 8 * index, &(size as u64).to_le_bytes());
            numbers *= size as u64;
        }
        set(
            place + 8 * tensor.shape.len() + 4,
            &u64::to_le_bytes(offset),
        );
        if numbers * 4 == tensor.bytes {
            narrow_ones.push((tensor, header.header_bytes + offset));
        }
        offset += (numbers * 4).next_multiple_of(32);
    }
    let path = service.models().join(format!("{name}.gguf"));
    let mut file = File::create(&path).unwrap();
    file.write_all(&bytes).unwrap();
    file.set_len(header.header_bytes + offset).unwrap();
    for (tensor, offset) in narrow_ones {
        let numbers = &source[tensor.offset as usize..][..tensor.bytes as usize];
        file.write_all_at(numbers, offset).unwrap();
    }
    path
}

/// Sets a limit of the service's process to what it has and `more`.
fn limit(service: &Service, resource: Resource, has: &str, more: u64) {
    let most = Rlimit {
        current: Some(memory(service, has) + more),
        maximum: None,
    };
    let id = Pid::from_raw(service.child.id() as i32);
    prlimit(id, resource, most).unwrap();
}

#[test]
fn memory_that_ends_in_the_middle_of_loading() {
    let service = Service::start(&[]);
    let path = wide_model(&service, "wide");
    let calm = Calm::of(&service);
    let ask = json!({
        "model": "wide", "prompt": "Hello", "stream": false, "options": {"num_predict": 2},
    });
    // The service sees this limit beforehand, and does not begin.
    limit(&service, Resource::As, "VmSize:", 200 << 20);
    let (status, answer) = service.post("/api/generate", &ask);
    assert_eq!(status, 500, "{answer}");
    let text = answer["error"].as_str().unwrap();
    assert!(
        text.contains("left of its limit of address space"),
        "{text}"
    );
    answers(&service);
    limit(&service, Resource::As, "VmSize:", 1 << 40);
    // This one it meets.
    limit(&service, Resource::Data, "VmData:", 200 << 20);
    for _ in 0..3 * rounds() {
        let (status, answer) = service.post("/api/generate", &ask);
        assert_eq!(status, 500, "{answer}");
        let text = answer["error"].as_str().unwrap();
        assert!(text.contains("cannot read the model's weights"), "{text}");
        answers(&service);
    }
    calm.returns(&service);
    // Without it, all is well.
    limit(&service, Resource::Data, "VmData:", 1 << 40);
    let (status, answer) = service.post("/api/generate", &ask);
    assert_eq!(status, 200, "{answer}");
    assert!(memory(&service, "VmRSS:") > calm.memory + (400 << 20));
    calm.returns(&service);
    fs::remove_file(path).unwrap();
}
