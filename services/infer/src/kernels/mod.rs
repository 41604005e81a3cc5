//! Matrix products and attention on the processor: the part of the engine whose speed is the
//! product's. candle's tensors stand above it; this is what computes where its own kernels lose.
//!
//! Weights are packed into groups of eight rows ([`Matrix`]), so that one activation meets eight
//! weights in one register and nothing is summed across lanes. The loops are written once
//! (`tiles`, `blocks`, `super_blocks`) in words that each instruction set says in its own way (`lanes`), and which set is
//! used is found when the program runs ([`Isa`]). A matrix unit that multiplies whole tiles of tokens
//! is beside them (`amx`). Threads share work by taking small pieces
//! ([`Pool`]); nobody waits for one that took none.
//!
//! This room may hold `unsafe`. What it must never do: look at a weight file's numbers without
//! having checked the length of what holds them.
#![allow(unsafe_code)]

mod activations;
#[cfg(target_arch = "x86_64")]
mod amx;
mod attention;
mod blocks;
mod isa;
mod lanes;
mod matrix;
#[cfg(target_arch = "aarch64")]
mod neon;
mod packing;
mod plain;
mod pool;
mod super_blocks;
mod tiles;
mod vectors;
#[cfg(target_arch = "x86_64")]
mod x86;
mod zeroed;

pub use attention::{Attention, Keep, PAGE, Stretch};
pub use isa::Isa;
use isa::for_isa;
pub use matrix::{Matrix, Product};
pub use packing::unpacked;
pub use pool::Pool;
pub use vectors::{add, gelu_exact, gelu_product, layer_norm, rms_norm, silu_product, softmax};
pub use zeroed::{Cut, Zeroed, give_back};

#[cfg(test)]
mod tests;
