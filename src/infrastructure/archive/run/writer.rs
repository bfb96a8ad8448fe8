//! Writes runs, from their first block to their table.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{BLOCK_BYTES, ENTRIES_PER_BLOCK, MAGIC, Run, Stamp, checksum};
use crate::infrastructure::archive::entry::{ENTRY_BYTES, Entry, KEY_BYTES, Key};
use crate::infrastructure::archive::file::ContentHash;
use crate::infrastructure::archive::filter::Filter;

/// How much is written and synced at once: one large sync would hold up those of the log.
const WRITE_BYTES: usize = 1 << 20;
/// After how much of its table a writer looks whether to stop.
const LOOK_BYTES: usize = 1 << 16;

/// A run under construction.
pub struct RunWriter {
    path: PathBuf,
    beside: PathBuf,
    out: Out,
    stamp: Stamp,
    entries: u64,
    blocks: u64,
    fences: Vec<Key>,
    filter: Filter,
    block: Vec<u8>,
    last: Option<Entry>,
}

/// Writes and syncs in steps.
struct Out {
    file: File,
    pending: Vec<u8>,
}

impl Out {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.pending)?;
        self.pending.clear();
        self.file.sync_all()
    }
}

impl RunWriter {
    /// Begins a run that will have at most so many entries.
    pub fn create(path: &Path, stamp: Stamp, max_entries: usize) -> io::Result<Self> {
        let beside = path.with_extension("new");
        Ok(Self {
            out: Out { file: File::create(&beside)?, pending: Vec::new() },
            path: path.to_owned(),
            beside,
            stamp,
            entries: 0,
            blocks: 0,
            fences: Vec::new(),
            filter: Filter::new(max_entries, stamp.seed),
            block: Vec::with_capacity(BLOCK_BYTES),
            last: None,
        })
    }

    /// Takes the next entry.
    pub fn push(&mut self, entry: Entry) -> io::Result<()> {
        assert!(self.last.is_none_or(|last| last <= entry), "entries come in their order");
        if self.block.is_empty() {
            self.fences.push(entry.key);
        }
        self.filter.insert(&entry.key);
        self.block.extend_from_slice(&entry.to_bytes());
        self.entries += 1;
        self.last = Some(entry);
        if self.block.len() == ENTRIES_PER_BLOCK * ENTRY_BYTES { self.end_block() } else { Ok(()) }
    }

    fn end_block(&mut self) -> io::Result<()> {
        self.block.resize(ENTRIES_PER_BLOCK * ENTRY_BYTES, 0);
        let checksum = checksum(self.stamp, self.blocks, &self.block);
        self.block.extend_from_slice(&checksum);
        self.out.put(&self.block)?;
        self.blocks += 1;
        self.block.clear();
        Ok(())
    }

    /// Ends the run; it survives a crash as soon as its folder is synced. `None` when `stop` said so.
    pub fn finish(mut self, stop: &dyn Fn() -> bool) -> io::Result<Option<(Run, ContentHash)>> {
        if !self.block.is_empty() {
            self.end_block()?;
        }
        let Self { path, beside, mut out, stamp, entries, mut fences, filter, .. } = self;
        let mut hasher = Sha256::new();
        let mut put = |bytes: &[u8]| {
            hasher.update(bytes);
            out.put(bytes)
        };
        put(MAGIC)?;
        put(&stamp.to_bytes())?;
        put(&entries.to_be_bytes())?;
        for fences in fences.chunks(LOOK_BYTES / KEY_BYTES) {
            put(fences.as_flattened())?;
            if stop() {
                return Ok(None);
            }
        }
        for (block, at) in filter.bytes().zip(1_usize..) {
            put(&block)?;
            if at.is_multiple_of(LOOK_BYTES / block.len()) && stop() {
                return Ok(None);
            }
        }
        let hash = ContentHash::new(hasher.finalize().into());
        out.put(hash.as_bytes())?;
        out.flush()?;
        fs::rename(&beside, &path)?;
        fences.shrink_to_fit();
        // The one that wrote cannot read.
        let file = File::open(&path)?;
        Ok(Some((Run { path, file, stamp, entries, fences, filter }, hash)))
    }
}
