//! The console: pages rendered here, kept live by htmx and one event stream, readable without
//! JavaScript.

pub mod actions;
pub mod bar;
pub mod boots;
pub mod diagram;
pub mod history;
pub mod journal_page;
pub mod log_page;
pub mod machine;
pub mod operator;
pub mod operator_answer;
pub mod page;
pub mod pairing;
pub mod reset;
pub mod service_page;
pub mod show;
pub mod stream;
pub mod trouble;
pub mod usage;
pub mod view;
