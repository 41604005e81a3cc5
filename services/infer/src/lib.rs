//! The model engine: reads models, runs decoders and encoders, and serves them in Ollama's HTTP
//! shape on a Unix socket.
//!
//! Rooms, from the file upwards: [`gguf`] and [`safetensors`] read and check files, [`tokenizer`] and [`template`]
//! turn text into tokens, [`model`] computes on [`kernels`], [`sampler`] chooses, [`constrain`] says
//! among which, [`library`] knows the models directory, [`engine`] owns the one loaded model on its
//! own thread, [`reading`] finds thinking and calls of tools in its text, [`http`] speaks to clients.
//! [`operator`] is a model of our own beside them, which understands requests to the box.
//!
//! What this crate must never do: trust a number found in a file before it is checked against
//! the file's length, listen on TCP, or die because of a model or a client.

pub mod clock;
pub mod constrain;
pub mod cpu;
pub mod engine;
pub mod gguf;
pub mod group;
pub mod http;
pub mod kernels;
pub mod library;
pub mod memory;
pub mod model;
pub mod operator;
pub mod options;
pub mod pressure;
pub mod reading;
pub mod safetensors;
pub mod sampler;
pub mod template;
pub mod tokenizer;
