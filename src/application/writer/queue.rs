//! What waits for the writer, and who goes first: single events go before the chunks of bulks, and a
//! chunk that a batch went by without goes before all in the next one. So an event waits for those
//! before it and for a chunk in every other batch, and not for a chunk of each bulk that is under way.
//!
//! A chunk whose sender gave up is overtaken by nothing that comes later: what was sent again because
//! its outcome was unknown is judged after it, and so settles the matter.

use std::collections::VecDeque;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use crate::application::ingest::Command;
use crate::application::ingest::bulk::BulkSubmission;
use crate::application::writer::WriterLimits;
use crate::application::writer::batch::Drained;

/// The writer's end of the queue.
pub(super) struct Queue {
    commands: mpsc::Receiver<Command>,
    /// The command that was seen and not taken.
    first: Option<Command>,
    /// The chunks that wait, in the order in which they came. What bounds them is the memory that bulks
    /// may have: each holds its room.
    chunks: VecDeque<BulkSubmission>,
    /// Whether the last batch went by without the first of them.
    is_passed_over: bool,
}

impl Queue {
    pub(super) const fn new(commands: mpsc::Receiver<Command>) -> Self {
        Self { commands, first: None, chunks: VecDeque::new(), is_passed_over: false }
    }

    /// Looks whether something waits; the error is that nothing does, or ever will.
    pub(super) fn look(&mut self) -> Result<(), TryRecvError> {
        if self.chunks.is_empty() && self.first.is_none() {
            self.first = Some(self.commands.try_recv()?);
        }
        Ok(())
    }

    /// Waits until something does. False when nothing ever will: the queue is closed and empty.
    pub(super) fn wait(&mut self) -> bool {
        if self.chunks.is_empty() && self.first.is_none() {
            self.first = self.commands.blocking_recv();
        }
        !self.chunks.is_empty() || self.first.is_some()
    }

    /// Takes what waits, as far as it shares a sync.
    pub(super) fn take_batch(&mut self, limits: &WriterLimits) -> Drained {
        let mut drained = Drained::default();
        if self.is_passed_over {
            self.take_chunks(&mut drained, limits);
        }
        while drained.has_room(limits)
            && let Some(command) = self.first.take().or_else(|| self.commands.try_recv().ok())
        {
            match command {
                // Looked at after the event was received: it may be the answer to having given up.
                Command::Submit(_) if self.chunks.iter().any(BulkSubmission::is_given_up) => {
                    self.first = Some(command);
                    break;
                }
                Command::Bulk(chunk) => self.chunks.push_back(chunk),
                Command::Submit(submission) => drained.take_one(submission),
                Command::Aside(aside) => drained.asides.push(aside),
                Command::Stop => drained.stop = true,
            }
        }
        self.take_chunks(&mut drained, limits);
        self.is_passed_over = !self.chunks.is_empty() && !drained.has_chunks;
        drained
    }

    /// A chunk stays whole and waits for the next batch where it would burst this one.
    fn take_chunks(&mut self, drained: &mut Drained, limits: &WriterLimits) {
        while let Some(chunk) = self.chunks.pop_front_if(|chunk| drained.fits(chunk, limits)) {
            drained.take_many(chunk);
        }
    }

    /// Lets nothing new in; what waits is still to be taken.
    pub(super) fn close(&mut self) {
        self.commands.close();
    }
}

/// Lets go of whoever waits, and of whoever still comes with a place that was given: nobody would
/// answer them otherwise. Without an answer they take the log for failed, which is what ends the
/// writer without a stop.
impl Drop for Queue {
    fn drop(&mut self) {
        self.close();
        while self.commands.blocking_recv().is_some() {}
    }
}

#[cfg(test)]
mod tests;
