//! A disk in memory that remembers each write until the next sync, and can be cut off anywhere.

use std::cell::RefCell;
use std::rc::Rc;

use kos_sys::SysError;
use kos_sys::gpt::Table;
use kos_sys::medium::Medium;
use kos_sys::provision::PartitionedDisk;

use crate::random::Random;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// One thing that was asked of the disk.
#[derive(Clone)]
pub enum Act {
    Write { at: usize, bytes: Vec<u8> },
    Discard { at: usize, length: usize },
    Sync,
}

/// What is on it, and what was asked of it since it was switched on.
pub struct Content {
    pub bytes: Vec<u8>,
    pub acts: Vec<Act>,
}

/// All of a disk, or a window into it.
#[derive(Clone)]
pub struct View {
    content: Rc<RefCell<Content>>,
    start: u64,
    length: u64,
}

impl Medium for View {
    fn name(&self) -> String {
        "the disk in memory".to_owned()
    }

    fn bytes(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), SysError> {
        let at = self.place(offset, buffer.len());
        buffer.copy_from_slice(&self.content.borrow().bytes[at..at + buffer.len()]);
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SysError> {
        let at = self.place(offset, bytes.len());
        assert!(
            at.is_multiple_of(SECTOR) && bytes.len().is_multiple_of(SECTOR),
            "a torn sector"
        );
        let content = &mut *self.content.borrow_mut();
        content.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        content.acts.push(Act::Write {
            at,
            bytes: bytes.to_vec(),
        });
        Ok(())
    }

    fn zero(&mut self, offset: u64, bytes: u64) -> Result<(), SysError> {
        self.write_at(offset, &vec![0; usize::try_from(bytes).unwrap()])
    }

    fn discard(&mut self, offset: u64, bytes: u64) {
        let length = usize::try_from(bytes).unwrap();
        let at = self.place(offset, length);
        let content = &mut *self.content.borrow_mut();
        // Whoever reads this again sees something that nobody wrote.
        content.bytes[at..at + length].fill(0xdb);
        content.acts.push(Act::Discard { at, length });
    }

    fn sync(&mut self) -> Result<(), SysError> {
        self.content.borrow_mut().acts.push(Act::Sync);
        Ok(())
    }
}

impl View {
    fn place(&self, offset: u64, length: usize) -> usize {
        assert!(offset + length as u64 <= self.length, "beyond the end");
        usize::try_from(self.start + offset).unwrap()
    }
}

/// A whole disk, switched on.
pub struct Disk {
    whole: View,
}

impl Disk {
    pub fn new(bytes: Vec<u8>) -> Self {
        let length = bytes.len() as u64;
        let content = Content {
            bytes,
            acts: Vec::new(),
        };
        Disk {
            whole: View {
                content: Rc::new(RefCell::new(content)),
                start: 0,
                length,
            },
        }
    }

    /// Switches it off in order.
    pub fn into_content(self) -> Content {
        let Ok(content) = Rc::try_unwrap(self.whole.content) else {
            panic!("somebody still looks at the disk");
        };
        content.into_inner()
    }
}

impl PartitionedDisk for Disk {
    fn whole(&mut self) -> &mut dyn Medium {
        &mut self.whole
    }

    fn partition(&mut self, table: &Table, number: u32) -> Result<Box<dyn Medium + '_>, SysError> {
        let partition = table.partition(number).unwrap();
        Ok(Box::new(View {
            content: self.whole.content.clone(),
            start: partition.start_bytes(),
            length: partition.bytes(),
        }))
    }
}

/// What is on a disk that held `before` when the power goes after the first `count` acts: all that
/// was synced, and of what came after it each sector or not.
pub fn cut(before: &[u8], acts: &[Act], count: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes = before.to_vec();
    let acts = &acts[..count];
    let synced = acts
        .iter()
        .rposition(|act| matches!(act, Act::Sync))
        .unwrap_or(0);
    // Now and then all or nothing: the two that are likeliest in life.
    let mood = random.below(4);
    for (index, act) in acts.iter().enumerate() {
        let mut keeps = || index < synced || mood == 0 || (mood > 1 && random.coin());
        match act {
            Act::Write { at, bytes: written } => {
                for (sector, piece) in written.chunks(SECTOR).enumerate() {
                    if keeps() {
                        let at = at + sector * SECTOR;
                        bytes[at..at + piece.len()].copy_from_slice(piece);
                    }
                }
            }
            Act::Discard { at, length } => {
                for sector in bytes[*at..at + length].chunks_mut(SECTOR) {
                    if keeps() {
                        sector.fill(0xdb);
                    }
                }
            }
            Act::Sync => {}
        }
    }
    bytes
}
