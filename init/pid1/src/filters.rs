//! Compiled system-call filters: services with the same rights share one.
//!
//! Finding some two hundred calls by name and compiling them is the same work at each start; here it is
//! done once for each combination of rights that a manifest asks for.

use std::collections::BTreeMap;
use std::sync::Mutex;

use kos_manifest::launch::LAUNCHER_CALLS;
use kos_sys::error::SysError;
use kos_sys::filter::{Calls, Filter, Internet};

use crate::console::lock;

/// Different filters that are kept. A box has a handful; beyond that they are made anew.
const MOST: usize = 32;

/// The filters that were compiled so far.
#[derive(Default)]
pub struct Filters(Mutex<BTreeMap<Calls, Vec<u64>>>);

impl Filters {
    /// The filter that allows these calls, as a launch spec carries it.
    ///
    /// # Errors
    /// There is no call of one of the names.
    pub fn of(&self, calls: Calls) -> Result<Vec<u64>, SysError> {
        let mut known = lock(&self.0);
        if let Some(filter) = known.get(&calls) {
            return Ok(filter.clone());
        }
        let filter = Filter::compile(&calls)?.to_words();
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(calls, filter.clone());
        Ok(filter)
    }

    /// The filter of the launcher itself.
    ///
    /// # Errors
    /// As [`Filters::of`].
    pub fn of_launcher(&self) -> Result<Vec<u64>, SysError> {
        self.of(Calls {
            names: LAUNCHER_CALLS.map(str::to_owned).to_vec(),
            internet: Internet::Streams,
            writable_code: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(names: &[&str]) -> Calls {
        Calls {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            internet: Internet::Streams,
            writable_code: false,
        }
    }

    #[test]
    fn what_is_kept_is_what_is_compiled_and_has_an_end() {
        let filters = Filters::default();
        let first = filters.of(calls(&["read"])).unwrap();
        assert_eq!(filters.of(calls(&["read"])).unwrap(), first);
        assert_ne!(filters.of(calls(&["write"])).unwrap(), first);
        let wider = Calls {
            writable_code: true,
            ..calls(&["mmap"])
        };
        assert_ne!(
            filters.of(wider).unwrap(),
            filters.of(calls(&["mmap"])).unwrap()
        );
        let names: Vec<&str> = LAUNCHER_CALLS.to_vec();
        for length in 1..=names.len() {
            for skipped in 0..3.min(length) {
                filters.of(calls(&names[skipped..length])).unwrap();
                assert!(lock(&filters.0).len() <= MOST);
            }
        }
        assert_eq!(filters.of(calls(&["read"])).unwrap(), first);
        let error = filters.of(calls(&["raed"])).unwrap_err();
        assert!(error.full().contains("raed"), "{}", error.full());
    }
}
