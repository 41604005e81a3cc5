//! Threads that compute together.
//!
//! Work is cut into pieces. Each thread has a share of them, one after the other, so that it reads
//! memory as a stream; one that is through with its own takes what is left of the others'. Whoever
//! calls takes pieces too, and waits only for pieces that another thread has taken: a thread that
//! the machine gives to somebody else before it took one holds nobody up. Threads watch for the
//! next work for a short while before they sleep, because a token is a few hundred works with
//! almost nothing between them.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, Thread};

use super::activations::Room;

/// Looks at the next work before a thread sleeps: some 50 µs, several times the longest gap between
/// two works of one token.
const LOOKS: u32 = 4000;

/// Work that is going on: an address on its caller's stack, valid while `open`.
type Piece<'a> = dyn Fn(usize) + Sync + 'a;

struct Shared {
    /// Odd while work is open. Grows with each opening and each closing.
    turn: AtomicUsize,
    /// The work's two words, of a `*const Piece`; only read by who is counted in `inside`.
    work: [AtomicUsize; 2],
    pieces: AtomicUsize,
    /// One for each thread.
    shares: Vec<Share>,
    /// Threads that may be using the work.
    inside: AtomicUsize,
    sleeping: AtomicUsize,
    panicked: AtomicBool,
    ending: AtomicBool,
}

/// The next piece of a thread's share, in a cache line of its own.
#[derive(Default)]
#[repr(align(128))]
struct Share {
    next: AtomicUsize,
}

/// Threads that compute together.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<(JoinHandle<()>, Thread)>,
    /// One work at a time.
    calling: Mutex<()>,
    /// Memory that works have used, for the next ones.
    rooms: Mutex<Vec<Room>>,
}

impl Pool {
    /// A pool of `threads` threads, the caller's among them.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            turn: AtomicUsize::new(0),
            work: [AtomicUsize::new(0), AtomicUsize::new(0)],
            pieces: AtomicUsize::new(0),
            shares: (0..threads.max(1)).map(|_| Share::default()).collect(),
            inside: AtomicUsize::new(0),
            sleeping: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            ending: AtomicBool::new(false),
        });
        let mut pool = Self {
            shared,
            threads: Vec::new(),
            calling: Mutex::new(()),
            rooms: Mutex::default(),
        };
        for index in 1..threads {
            let shared = pool.shared.clone();
            let handle = std::thread::Builder::new()
                .name(format!("compute-{index}"))
                .spawn(move || shared.serve(index))?;
            let thread = handle.thread().clone();
            pool.threads.push((handle, thread));
        }
        Ok(pool)
    }

    /// How many threads compute, the caller's among them.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads.len() + 1
    }

    /// Memory for activations; whoever has done with it gives it back by [`Self::keep`].
    pub(super) fn room(&self) -> Room {
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        rooms.pop().unwrap_or_default()
    }

    /// Gives memory that is kept for the next works back to the system.
    pub fn tidy(&self) {
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        *rooms = Vec::new();
    }

    /// Keeps what [`Self::room`] has given.
    pub(super) fn keep(&self, room: Room) {
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        rooms.push(room);
    }

    /// Calls `piece` once with each number below `pieces`, on all threads; returns when all are
    /// done.
    ///
    /// A piece must not call this itself: it would wait for itself.
    ///
    /// # Panics
    /// When a piece panics.
    pub fn run(&self, pieces: usize, piece: &(dyn Fn(usize) + Sync)) {
        if self.threads.is_empty() || pieces <= 1 {
            (0..pieces).for_each(piece);
            return;
        }
        let _calling = self.calling.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        // SAFETY: only the lifetime is forgotten. The work is closed, and nobody is inside any more,
        // before this function returns or unwinds.
        let words: [usize; 2] = unsafe {
            std::mem::transmute::<*const Piece<'_>, [usize; 2]>(piece as *const Piece<'_>)
        };
        shared.work[0].store(words[0], Ordering::Relaxed);
        shared.work[1].store(words[1], Ordering::Relaxed);
        shared.pieces.store(pieces, Ordering::Relaxed);
        for (index, share) in shared.shares.iter().enumerate() {
            share
                .next
                .store(shared.start(index, pieces), Ordering::Relaxed);
        }
        shared.turn.fetch_add(1, Ordering::SeqCst);
        if shared.sleeping.load(Ordering::SeqCst) > 0 {
            for (_, thread) in &self.threads {
                thread.unpark();
            }
        }
        let own = catch_unwind(AssertUnwindSafe(|| shared.take(0, pieces, piece)));
        if own.is_err() {
            shared.give_up(pieces);
        }
        shared.turn.fetch_add(1, Ordering::SeqCst);
        let mut looks = 0;
        while shared.inside.load(Ordering::SeqCst) > 0 {
            looks += 1;
            // Its thread may share this processor.
            if looks % LOOKS == 0 {
                std::thread::yield_now();
            }
            std::hint::spin_loop();
        }
        let others = shared.panicked.swap(false, Ordering::Relaxed);
        if let Err(panic) = own {
            resume_unwind(panic);
        }
        assert!(!others, "a computing thread panicked");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::SeqCst);
        for (handle, thread) in self.threads.drain(..) {
            thread.unpark();
            // It cannot have panicked: pieces' panics are caught.
            let _ = handle.join();
        }
    }
}

impl Shared {
    /// The first piece of a share.
    fn start(&self, share: usize, pieces: usize) -> usize {
        share * pieces / self.shares.len()
    }

    /// Takes the pieces of the thread's own share, then of those after it.
    fn take(&self, thread: usize, pieces: usize, piece: &(dyn Fn(usize) + Sync)) {
        let count = self.shares.len();
        for share in (thread..count).chain(0..thread) {
            let end = self.start(share + 1, pieces);
            loop {
                let index = self.shares[share].next.fetch_add(1, Ordering::Relaxed);
                if index >= end {
                    break;
                }
                piece(index);
            }
        }
    }

    /// Leaves the pieces that nobody has taken.
    fn give_up(&self, pieces: usize) {
        for share in &self.shares {
            share.next.store(pieces, Ordering::Relaxed);
        }
    }

    fn serve(&self, thread: usize) {
        let mut seen = 0;
        while let Some(turn) = self.wait(seen) {
            seen = turn;
            self.inside.fetch_add(1, Ordering::SeqCst);
            // Whoever closes the work looks at `inside` afterwards: either it sees this thread, or
            // this thread sees that the work is closed.
            if self.turn.load(Ordering::SeqCst) == turn {
                let words = [
                    self.work[0].load(Ordering::Relaxed),
                    self.work[1].load(Ordering::Relaxed),
                ];
                // SAFETY: the work is open, and is not closed while this thread is inside.
                let piece: &Piece<'_> =
                    unsafe { &*std::mem::transmute::<[usize; 2], *const Piece<'_>>(words) };
                let pieces = self.pieces.load(Ordering::Relaxed);
                if catch_unwind(AssertUnwindSafe(|| self.take(thread, pieces, piece))).is_err() {
                    self.panicked.store(true, Ordering::Relaxed);
                    self.give_up(pieces);
                }
            }
            self.inside.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Waits for open work that is not `seen`; None when the pool ends.
    fn wait(&self, seen: usize) -> Option<usize> {
        let open = || {
            let turn = self.turn.load(Ordering::SeqCst);
            (turn % 2 == 1 && turn != seen).then_some(turn)
        };
        for _ in 0..LOOKS {
            if let Some(turn) = open() {
                return Some(turn);
            }
            std::hint::spin_loop();
        }
        self.sleeping.fetch_add(1, Ordering::SeqCst);
        let found = loop {
            if self.ending.load(Ordering::SeqCst) {
                break None;
            }
            if let Some(turn) = open() {
                break Some(turn);
            }
            std::thread::park();
        };
        self.sleeping.fetch_sub(1, Ordering::SeqCst);
        found
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Barrier;
    use std::thread::{self, ThreadId};

    use super::*;

    #[test]
    fn every_piece_is_done_once() {
        let pool = Pool::new(3).unwrap();
        for round in 0..500 {
            let pieces = round % 17;
            let done: Vec<_> = (0..pieces).map(|_| AtomicUsize::new(0)).collect();
            pool.run(pieces, &|piece| {
                done[piece].fetch_add(1, Ordering::Relaxed);
            });
            assert!(done.iter().all(|count| count.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn each_thread_begins_with_a_share_of_its_own() {
        let pool = Pool::new(3).unwrap();
        let begins = [0, 4, 8];
        for _ in 0..50 {
            let first: Mutex<HashMap<ThreadId, usize>> = Mutex::default();
            // Who has begun waits for the others, so that nobody is through before they come.
            let begun = Barrier::new(begins.len());
            pool.run(12, &|piece| {
                let mut first = first.lock().unwrap();
                first.entry(thread::current().id()).or_insert(piece);
                drop(first);
                if begins.contains(&piece) {
                    begun.wait();
                }
            });
            let mut first: Vec<_> = first.into_inner().unwrap().into_values().collect();
            first.sort_unstable();
            assert_eq!(first, begins);
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
        let pool = Pool::new(2).unwrap();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            pool.run(64, &|piece| assert!(piece != 40, "a test asked for it"));
        }));
        assert!(outcome.is_err());
        // Both threads at once.
        let met = Barrier::new(2);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            pool.run(2, &|_| {
                met.wait();
                panic!("a test asked for it");
            });
        }));
        assert!(outcome.is_err());
        let sum = AtomicUsize::new(0);
        pool.run(10, &|piece| {
            sum.fetch_add(piece, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 45);
    }
}
