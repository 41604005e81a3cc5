//! `/api/v1`: JSON for programs. Field names are snake_case; times in `_ms` count from boot unless
//! a name says otherwise; errors are `{"error": "…"}`.

pub mod boots;
pub mod events;
pub mod journal;
pub mod logs;
pub mod manifests;
pub mod owner;
pub mod reset;
pub mod services;
pub mod sessions;
pub mod settings;
pub mod system;
