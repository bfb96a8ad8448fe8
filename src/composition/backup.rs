//! The commands `backup` and `restore`: who holds the data folder, up to where the log is durable,
//! and what else claims to know history.

use std::cell::Cell;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use chrono::{DateTime, SubsecRound, Utc};
use serde::Serialize;

use crate::application::ports::Clock;
use crate::application::verify::Finding;
use crate::config::{Limits, StorageSettings};
use crate::domain::hash::ChainHash;
use crate::domain::ids::Sequence;
use crate::domain::record::Head;
use crate::infrastructure::admin_socket;
use crate::infrastructure::archive::FileArchive;
use crate::infrastructure::backup::BackupError;
use crate::infrastructure::backup::manifest::Manifest;
use crate::infrastructure::backup::report::BackupReport;
use crate::infrastructure::backup::restore as files;
use crate::infrastructure::backup::take::{self, Order, Proven, UpTo};
use crate::infrastructure::clock::SystemClock;
use crate::infrastructure::data_folder::{DataFolder, DataFolderError, FolderLock};
use crate::infrastructure::event_log::recovery::ReadBytes;
use crate::infrastructure::sql::checkpoint_of;
use crate::web::admin::DurableHead;

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error("there is no log in {}: is LOCKSTREAM_DATA_DIR right?", .0.display())]
    NoLog(PathBuf),
    #[error(
        "the data folder is in use, and who has it does not say how far the log is: {reason} ({}). A server that \
         starts says it as soon as it serves; another command ends by itself. Try again", socket.display()
    )]
    NoAnswer { socket: PathBuf, reason: String },
    #[error(
        "the mark of a clean stop in {} belongs to another log than this backup: the hash of sequence {sequence} \
         differs. Nothing was changed. Is it the right data folder, and the right backup? If both are, move \
         clean-stop.json away", folder.display()
    )]
    OtherMark { folder: PathBuf, sequence: Sequence },
    #[error(transparent)]
    DataFolder(#[from] DataFolderError),
    #[error(transparent)]
    Backup(#[from] BackupError),
}

impl CommandError {
    /// Whether something is wrong with a log or a backup, rather than with the attempt.
    #[must_use]
    pub fn is_finding(&self) -> bool {
        match self {
            Self::Backup(error) => error.is_finding(),
            Self::OtherMark { .. } => true,
            _ => false,
        }
    }
}

/// Backs the log up, beside a running server or without one.
pub async fn backup(
    storage: &StorageSettings,
    limits: &Limits,
    backup: &Path,
    hard_link: bool,
    on_read: impl Fn(ReadBytes),
) -> Result<BackupReport, CommandError> {
    let folder = storage.folder();
    let log = folder.log();
    if !log.is_dir() {
        return Err(CommandError::NoLog(log));
    }
    let mut unknown = None;
    let (up_to, _lock) = match writer_of(&folder)? {
        Writer::Server(head) => (UpTo::Head(head), None),
        Writer::Nobody(lock) => (UpTo::End(proven_end(storage, limits, &mut unknown).await?), Some(lock)),
    };
    let order = Order { log: &log, backup, up_to, hard_link };
    let mut report = take::take(order, SystemClock.now().trunc_subsecs(0), on_read)?;
    report.notes.extend(unknown);
    Ok(report)
}

/// Who writes the log.
enum Writer {
    /// A server, which knows up to where the log is durable.
    Server(Head),
    /// Nobody may as long as the lock is held.
    Nobody(FolderLock),
}

fn writer_of(folder: &DataFolder) -> Result<Writer, CommandError> {
    let unanswered = match folder.lock() {
        Ok(lock) => return Ok(Writer::Nobody(lock)),
        Err(DataFolderError::InUse(_)) => match ask(folder) {
            Ok(head) => return Ok(Writer::Server(head)),
            Err(unanswered) => unanswered,
        },
        Err(error) => return Err(error.into()),
    };
    // It may have ended in between.
    folder.lock().map_or(Err(unanswered), |lock| Ok(Writer::Nobody(lock)))
}

/// How far a log went that nobody writes: by the same proofs that a start goes by. `unknown` is a
/// note where one of them could not be asked.
async fn proven_end(
    storage: &StorageSettings,
    limits: &Limits,
    unknown: &mut Option<String>,
) -> Result<Proven, CommandError> {
    let marked = storage.folder().clean_stop()?.unwrap_or_default().sequence;
    let projected = match checkpoint_of(&storage.database(), limits.sql()).await {
        Ok(checkpoint) => checkpoint.unwrap_or_default().sequence,
        Err(error) => {
            *unknown = Some(format!("whether the projection is ahead of this backup is not known: {error}"));
            Sequence::ZERO
        }
    };
    Ok(if projected > marked {
        Proven { sequence: projected, witness: "the projection's checkpoint proves" }
    } else {
        Proven { sequence: marked, witness: "the mark of the last clean stop proves" }
    })
}

/// Asks the server that has the folder.
fn ask(folder: &DataFolder) -> Result<Head, CommandError> {
    let socket = folder.admin_socket();
    let unanswered = |reason| CommandError::NoAnswer { socket: socket.clone(), reason };
    let answer = admin_socket::ask(&socket, "/head").map_err(|error| unanswered(error.to_string()))?;
    let head: DurableHead =
        serde_json::from_str(&answer).map_err(|error| unanswered(format!("{error}: {answer:?}")))?;
    Ok(Head { sequence: Sequence::new(head.sequence), chain_hash: head.chain_hash })
}

/// What a restore did, or a check.
#[derive(Debug, Serialize)]
pub struct RestoreReport {
    /// False when it was only checked.
    pub restored: bool,
    /// The last record of the backup.
    pub head_sequence: Sequence,
    pub head_hash: ChainHash,
    pub taken_at: DateTime<Utc>,
    pub segments: u64,
    pub total_bytes: u64,
    pub elapsed_ms: u64,
    /// What proves that there was more than the backup has.
    pub findings: Vec<Finding>,
    pub notes: Vec<String>,
}

impl RestoreReport {
    fn new(manifest: &Manifest) -> Self {
        let Head { sequence, chain_hash } = manifest.head();
        Self {
            restored: false,
            head_sequence: sequence,
            head_hash: chain_hash,
            taken_at: manifest.taken_at,
            segments: manifest.segments.len() as u64,
            total_bytes: manifest.bytes(),
            elapsed_ms: 0,
            findings: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn after(self, begin: Instant) -> Self {
        Self { elapsed_ms: u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX), ..self }
    }
}

impl fmt::Display for RestoreReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { head_sequence, head_hash, taken_at, segments, total_bytes, elapsed_ms, .. } = self;
        let done = if self.restored { "restored" } else { "the backup is sound" };
        writeln!(f, "{done} up to sequence {head_sequence}, hash {head_hash}")?;
        write!(f, "{segments} segments, {total_bytes} bytes, taken at {taken_at:?}, in {elapsed_ms} ms")?;
        self.notes.iter().try_for_each(|note| write!(f, "\nnote: {note}"))?;
        self.findings.iter().try_for_each(|found| write!(f, "\nFOUND {}: {}", found.code, found.detail))
    }
}

/// Proves a backup and changes nothing.
pub fn check(backup: &Path, on_read: impl Fn(ReadBytes)) -> Result<RestoreReport, CommandError> {
    let begin = Instant::now();
    let manifest = files::manifest(backup)?;
    files::check(backup, &manifest, on_read)?;
    Ok(RestoreReport::new(&manifest).after(begin))
}

/// Restores a backup to a data folder without a log.
///
/// A crash in between leaves no log that a server would start on: the mark of a clean stop, which
/// says how far the log has to go, is there before the log is.
pub async fn restore(
    storage: &StorageSettings,
    limits: &Limits,
    backup: &Path,
    on_read: impl Fn(ReadBytes),
) -> Result<RestoreReport, CommandError> {
    let begin = Instant::now();
    let manifest = files::manifest(backup)?;
    let folder = storage.folder();
    // Before the lock, which makes what is missing, and once more with it.
    files::empty_files(&folder.log())?;
    let _lock = folder.lock()?;
    files::empty_files(&folder.log())?;
    files::no_backup_in(&folder.restoring())?;
    let mut report = RestoreReport::new(&manifest);
    // A mark of a stop before the first event would let a server begin anew.
    let mark = folder.clean_stop()?.filter(|mark| mark.sequence > Sequence::ZERO);
    if mark.is_none() {
        folder.mark_clean_stop(manifest.head())?;
    }
    if let Err(error) = put_in_place(&folder, backup, &manifest, mark, on_read) {
        if mark.is_none() {
            folder.remove_clean_stop()?;
        }
        return Err(error);
    }
    report.restored = true;
    find_more(&mut report, "the mark of a clean stop", "clean-stop.json", mark);
    match checkpoint_of(&storage.database(), limits.sql()).await {
        Ok(checkpoint) => {
            find_more(&mut report, "the projection's checkpoint", "the projection", checkpoint);
        }
        Err(error) => {
            report.notes.push(format!("whether the projection is ahead of this backup is not known: {error}"));
        }
    }
    let archived = FileArchive::proven_head(&folder.archive(), &folder.log());
    find_more(&mut report, "the archive", "the folder archive", archived);
    Ok(report.after(begin))
}

fn put_in_place(
    folder: &DataFolder,
    backup: &Path,
    manifest: &Manifest,
    mark: Option<Head>,
    on_read: impl Fn(ReadBytes),
) -> Result<(), CommandError> {
    let (log, restoring) = (folder.log(), folder.restoring());
    let marked = mark.filter(|mark| mark.sequence <= manifest.head().sequence);
    let other = Cell::new(None);
    let on_head = |head: Head| {
        if let Some(mark) = marked.filter(|mark| mark.sequence == head.sequence && *mark != head) {
            other.set(Some(mark.sequence));
        }
    };
    let copied = files::copy(backup, manifest, &restoring, on_read, on_head).map_err(CommandError::from);
    let outcome = copied.and_then(|()| match other.get() {
        Some(sequence) => Err(CommandError::OtherMark { folder: folder.root().to_owned(), sequence }),
        None => Ok(files::take_place(&restoring, &log)?),
    });
    if outcome.is_err() {
        // That it failed is what counts; the next restore begins with removing this.
        let _ = files::abandon(&restoring);
    } else if marked.is_some() {
        folder.mark_clean_stop(manifest.head())?;
    }
    outcome
}

/// Something knows of more than the backup has: the next start will refuse to go on without it.
fn find_more(report: &mut RestoreReport, what: &str, remedy: &str, known: Option<Head>) {
    let Some(known) = known.filter(|known| known.sequence > report.head_sequence) else { return };
    let detail = format!(
        "{what} proves that the log went on to sequence {}, and this backup ends with {}. Look for a later backup; until \
         then the start is refused. To go on without those events, remove {remedy}: docs/operations.md says how",
        known.sequence, report.head_sequence
    );
    report.findings.push(Finding { code: "events-missing", detail });
}
