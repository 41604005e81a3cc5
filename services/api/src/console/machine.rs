//! The card about the machine: its board, the disk that it started from, and its data.

use askama::Template;

use super::bar::Bar;
use super::show;
use crate::live::Snapshot;

/// Board, disk and data.
#[derive(Template)]
#[template(path = "part_machine.html")]
pub struct Machine {
    known: bool,
    board: String,
    board_name: String,
    boot_disk: String,
    /// Used and free, in words and as a bar.
    room: String,
    bar: Bar,
    /// What `/data` is; a problem with it is said above, and not again here.
    data_detail: String,
    on_disk: bool,
}

impl From<&Snapshot> for Machine {
    fn from(snapshot: &Snapshot) -> Self {
        let Some(system) = &snapshot.system else {
            return Machine {
                known: false,
                board: String::new(),
                board_name: String::new(),
                boot_disk: String::new(),
                room: String::new(),
                bar: Bar::new(0, 0),
                data_detail: String::new(),
                on_disk: false,
            };
        };
        // A board without a description is called by its name alone.
        let (board, board_name) = if system.board_description.is_empty() {
            (system.board.clone(), String::new())
        } else {
            (system.board_description.clone(), system.board.clone())
        };
        let used = system.data_bytes.saturating_sub(system.data_free);
        Machine {
            known: true,
            board,
            board_name,
            boot_disk: system.boot_disk.clone(),
            room: match system.data_bytes {
                0 => String::new(),
                _ => format!(
                    "{} used, {} free",
                    show::disk_bytes(used),
                    show::disk_bytes(system.data_free)
                ),
            },
            bar: Bar::new(used, system.data_bytes),
            data_detail: if system.data_problem.is_empty() {
                system.data_detail.clone()
            } else {
                String::new()
            },
            on_disk: system.data_kind == "disk",
        }
    }
}
