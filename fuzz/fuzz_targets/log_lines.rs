//! What services write: cut into lines, kept in a ring, read by cursor; nothing is longer, more or
//! older than the bounds allow.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code)]
#[path = "../../init/pid1/src/ring.rs"]
mod ring;

const CAPACITY: usize = 8 * ring::MAX_LINE;
const EVERYTHING: ring::Most = ring::Most {
    lines: usize::MAX,
    bytes: usize::MAX,
};

fuzz_target!(|data: &[u8]| {
    let Some((first, data)) = data.split_first() else {
        return;
    };
    let piece = usize::from(*first) + 1;
    let mut ring = ring::Ring::new(CAPACITY, 1);
    let mut cutter = ring::LineCutter::default();
    let mut cursor = 0;
    for bytes in data.chunks(piece) {
        cutter.feed(bytes, |line| {
            let (level, message) = ring::severity(line);
            assert!(level < 8);
            ring.push(0, level, message);
        });
        let page = ring.page(
            cursor,
            ring::Most {
                lines: 16,
                bytes: 8192,
            },
        );
        assert!(page.next >= cursor);
        cursor = page.next;
    }
    cutter.flush(&mut |line: &str| ring.push(0, 6, line));
    let page = ring.page(0, EVERYTHING);
    let held: usize = page.entries.iter().map(|entry| entry.message.len()).sum();
    // A ring gives up whole pieces, and never its last one.
    assert!(held <= ring.bytes() && ring.bytes() <= 2 * CAPACITY);
});
