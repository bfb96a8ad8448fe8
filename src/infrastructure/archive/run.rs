//! Runs: immutable sorted tables of entries.
//!
//! Blocks of 4 KiB come first, each with 127 entries (the last one may have fewer, then zeros) and a
//! SHA-256 over the run's stamp, the block's number and the entries: a block that is damaged, or
//! stands in another's place, is found when it is read. Behind them is the *table*, which is read
//! once: the stamp, the number of entries, the first key of each block, the filter; then its SHA-256,
//! which the manifest knows too.

pub mod writer;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::entry::{ENTRY_BYTES, Entry, KEY_BYTES, Key};
use super::file::{ContentHash, damaged, hash_of};
use super::filter::{Filter, Probe};

const BLOCK_BYTES: usize = 4096;
const CHECKSUM_BYTES: usize = 32;
const STAMP_BYTES: usize = 24;
const ENTRIES_PER_BLOCK: usize = (BLOCK_BYTES - CHECKSUM_BYTES) / ENTRY_BYTES;
/// The beginning of every table; the last byte is the format.
const MAGIC: &[u8; 8] = b"LSruns\0\x02";
/// How much a merge reads at once.
const READ_BLOCKS: usize = 64;

/// What makes a run this one and no other. Bound to each block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The records that it tells of.
    pub from: u64,
    pub to: u64,
    /// From the log's hashes. The same for all runs of an archive, so that a key is hashed once for all
    /// filters.
    pub seed: u64,
}

impl Stamp {
    fn to_bytes(self) -> [u8; STAMP_BYTES] {
        let mut bytes = [0; STAMP_BYTES];
        for (place, number) in bytes.chunks_exact_mut(8).zip([self.from, self.to, self.seed]) {
            place.copy_from_slice(&number.to_be_bytes());
        }
        bytes
    }
}

/// What a run of so many entries takes of the disk at most.
#[must_use]
pub const fn max_bytes(entries: usize) -> usize {
    let fences = entries.div_ceil(ENTRIES_PER_BLOCK);
    let blocks = fences.saturating_mul(BLOCK_BYTES + KEY_BYTES);
    blocks.saturating_add(Filter::bytes_for(entries)).saturating_add(MAGIC.len() + STAMP_BYTES + 8 + CHECKSUM_BYTES)
}

/// A run, open for reading.
#[derive(Debug)]
pub struct Run {
    path: PathBuf,
    file: File,
    stamp: Stamp,
    entries: u64,
    fences: Vec<Key>,
    filter: Filter,
}

impl Run {
    /// Opens the run that has this table.
    pub fn open(path: &Path, entries: u64, table_hash: ContentHash) -> io::Result<Self> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        let begin = entries.div_ceil(ENTRIES_PER_BLOCK as u64).saturating_mul(BLOCK_BYTES as u64);
        let table_bytes = bytes.checked_sub(begin).and_then(|bytes| usize::try_from(bytes).ok());
        let mut table = vec![0; table_bytes.ok_or_else(|| damaged(path, "it is too short"))?];
        file.read_exact_at(&mut table, begin)?;
        let stated = table.split_off(table.len().saturating_sub(CHECKSUM_BYTES));
        let hash = hash_of(&table);
        if hash.as_bytes() != stated.as_slice() || hash != table_hash {
            return Err(damaged(path, "its table is not the one that the manifest names"));
        }
        let (stamp, stated_entries, fences, filter) =
            parse_table(&table, entries).ok_or_else(|| damaged(path, "its table cannot be understood"))?;
        if stated_entries != entries {
            return Err(damaged(path, "it has another number of entries"));
        }
        Ok(Self { path: path.to_owned(), file, stamp, entries, fences, filter })
    }

    #[must_use]
    pub const fn stamp(&self) -> Stamp {
        self.stamp
    }

    #[must_use]
    pub const fn entries(&self) -> u64 {
        self.entries
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether looking for the key can find something. The probe is of this run's seed.
    #[must_use]
    pub fn may_hold(&self, probe: &Probe) -> bool {
        self.filter.may_hold(probe)
    }

    /// Adds every entry of a key to `found`. It reads to know, so ask [`Run::may_hold`] first.
    pub fn find(&self, key: &Key, found: &mut Vec<Entry>) -> io::Result<()> {
        // The block before the first one that begins with the key, or later, may end with it.
        let first = self.fences.partition_point(|fence| fence < key).saturating_sub(1);
        let end = self.fences.partition_point(|fence| fence <= key);
        for number in first..end {
            let block = self.read_blocks(number, 1)?;
            let entries = self.entries_of(number, &block)?;
            found.extend(entries.into_iter().filter(|entry| entry.key == *key));
        }
        Ok(())
    }

    /// Every entry, in order.
    #[must_use]
    pub fn iter(&self) -> Entries<'_> {
        Entries { run: self, next_block: 0, read: Vec::new().into_iter() }
    }

    fn read_blocks(&self, first: usize, count: usize) -> io::Result<Vec<u8>> {
        let mut blocks = vec![0; count * BLOCK_BYTES];
        self.file.read_exact_at(&mut blocks, (first * BLOCK_BYTES) as u64)?;
        Ok(blocks)
    }

    /// The entries of a block, once its checksum is found right.
    fn entries_of(&self, number: usize, block: &[u8]) -> io::Result<Vec<Entry>> {
        let bad = |what: &str| damaged(&self.path, &format!("block {number} {what}"));
        let (content, stated) = block.split_at(BLOCK_BYTES - CHECKSUM_BYTES);
        if checksum(self.stamp, number as u64, content) != *stated {
            return Err(bad("and its checksum differ"));
        }
        let before = (number * ENTRIES_PER_BLOCK) as u64;
        let here = usize::try_from(self.entries - before).unwrap_or(usize::MAX).min(ENTRIES_PER_BLOCK);
        let (entries, _) = content.as_chunks::<ENTRY_BYTES>();
        let entries = entries[..here].iter().map(Entry::from_bytes).collect::<Option<Vec<_>>>();
        entries.ok_or_else(|| bad("holds something that is no entry"))
    }
}

/// An iterator over a run; see [`Run::iter`].
pub struct Entries<'r> {
    run: &'r Run,
    next_block: usize,
    read: std::vec::IntoIter<Entry>,
}

impl Entries<'_> {
    fn read_on(&mut self) -> io::Result<()> {
        let count = READ_BLOCKS.min(self.run.fences.len() - self.next_block);
        let blocks = self.run.read_blocks(self.next_block, count)?;
        let mut entries = Vec::with_capacity(count * ENTRIES_PER_BLOCK);
        for block in blocks.chunks_exact(BLOCK_BYTES) {
            entries.extend(self.run.entries_of(self.next_block, block)?);
            self.next_block += 1;
        }
        self.read = entries.into_iter();
        Ok(())
    }
}

impl Iterator for Entries<'_> {
    type Item = io::Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.read.len() == 0
            && self.next_block < self.run.fences.len()
            && let Err(error) = self.read_on()
        {
            self.next_block = self.run.fences.len();
            return Some(Err(error));
        }
        self.read.next().map(Ok)
    }
}

fn checksum(stamp: Stamp, number: u64, content: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hasher = Sha256::new_with_prefix(stamp.to_bytes());
    hasher.chain_update(number.to_be_bytes()).chain_update(content).finalize().into()
}

fn parse_table(table: &[u8], entries: u64) -> Option<(Stamp, u64, Vec<Key>, Filter)> {
    let rest = table.strip_prefix(MAGIC)?;
    let number = |bytes: &[u8; 8]| u64::from_be_bytes(*bytes);
    let (from, rest) = rest.split_first_chunk()?;
    let (to, rest) = rest.split_first_chunk()?;
    let (seed, rest) = rest.split_first_chunk()?;
    let (stated, rest) = rest.split_first_chunk()?;
    let stamp = Stamp { from: number(from), to: number(to), seed: number(seed) };
    let blocks = usize::try_from(entries).ok()?.div_ceil(ENTRIES_PER_BLOCK);
    let (fences, filter) = rest.split_at_checked(blocks * KEY_BYTES)?;
    let (fences, _) = fences.as_chunks::<KEY_BYTES>();
    Some((stamp, number(stated), fences.to_vec(), Filter::from_bytes(filter, stamp.seed)?))
}

#[cfg(test)]
mod tests;
