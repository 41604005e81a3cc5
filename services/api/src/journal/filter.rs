//! Which records are wanted.

use super::record::Record;
use super::search::Search;

/// What a question asks for; the default is everything.
#[derive(Debug, Clone)]
pub struct Filter {
    /// Services by name; all when empty.
    pub services: Vec<String>,
    /// Least severe level wanted, 0 to 7.
    pub level: u8,
    /// First time wanted, in milliseconds since 1970.
    pub since: u64,
    /// Last time wanted.
    pub until: u64,
    /// What must be in it.
    pub search: Search,
}

impl Default for Filter {
    fn default() -> Self {
        Filter {
            services: Vec::new(),
            level: 7,
            since: 0,
            until: u64::MAX,
            search: Search::default(),
        }
    }
}

impl Filter {
    /// Whether it asks for this record. That lines are missing is told whatever their level, but
    /// is nothing that a search finds.
    pub fn wants(&self, record: &Record) -> bool {
        let is_there = (self.since..=self.until).contains(&record.time_unix_ms)
            && (self.services.is_empty() || self.services.contains(&record.service));
        is_there
            && match record.gap {
                Some(_) => self.search.is_empty(),
                None => record.level <= self.level && self.search.finds(record),
            }
    }

    /// Whether records between these times can be wanted.
    pub fn reaches(&self, from: u64, until: u64) -> bool {
        self.since <= until && from <= self.until
    }
}
