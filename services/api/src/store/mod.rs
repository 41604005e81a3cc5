//! What survives a restart: sessions and settings, in SQLite.

pub mod clock;
pub mod database;
pub mod sessions;
pub mod settings;
