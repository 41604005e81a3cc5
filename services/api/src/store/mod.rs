//! What survives a restart: sessions and settings, in SQLite.

pub mod clock;
pub mod database;
mod rescue;
pub mod sessions;
pub mod settings;
