//! A leak: takes memory and touches every page of it until something stops it.

use std::hint::black_box;

const MIB: usize = 1024 * 1024;

fn main() {
    println!("memory hog starts");
    let mut taken = Vec::new();
    loop {
        // Not zeroes: those could stay one shared page.
        taken.push(black_box(vec![0xa5_u8; MIB]));
        if taken.len() % 16 == 0 {
            println!("took {} MiB", taken.len());
        }
    }
}
