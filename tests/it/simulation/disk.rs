//! A disk in memory that keeps no more than is promised: what was written and not synced is lost at
//! a power failure in any part, torn at a sector or a byte, replaced by zeros, out of order; so are
//! names. What a failed sync gave up on can be read for a while, and then no more. Any operation can be the one in which the power fails, or fail by itself.

mod file;

use std::collections::BTreeMap;
use std::io::{self, Cursor, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use lockstream::infrastructure::event_log::storage::{Appendable, Left, Readable, Storage};
use lockstream::random::Random;

use crate::simulation::disk::file::File;

#[derive(Debug, Clone)]
pub struct SimulatedDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    random: Random,
    files: Vec<File>,
    /// The names as every process sees them, and as they are on the disk.
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// What happened to names since they were synced.
    pending_names: Vec<NameChange>,
    /// How many operations it is until the power fails, and until one fails by itself.
    power_fails_in: Option<usize>,
    operation_fails_in: Option<usize>,
    /// Whether anything has failed since the power came on.
    failed: bool,
    lies: bool,
    /// How long the system lets a file be.
    longest_bytes: u64,
    /// What was cut off from files for good.
    cut_off: Vec<Vec<u8>>,
}

#[derive(Debug, Clone)]
enum NameChange {
    Appeared(PathBuf, usize),
    Vanished(PathBuf),
    Renamed(PathBuf, PathBuf, usize),
}

impl SimulatedDisk {
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            random: Random::new(seed),
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
            power_fails_in: None,
            operation_fails_in: None,
            failed: false,
            lies: false,
            longest_bytes: u64::MAX,
            cut_off: Vec::new(),
        })))
    }

    /// From now on a sync says that it worked and does nothing: a disk that must be found out.
    pub fn lie(&self) {
        self.state().lies = true;
    }

    /// From now on no file may be longer.
    pub fn limit_files(&self, longest_bytes: u64) {
        self.state().longest_bytes = longest_bytes;
    }

    /// Something that was cut off and that no other file holds.
    pub fn gone(&self) -> Option<Vec<u8>> {
        let state = self.state();
        let holds = |bytes: &Vec<u8>| state.names.values().any(|number| state.files[*number].content == *bytes);
        state.cut_off.iter().find(|bytes| !holds(bytes)).cloned()
    }

    pub fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(self.clone())
    }

    /// Lets the power fail, and one operation fail by itself, so many operations from now.
    pub fn plan(&self, power_fails_in: Option<usize>, operation_fails_in: Option<usize>) {
        let mut state = self.state();
        (state.power_fails_in, state.operation_fails_in, state.failed) = (power_fails_in, operation_fails_in, false);
    }

    /// Whether anything failed since the last [`Self::plan`].
    pub fn has_failed(&self) -> bool {
        self.state().failed
    }

    /// The power fails, if it has not yet, and comes back: only what is on the disk is left.
    pub fn power_cycle(&self) {
        let mut state = self.state();
        let State { random, files, .. } = &mut *state;
        for file in files {
            file.crash(random);
        }
        for change in std::mem::take(&mut state.pending_names) {
            if state.random.index(2) == 0 {
                apply(&mut state.durable_names, change);
            }
        }
        state.names = state.durable_names.clone();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

/// What becomes of an operation.
#[derive(PartialEq, Eq)]
enum Fate {
    Done,
    /// It fails, and any part of it may be done all the same.
    Fails,
}

impl State {
    fn begin(&mut self) -> Fate {
        let counts_down = |left: &mut Option<usize>| match left {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        };
        // A power failure lasts.
        let power = counts_down(&mut self.power_fails_in);
        let operation = counts_down(&mut self.operation_fails_in);
        if operation {
            self.operation_fails_in = None;
        }
        self.failed |= power || operation;
        if power || operation { Fate::Fails } else { Fate::Done }
    }

    fn error(&mut self) -> io::Error {
        let kinds = [ErrorKind::StorageFull, ErrorKind::Other, ErrorKind::QuotaExceeded, ErrorKind::Interrupted];
        let kind =
            if self.power_fails_in == Some(0) { ErrorKind::BrokenPipe } else { kinds[self.random.index(kinds.len())] };
        io::Error::new(kind, "simulated")
    }

    /// An operation that is done wholly or not at all; when it fails, nobody knows which.
    fn act<T>(&mut self, act: impl FnOnce(&mut Self) -> io::Result<T>) -> io::Result<T> {
        if self.begin() == Fate::Done {
            return act(self);
        }
        if self.random.index(2) == 0 {
            let _ = act(self);
        }
        Err(self.error())
    }

    fn number(&self, file: &Path) -> io::Result<usize> {
        self.names.get(file).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn change_name(&mut self, change: NameChange) {
        apply(&mut self.names, change.clone());
        self.pending_names.push(change);
    }

    fn write(&mut self, number: usize, offset: usize, bytes: &[u8]) -> io::Result<()> {
        let fate = self.begin();
        let written = if fate == Fate::Done { bytes.len() } else { self.random.index(bytes.len() + 1) };
        self.files[number].write(offset, &bytes[..written]);
        if fate == Fate::Done { Ok(()) } else { Err(self.error()) }
    }

    fn sync(&mut self, number: usize) -> io::Result<()> {
        let fate = self.begin();
        if self.lies {
            return Ok(());
        }
        let Self { random, files, .. } = self;
        if fate == Fate::Done {
            files[number].sync();
            return Ok(());
        }
        // Without power nothing is dropped: the crash decides.
        if self.power_fails_in != Some(0) {
            files[number].fail_to_sync(random);
        }
        Err(self.error())
    }
}

fn apply(names: &mut BTreeMap<PathBuf, usize>, change: NameChange) {
    match change {
        NameChange::Appeared(name, file) => drop(names.insert(name, file)),
        NameChange::Vanished(name) => drop(names.remove(&name)),
        NameChange::Renamed(from, to, file) => {
            names.remove(&from);
            names.insert(to, file);
        }
    }
}

#[derive(Debug)]
struct Open {
    disk: SimulatedDisk,
    number: usize,
}

impl Storage for SimulatedDisk {
    fn list(&self, _folder: &Path) -> io::Result<Vec<PathBuf>> {
        self.state().act(|state| Ok(state.names.keys().cloned().collect()))
    }

    fn length_bytes(&self, file: &Path) -> io::Result<u64> {
        let state = self.state();
        Ok(state.files[state.number(file)?].content.len() as u64)
    }

    fn open(&self, file: &Path) -> io::Result<Box<dyn Readable>> {
        self.state().act(|state| {
            let number = state.number(file)?;
            state.failed |= state.files[number].evict(&mut state.random);
            Ok(Box::new(Cursor::new(state.files[number].content.clone())) as _)
        })
    }

    fn create(&self, file: &Path) -> io::Result<Box<dyn Appendable>> {
        let mut state = self.state();
        if state.names.contains_key(file) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let number = state.files.len();
        state.files.push(File::default());
        state.act(|state| {
            state.change_name(NameChange::Appeared(file.to_owned(), number));
            Ok(())
        })?;
        Ok(Box::new(Open { disk: self.clone(), number }))
    }

    fn append_to(&self, file: &Path) -> io::Result<Box<dyn Appendable>> {
        let number = self.state().act(|state| state.number(file))?;
        Ok(Box::new(Open { disk: self.clone(), number }))
    }

    fn overwrite(&self, file: &Path, offset_bytes: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let number = state.number(file)?;
        state.write(number, usize::try_from(offset_bytes).unwrap(), bytes)
    }

    fn cut(&self, file: &Path, length_bytes: u64) -> io::Result<()> {
        let mut state = self.state();
        let number = state.number(file)?;
        let length = usize::try_from(length_bytes).unwrap();
        let tail = state.files[number].content[length..].to_vec();
        state.act(|state| {
            state.files[number].cut(length);
            Ok(())
        })?;
        state.sync(number)?;
        state.cut_off.push(tail);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.state().act(|state| {
            let number = state.number(from)?;
            state.change_name(NameChange::Renamed(from.to_owned(), to.to_owned(), number));
            Ok(())
        })
    }

    fn remove(&self, file: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.number(file)?;
        state.act(|state| {
            state.change_name(NameChange::Vanished(file.to_owned()));
            Ok(())
        })
    }

    fn sync_names(&self, _folder: &Path) -> io::Result<()> {
        let mut state = self.state();
        if state.begin() == Fate::Fails {
            return Err(state.error());
        }
        if !state.lies {
            state.durable_names = state.names.clone();
            state.pending_names.clear();
        }
        Ok(())
    }
}

impl Appendable for Open {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        let end = state.files[self.number].content.len();
        state.write(self.number, end, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.state().sync(self.number)
    }

    fn sync_all(&mut self) -> io::Result<()> {
        self.sync()
    }

    fn left(&self, length_bytes: u64) -> io::Result<Left> {
        let file_bytes = self.disk.state().longest_bytes.saturating_sub(length_bytes);
        Ok(Left { disk_bytes: u64::MAX, file_bytes })
    }

    fn reserve(&mut self, _offset_bytes: u64, _bytes: u64) -> io::Result<()> {
        self.disk.state().act(|_| Ok(()))
    }
}
