//! What a start should come to, stated by the layout, and what it comes to.

use std::path::Path;

use lockstream::application::ports::Durable;
use lockstream::domain::record::Head;
use lockstream::infrastructure::event_log::recovery::{DurabilityProof, ProofSource, RecoveryError};

use crate::matrix::layout::Layout;
use crate::support::events::registered;
use crate::support::logs;

/// How a start on a damaged log ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// With records up to `kept`, and what was cut off kept beside the log under the segment's name.
    Starts { kept: usize, torn: Option<Torn> },
    /// Acknowledged events are lost: where, and which sequence should stand there.
    Lost { segment: String, line: u64, offset_bytes: usize, sequence: usize },
    /// The log is sound and ends before what a proof names.
    Shortened { end: usize, proven: usize },
    /// The hash of a sequence is not the one that a proof names.
    OtherHistory { sequence: usize },
    /// A file or folder cannot be read, or is none of the log's; the message names it.
    Unreadable(String),
}

/// A torn end that was cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    pub segment: String,
    pub offset_bytes: usize,
    pub bytes: usize,
}

/// What proves from outside that the log was durable.
#[derive(Debug, Clone, Copy)]
pub enum Proof {
    Nothing,
    /// The mark of a clean stop at this sequence.
    Mark(usize),
    /// The projection's checkpoint at this sequence.
    Checkpoint(usize),
}

impl Proof {
    pub fn sequence(self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Mark(sequence) | Self::Checkpoint(sequence) => sequence,
        }
    }

    pub fn of(self, layout: &Layout) -> Vec<DurabilityProof> {
        let (source, sequence) = match self {
            Self::Nothing => return Vec::new(),
            Self::Mark(sequence) => (ProofSource::CleanStop, sequence),
            Self::Checkpoint(sequence) => (ProofSource::Checkpoint, sequence),
        };
        vec![DurabilityProof { source, head: layout.heads[sequence] }]
    }
}

/// Starts on a log and says how that ended. Where it starts, one more event has to get the next
/// sequence in a batch of its own.
pub fn start(log: &Path, proofs: &[DurabilityProof]) -> Outcome {
    start_after(Head::default(), log, proofs)
}

/// The same for a start that goes on from a snapshot at a head.
pub fn start_after(begin: Head, log: &Path, proofs: &[DurabilityProof]) -> Outcome {
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    match logs::recover_after(begin, log, proofs) {
        Ok(mut recovered) => {
            let kept = recovered.head.sequence.get();
            let more = logs::records(recovered.head, &[registered("one more", "A1")]);
            let head = Durable::append(&mut recovered.log, &more).unwrap().head();
            assert_eq!(head.sequence.get(), kept + 1, "the sequence goes on without a gap");
            let torn = recovered.torn.map(|torn| {
                let (segment, offset_bytes) = (name(&torn.place.segment), torn.place.offset_bytes as usize);
                assert_eq!(name(&torn.kept_at), format!("{segment}.torn-{offset_bytes}-1"));
                Torn { segment, offset_bytes, bytes: torn.bytes as usize }
            });
            Outcome::Starts { kept: kept as usize, torn }
        }
        Err(RecoveryError::LostHistory { damage, .. }) => Outcome::Lost {
            segment: name(&damage.place.segment),
            line: damage.place.line,
            offset_bytes: damage.place.offset_bytes as usize,
            sequence: damage.sequence.get() as usize,
        },
        Err(RecoveryError::Shortened { end, proven, .. }) => {
            Outcome::Shortened { end: end.get() as usize, proven: proven.get() as usize }
        }
        Err(RecoveryError::OtherHistory { sequence, .. }) => {
            Outcome::OtherHistory { sequence: sequence.get() as usize }
        }
        Err(RecoveryError::Unreadable(error)) => Outcome::Unreadable(error.to_string()),
        Err(other) => panic!("no documented outcome: {other}"),
    }
}
