//! What came out: each quantity on every peer, beside systemd's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::peer::Peer;
use crate::bench::median::median;
use crate::debian::PackageRecord;

/// One boot's word, as the guest prints it.
#[derive(Debug, Deserialize)]
pub struct Figures {
    /// Milliseconds, each quantity with each of its values.
    pub times: BTreeMap<String, Vec<f64>>,
    /// At the start, once all was ready.
    pub memory: Memory,
}

/// Memory of the supervisor's processes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Memory {
    /// PID 1.
    pub init: Kilobytes,
    /// Others that it needs, by name.
    pub helpers: BTreeMap<String, Kilobytes>,
}

/// See the kernel's `smaps_rollup`.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Kilobytes {
    /// How many processes.
    pub processes: u32,
    /// Resident.
    pub rss: u64,
    /// Resident, each shared page divided among those who share it.
    pub pss: u64,
}

/// Everything that was measured.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// What executed the guests.
    pub accelerator: String,
    /// The processor of the machine that measured.
    pub machine: String,
    /// Boots that the run's time did not suffice for.
    pub left_out: Vec<String>,
    /// Boots that gave no figures, and why.
    pub failures: Vec<String>,
    /// Quantity, then peer: milliseconds.
    pub times: BTreeMap<String, BTreeMap<String, Vec<f64>>>,
    /// Number of services, then peer: one for each boot.
    pub memory: BTreeMap<u32, BTreeMap<String, Vec<Memory>>>,
    /// The peers' packages.
    pub packages: BTreeMap<String, Vec<PackageRecord>>,
}

impl Report {
    /// Takes what one boot said.
    pub fn add(&mut self, peer: Peer, services: u32, figures: Figures) {
        for (quantity, values) in figures.times {
            self.times
                .entry(quantity)
                .or_default()
                .entry(peer.name().to_owned())
                .or_default()
                .extend(values);
        }
        self.memory
            .entry(services)
            .or_default()
            .entry(peer.name().to_owned())
            .or_default()
            .push(figures.memory);
    }

    /// The table, in Markdown.
    pub fn table(&self) -> String {
        let mut text = String::from("|");
        let mut rule = String::from("\n|---|");
        for peer in Peer::ALL {
            text.push_str(&format!(" | {}", peer.name()));
            rule.push_str("---|");
        }
        text.push_str(" |");
        text.push_str(&rule);
        text.push('\n');
        for (quantity, peers) in &self.times {
            self.row(&mut text, &format!("{quantity}, ms"), |peer| {
                peers.get(peer).cloned().unwrap_or_default()
            });
        }
        for (services, peers) in &self.memory {
            let each = |peer: &str, value: &dyn Fn(&Memory) -> u64| -> Vec<f64> {
                let boots = peers.get(peer).into_iter().flatten();
                boots.map(|memory| value(memory) as f64 / 1024.0).collect()
            };
            let title = |what: &str| format!("{what} with {services} services, MiB");
            self.row(&mut text, &title("PID 1's RSS"), |peer| {
                each(peer, &|memory| memory.init.rss)
            });
            self.row(&mut text, &title("PID 1's PSS"), |peer| {
                each(peer, &|memory| memory.init.pss)
            });
            self.row(&mut text, &title("PSS of its helpers"), |peer| {
                each(peer, &|memory| {
                    memory.helpers.values().map(|helper| helper.pss).sum()
                })
            });
        }
        for boot in &self.left_out {
            text.push_str(&format!("\nnot measured, the time was over: {boot}\n"));
        }
        for failure in &self.failures {
            text.push_str(&format!("\nno figures: {failure}\n"));
        }
        text
    }

    /// Medians with the least and the largest value, and the ratio to systemd's median.
    fn row(&self, text: &mut String, title: &str, values: impl Fn(&str) -> Vec<f64>) {
        let base = median(&values(Peer::Systemd.name()));
        let counts = Peer::ALL.map(|peer| values(peer.name()).len());
        let count = counts.into_iter().max().unwrap_or(0);
        text.push_str(&format!("| {title}, of {count} |"));
        for peer in Peer::ALL {
            let values = values(peer.name());
            if values.is_empty() {
                text.push_str(" |");
                continue;
            }
            let middle = median(&values);
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            let most = values.iter().copied().fold(0.0, f64::max);
            let spread = match values.len() {
                1 => String::new(),
                _ => format!(" ({}–{})", shown(least), shown(most)),
            };
            let ratio = match peer {
                Peer::Systemd => String::new(),
                _ if base.is_nan() || base == 0.0 => String::new(),
                _ => format!(", ×{:.2}", middle / base),
            };
            text.push_str(&format!(" {}{spread}{ratio} |", shown(middle)));
        }
        text.push('\n');
    }
}

fn shown(value: f64) -> String {
    match value {
        value if value < 10.0 => format!("{value:.2}"),
        value if value < 100.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_to_systemd_and_what_a_peer_does_not_tell_is_empty() {
        let mut report = Report::default();
        for (peer, time) in [(Peer::Kos, 20.0), (Peer::Systemd, 80.0)] {
            let figures = Figures {
                times: BTreeMap::from([("start to ready".to_owned(), vec![time, time + 10.0])]),
                memory: Memory {
                    init: Kilobytes {
                        processes: 1,
                        rss: 2048,
                        pss: 1024,
                    },
                    helpers: BTreeMap::new(),
                },
            };
            report.add(peer, 10, figures);
        }
        let table = report.table();
        let row = "| start to ready, ms, of 2 | 25.0 (20.0–30.0), ×0.29 | 85.0 (80.0–90.0) | | | |";
        assert!(table.contains(row), "{table}");
        assert!(table.contains("| PID 1's RSS with 10 services, MiB, of 1 | 2.00, ×1.00 | 2.00 |"));
    }
}
