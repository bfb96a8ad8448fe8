//! What is written to a file, what of it is on the disk, and what a failure makes of the rest.

use std::collections::BTreeSet;

use lockstream::random::Random;

/// What the system writes at once, and what the disk does.
const PAGE_BYTES: usize = 4096;
const SECTOR_BYTES: usize = 512;

/// A file, named or not.
#[derive(Debug, Default)]
pub struct File {
    /// As every process reads it.
    pub content: Vec<u8>,
    /// As it is on the disk.
    durable: Vec<u8>,
    /// The pages that the next sync writes.
    dirty: BTreeSet<usize>,
    /// The pages that no sync will ever write, after one failed. They can be read until the system
    /// has another use for the memory.
    forgotten: BTreeSet<usize>,
}

impl File {
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        self.content.resize(self.content.len().max(end), 0);
        self.content[offset..end].copy_from_slice(bytes);
        if !bytes.is_empty() {
            let pages = offset / PAGE_BYTES..=(end - 1) / PAGE_BYTES;
            self.forgotten.retain(|page| !pages.contains(page));
            self.dirty.extend(pages);
        }
    }

    /// Durable with the next sync.
    pub fn cut(&mut self, length: usize) {
        self.content.truncate(length);
        self.dirty.retain(|page| page * PAGE_BYTES < length);
        self.forgotten.retain(|page| page * PAGE_BYTES < length);
    }

    pub fn sync(&mut self) {
        self.durable.resize(self.content.len(), 0);
        for page in std::mem::take(&mut self.dirty) {
            self.keep(page * PAGE_BYTES, PAGE_BYTES);
        }
    }

    /// Each page is written, or will be, or is forgotten: it can still be read, but no sync will
    /// ever write it.
    pub fn fail_to_sync(&mut self, random: &mut Random) {
        for page in std::mem::take(&mut self.dirty) {
            match random.index(3) {
                0 => drop(self.dirty.insert(page)),
                1 => self.keep(page * PAGE_BYTES, PAGE_BYTES),
                _ => drop(self.forgotten.insert(page)),
            }
        }
    }

    /// The system has another use for the memory of a page that it gave up on: what is read there from
    /// now on is what the disk has. Tells whether there was such a page.
    pub fn evict(&mut self, random: &mut Random) -> bool {
        let Some(page) = self.forgotten.iter().copied().find(|_| random.index(8) == 0) else { return false };
        self.forgotten.remove(&page);
        let start = page * PAGE_BYTES;
        let end = (start + PAGE_BYTES).min(self.content.len());
        for at in start..end {
            self.content[at] = self.durable.get(at).copied().unwrap_or_default();
        }
        true
    }

    /// Puts a part of the content on the disk, as far as there is one.
    fn keep(&mut self, start: usize, length: usize) {
        let end = (start + length).min(self.content.len());
        if start < end {
            self.durable.resize(self.durable.len().max(end), 0);
            self.durable[start..end].copy_from_slice(&self.content[start..end]);
        }
    }

    pub fn crash(&mut self, random: &mut Random) {
        self.forgotten.clear();
        for page in std::mem::take(&mut self.dirty) {
            let start = page * PAGE_BYTES;
            match random.index(5) {
                0 => self.keep(start, PAGE_BYTES),
                1 => {}
                2 => self.keep(start, random.index(PAGE_BYTES)),
                3 => {
                    let before = random.index(PAGE_BYTES);
                    self.keep(start + before, PAGE_BYTES - before);
                }
                _ => {
                    let sectors = (start..start + PAGE_BYTES).step_by(SECTOR_BYTES);
                    sectors.filter(|_| random.index(2) == 0).for_each(|sector| self.keep(sector, SECTOR_BYTES));
                }
            }
        }
        // The length is another block than the data: it may be ahead of them, and then zeros are there.
        if random.index(3) == 0 {
            self.durable.resize(self.durable.len().max(self.content.len()), 0);
        }
        self.content.clone_from(&self.durable);
    }
}
