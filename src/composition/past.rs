//! What a start need not read: the archive, the present at its end, and what the projection has not
//! seen of it. In any doubt there is no archive, and the whole log is read.

use std::io;
use std::sync::Arc;

use tracing::warn;

use crate::composition::StartError;
use crate::composition::opening::StoppedEarly;
use crate::domain::record::{Head, RecordedAt};
use crate::domain::world::{Touched, World};
use crate::infrastructure::archive::FileArchive;
use crate::infrastructure::data_folder::DataFolder;
use crate::infrastructure::event_log::history::History;
use crate::infrastructure::event_log::recovery::ReadBytes;

/// The fold of everything up to the head of an archive.
pub(super) struct KnownPast {
    pub archive: Arc<FileArchive>,
    pub world: World,
    pub last_recorded_at: Option<RecordedAt>,
    /// What came after the projection's checkpoint.
    pub touched: Touched,
}

/// Why an archive is not gone on from.
enum Refusal {
    Doubt(io::Error),
    Stopped,
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Doubt(error)
    }
}

/// Opens the archive of a locked folder. `None` for one that is doubted: it is to be thrown away as soon
/// as the log is found to be whole, and until then it may prove that it is not.
pub(super) fn known_past(
    folder: &DataFolder,
    checkpoint: Head,
    on_read: impl Fn(ReadBytes) -> Result<(), StoppedEarly>,
) -> Result<Option<KnownPast>, StartError> {
    // An unreadable mark is told by whoever needs it.
    let mark = folder.clean_stop().ok().flatten().unwrap_or_default();
    match believe(folder, &[checkpoint, mark], checkpoint, on_read) {
        Ok(known) => Ok(known),
        Err(Refusal::Stopped) => Err(StartError::Stopped),
        Err(Refusal::Doubt(doubt)) => {
            warn!(%doubt, "the archive is thrown away and made anew; this start reads the whole log");
            Ok(None)
        }
    }
}

/// Removes an archive that nobody goes on from.
pub(super) fn throw_away(folder: &DataFolder) {
    if let Err(error) = FileArchive::throw_away(&folder.archive()) {
        warn!(%error, folder = %folder.archive().display(), "the archive cannot be removed");
    }
}

/// The archive, if there is one and everything that claims to know history agrees with it. What is
/// ahead of it is held against the log later.
fn believe(
    folder: &DataFolder,
    proofs: &[Head],
    checkpoint: Head,
    on_read: impl Fn(ReadBytes) -> Result<(), StoppedEarly>,
) -> Result<Option<KnownPast>, Refusal> {
    let Some((archive, snapshot)) = FileArchive::open(&folder.archive(), &folder.log())? else { return Ok(None) };
    let behind = |proof: &&Head| proof.sequence <= archive.head().sequence;
    for proof in proofs.iter().filter(behind) {
        if !archive.has_passed(*proof)? {
            let what = format!("something else knows another history: the hash of sequence {} differs", proof.sequence);
            return Err(io::Error::new(io::ErrorKind::InvalidData, what).into());
        }
    }
    let world = World::from_present(snapshot.present);
    let mut touched = Touched::default();
    if checkpoint.sequence < archive.head().sequence {
        note_since(checkpoint, &archive, folder, &mut touched, on_read)?;
        world.touch_whole_lockers(&mut touched);
    }
    let last_recorded_at = snapshot.last_recorded_at;
    Ok(Some(KnownPast { archive: Arc::new(archive), world, last_recorded_at, touched }))
}

/// Notes what the records between the projection's checkpoint and the end of the archive touched.
fn note_since(
    checkpoint: Head,
    archive: &FileArchive,
    folder: &DataFolder,
    touched: &mut Touched,
    on_read: impl Fn(ReadBytes) -> Result<(), StoppedEarly>,
) -> Result<(), Refusal> {
    let unreadable = |error| Refusal::Doubt(io::Error::other(error));
    let begin = archive.head_before_segment_of(checkpoint.sequence.next());
    let begin = begin.expect("the record after one that is behind the end is archived");
    let mut history = History::open_after(&folder.log(), begin).map_err(|error| unreadable(error.to_string()))?;
    while history.head().sequence < archive.head().sequence {
        let Some(item) = history.next() else { return Err(unreadable("the log ends too early".into())) };
        let (record, head) = item.map_err(|error| unreadable(error.to_string()))?;
        if head.sequence > checkpoint.sequence {
            touched.note(&record.event);
        }
        let read = ReadBytes { done: history.bytes_read(), total: history.bytes_total() };
        on_read(read).map_err(|StoppedEarly| Refusal::Stopped)?;
    }
    Ok(())
}
