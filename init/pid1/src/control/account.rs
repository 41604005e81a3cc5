//! What each user of the control socket has spent, so that a flood costs only the one who floods.
//!
//! A user is a uid, which is one service: however many connections it opens, they spend from one
//! purse. Who has spent it waits; nobody else does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::console::lock;

/// Connections of everybody together. A handful of services hold one each; the rest is room for
/// people.
pub const MAX_CONNECTIONS: usize = 64;

/// Connections of one user; root's tools and a careless service stay far below.
pub const MAX_CONNECTIONS_OF_ONE: usize = 16;

/// Calls of one user that wait for something at once. The API follows a log for each open page.
pub const MAX_WAITING: usize = 64;

/// Answers of one user that have not been read, in bytes, beyond which it is not listened to. Each
/// connection may have one answer more.
pub const MAX_UNREAD: usize = 1024 * 1024;

/// Work that one user may ask for in a second. A unit is a plain call, which takes PID 1 some
/// 20 to 50 microseconds: a user who spends everything takes a fiftieth of one processor.
const UNITS_PER_SECOND: f64 = 400.0;

/// Work that may be asked for at once by a user who has been quiet. A listing of a thousand
/// services costs the half of it.
const MAX_UNITS: f64 = 1000.0;

/// One user's misdeeds are written down at most this often.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(60);

/// All users.
#[derive(Default)]
pub struct Accounts {
    accounts: Mutex<BTreeMap<u32, Arc<Account>>>,
    connections: Arc<AtomicUsize>,
}

/// One user.
pub struct Account {
    /// Who.
    pub uid: u32,
    connections: AtomicUsize,
    waiting: AtomicUsize,
    unread: AtomicUsize,
    purse: Mutex<Purse>,
    told_of: Mutex<Option<Instant>>,
}

#[derive(Debug, Clone, Copy)]
struct Purse {
    units: f64,
    filled: Instant,
}

/// Why a connection is not taken.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// There are too many, of this user or of all.
    TooMany,
    /// It has spent everything.
    Spent,
}

/// A place among the connections, until dropped.
pub struct Place {
    /// Whose it is.
    pub account: Arc<Account>,
    all: Arc<AtomicUsize>,
}

impl Accounts {
    /// A place for one more connection of `uid`, which costs `units`.
    pub fn admit(&self, uid: u32, units: f64, now: Instant) -> Result<Place, Refused> {
        let account = self.account(uid, now);
        if account.owes(now).is_some() {
            return Err(Refused::Spent);
        }
        account.charge(units, now);
        let of_one = account.connections.load(Ordering::Relaxed);
        let of_all = self.connections.load(Ordering::Relaxed);
        if of_one >= MAX_CONNECTIONS_OF_ONE || of_all >= MAX_CONNECTIONS {
            return Err(Refused::TooMany);
        }
        account.connections.fetch_add(1, Ordering::Relaxed);
        self.connections.fetch_add(1, Ordering::Relaxed);
        Ok(Place {
            account,
            all: self.connections.clone(),
        })
    }

    fn account(&self, uid: u32, now: Instant) -> Arc<Account> {
        let mut accounts = lock(&self.accounts);
        // Who is gone and owes nothing is forgotten; those with a grant are few in any case.
        accounts.retain(|other, account| {
            *other == uid
                || account.connections.load(Ordering::Relaxed) > 0
                || !account.is_full(now)
        });
        accounts
            .entry(uid)
            .or_insert_with(|| Arc::new(Account::new(uid, now)))
            .clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.account.connections.fetch_sub(1, Ordering::Relaxed);
        self.all.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Account {
    /// A user who has spent nothing.
    pub fn new(uid: u32, now: Instant) -> Self {
        Account {
            uid,
            connections: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            unread: AtomicUsize::new(0),
            purse: Mutex::new(Purse {
                units: MAX_UNITS,
                filled: now,
            }),
            told_of: Mutex::new(None),
        }
    }

    /// Spends units, on credit if need be. Until a debt is paid off by time alone, [`Account::owes`].
    pub fn charge(&self, units: f64, now: Instant) {
        let mut purse = lock(&self.purse);
        purse.fill(now);
        purse.units -= units;
    }

    /// How long it takes until there is something to spend again; `None` when there is now.
    pub fn owes(&self, now: Instant) -> Option<Duration> {
        let mut purse = lock(&self.purse);
        purse.fill(now);
        if purse.units > 0.0 {
            return None;
        }
        Some(Duration::from_secs_f64(
            (1.0 - purse.units) / UNITS_PER_SECOND,
        ))
    }

    /// Whether something may be said about it in the log: once in a while, or its misdeeds would
    /// push everything else out.
    pub fn may_be_told_of(&self, now: Instant) -> bool {
        let mut last = lock(&self.told_of);
        let may = last.is_none_or(|last| now.saturating_duration_since(last) >= COMPLAINT_PAUSE);
        if may {
            *last = Some(now);
        }
        may
    }

    fn is_full(&self, now: Instant) -> bool {
        let mut purse = lock(&self.purse);
        purse.fill(now);
        purse.units >= MAX_UNITS
    }

    /// A permission for one more call to wait, until dropped; `None` when too many do.
    pub fn wait(self: &Arc<Self>) -> Option<Waiting> {
        if self.waiting.load(Ordering::Relaxed) >= MAX_WAITING {
            return None;
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Some(Waiting(self.clone()))
    }

    /// Whether it should read what it was told before it asks for more.
    pub fn owes_reading(&self) -> bool {
        self.unread.load(Ordering::Relaxed) >= MAX_UNREAD
    }

    /// Counts bytes that it has to read.
    pub fn told(&self, bytes: usize) {
        self.unread.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes that it has read, or never will.
    pub fn read(&self, bytes: usize) {
        self.unread.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Purse {
    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.units = (self.units + passed * UNITS_PER_SECOND).min(MAX_UNITS);
        self.filled = now;
    }
}

/// See [`Account::wait`].
pub struct Waiting(Arc<Account>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cannot_take_the_places_of_all() {
        let (accounts, now) = (Accounts::default(), Instant::now());
        let held: Vec<Place> = std::iter::from_fn(|| accounts.admit(1001, 1.0, now).ok()).collect();
        assert_eq!(held.len(), MAX_CONNECTIONS_OF_ONE);
        assert!(accounts.admit(1002, 1.0, now).is_ok());
        drop(held);
        assert!(accounts.admit(1001, 1.0, now).is_ok());
        let all: Vec<Place> = (0..200)
            .filter_map(|uid| accounts.admit(uid, 1.0, now).ok())
            .collect();
        assert_eq!(all.len(), MAX_CONNECTIONS);
    }

    #[test]
    fn who_has_spent_everything_waits_and_nobody_else() {
        let (accounts, now) = (Accounts::default(), Instant::now());
        let place = accounts.admit(1001, 0.0, now).unwrap();
        let calls = std::iter::from_fn(|| {
            let solvent = place.account.owes(now).is_none();
            place.account.charge(f64::from(u8::from(solvent)), now);
            solvent.then_some(())
        });
        assert_eq!(calls.count(), 1000);
        let wait = place.account.owes(now).unwrap();
        assert!(wait <= Duration::from_millis(3), "{wait:?}");
        assert_eq!(accounts.admit(1001, 4.0, now).err(), Some(Refused::Spent));
        assert!(accounts.admit(1002, 4.0, now).is_ok());
        // It cannot come back richer by going away.
        drop(place);
        assert_eq!(accounts.admit(1001, 4.0, now).err(), Some(Refused::Spent));
        let later = now + Duration::from_secs(1);
        assert!(accounts.admit(1001, 4.0, later).is_ok());
        // Much work at once is a debt, which takes its time.
        let rich = Account::new(0, now);
        rich.charge(1400.0, now);
        assert_eq!(rich.owes(now).unwrap().as_secs(), 1);
        assert_eq!(rich.owes(now + Duration::from_secs(2)), None);
    }

    #[test]
    fn misdeeds_are_told_once_a_minute() {
        let (account, now) = (Account::new(0, Instant::now()), Instant::now());
        assert!(account.may_be_told_of(now));
        assert!(!account.may_be_told_of(now + Duration::from_secs(59)));
        assert!(account.may_be_told_of(now + Duration::from_secs(60)));
    }

    #[test]
    fn waiting_calls_are_counted() {
        let account = Arc::new(Account::new(0, Instant::now()));
        let held: Vec<Waiting> = std::iter::from_fn(|| account.wait()).collect();
        assert_eq!(held.len(), MAX_WAITING);
        drop(held);
        assert!(account.wait().is_some());
        account.told(MAX_UNREAD);
        assert!(account.owes_reading());
        account.read(1);
        assert!(!account.owes_reading());
    }
}
