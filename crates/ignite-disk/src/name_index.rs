//! Names looked up in directories, four bytes a name.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use crate::tree::{EntryId, InodeId};

/// An open-addressing set of entries by (directory, name); names live in the tree, so a slot costs four bytes.
///
/// The hash is keyed at random (layers are hostile) and never iterated, so it has no part in what is written.
#[derive(Debug, Default)]
pub(crate) struct NameIndex {
    slots: Vec<u32>,
    /// Slots that are not free, removed ones included.
    used: usize,
    hasher: RandomState,
}

const FREE: u32 = u32::MAX;
const TOMBSTONE: u32 = u32::MAX - 1;

impl NameIndex {
    pub fn find<'a>(&self, dir: InodeId, name: &[u8], key: impl Fn(EntryId) -> (InodeId, &'a [u8])) -> Option<EntryId> {
        let mut at = self.home(dir, name)?;
        loop {
            match self.slots[at] {
                FREE => return None,
                TOMBSTONE => {}
                entry if key(entry) == (dir, name) => return Some(entry),
                _ => {}
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    pub fn insert<'a>(&mut self, entry: EntryId, key: impl Fn(EntryId) -> (InodeId, &'a [u8])) {
        if (self.used + 1) * 4 > self.slots.len() * 3 {
            let capacity = (self.slots.len() * 2).max(64);
            let old = std::mem::replace(&mut self.slots, vec![FREE; capacity]);
            self.used = 0;
            for entry in old.into_iter().filter(|&slot| slot < TOMBSTONE) {
                self.place(entry, &key);
            }
        }
        self.place(entry, &key);
    }

    pub fn remove<'a>(&mut self, entry: EntryId, key: impl Fn(EntryId) -> (InodeId, &'a [u8])) {
        let (dir, name) = key(entry);
        let Some(mut at) = self.home(dir, name) else { return };
        while self.slots[at] != FREE {
            if self.slots[at] == entry {
                self.slots[at] = TOMBSTONE;
                return;
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    fn place<'a>(&mut self, entry: EntryId, key: &impl Fn(EntryId) -> (InodeId, &'a [u8])) {
        let (dir, name) = key(entry);
        let Some(mut at) = self.home(dir, name) else { return };
        while self.slots[at] != FREE {
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = entry;
        self.used += 1;
    }

    fn home(&self, dir: InodeId, name: &[u8]) -> Option<usize> {
        let mask = self.slots.len().checked_sub(1)?;
        Some(self.hasher.hash_one((dir, name)) as usize & mask)
    }
}
