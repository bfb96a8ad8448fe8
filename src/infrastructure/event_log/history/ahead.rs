//! Reading ahead: the lines of a long segment are proven and parsed by several threads, piece by
//! piece, while whoever reads the history works on what came before.
//!
//! It proves the same as reading line by line. A piece is read line by line too, only that it begins
//! with the head that the line before it *states*; and it is taken only when that is the head which
//! the pieces before it have *proven*. So each line is held against the hash of the line before it,
//! as ever.
//!
//! Nothing is judged here. Whatever is not a whole good line in its place ends the reading ahead, and
//! the history goes on from there by itself: there is one place that says what damage means.

use std::collections::VecDeque;
use std::fmt;
use std::io::{BufRead, Read};
use std::panic::catch_unwind;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::vec;

use crate::domain::record::Head;
use crate::infrastructure::event_log::line::{self, FromLine};
use crate::infrastructure::event_log::storage::Readable;

/// How much one thread takes on at a time: some two hundred lines, which stay near the processor.
const PIECE_BYTES: usize = 64 << 10;
/// How many pieces are in memory at most for each thread, read or still to be read.
const PIECES_A_THREAD: usize = 16;
/// Only files that are longer than so many pieces are read ahead.
const MIN_PIECES: u64 = 8;
/// Pieces are no larger, so longer lines than that are not read ahead.
const MAX_PIECE_BYTES: usize = 32 << 20;
/// More threads than that have nothing to do: folding is the work of one.
const MAX_THREADS: usize = 4;

/// The threads that help, beside the one that reads the history. They end with this.
pub struct Team<R> {
    shared: Arc<Shared<R>>,
    threads: Vec<JoinHandle<()>>,
    piece_bytes: usize,
}

struct Shared<R> {
    queue: Mutex<Queue<R>>,
    changed: Condvar,
}

struct Queue<R> {
    pieces: VecDeque<Arc<Piece<R>>>,
    is_closed: bool,
}

/// Some whole lines, and the head that they should follow.
struct Piece<R> {
    before: Head,
    work: Mutex<Work<R>>,
    done: Condvar,
}

enum Work<R> {
    Open(Vec<u8>),
    Taken,
    Done(Lines<R>),
}

/// What a piece holds.
struct Lines<R> {
    good: Vec<Line<R>>,
    /// Whether those are all of its lines.
    is_whole: bool,
}

/// A good line.
pub struct Line<R> {
    pub record: R,
    /// The head that it makes.
    pub head: Head,
    /// With its end of line.
    pub length_bytes: usize,
}

/// How many threads are to help, with pieces of which size.
#[derive(Debug, Clone, Copy)]
pub struct Help {
    pub threads: usize,
    pub piece_bytes: usize,
}

impl Help {
    pub const NONE: Self = Self { threads: 0, piece_bytes: PIECE_BYTES };

    /// One for each processor that is left.
    pub fn of_this_machine() -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        Self { threads: (processors - 1).min(MAX_THREADS), ..Self::NONE }
    }

    /// Whether a file of this length is worth it.
    pub fn is_worth(self, length_bytes: u64) -> bool {
        self.threads > 0 && length_bytes > MIN_PIECES * self.piece_bytes as u64
    }
}

impl<R: FromLine> Team<R> {
    pub fn start(Help { threads, piece_bytes }: Help) -> Self {
        let queue = Mutex::new(Queue { pieces: VecDeque::new(), is_closed: false });
        let shared = Arc::new(Shared { queue, changed: Condvar::new() });
        let helper = |_| {
            let shared = Arc::clone(&shared);
            // A system that gives no thread costs time and nothing else.
            thread::Builder::new().name("log-reader".into()).spawn(move || shared.help()).ok()
        };
        let threads = (0..threads).map_while(helper).collect();
        Self { shared, threads, piece_bytes }
    }
}

impl<R> fmt::Debug for Team<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Team").field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}

impl<R> Drop for Team<R> {
    fn drop(&mut self) {
        self.shared.queue().is_closed = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            thread.join().expect("what may panic is caught");
        }
    }
}

impl<R> Shared<R> {
    fn queue(&self) -> MutexGuard<'_, Queue<R>> {
        self.queue.lock().expect("no holder of this lock can panic")
    }
}

impl<R: FromLine> Shared<R> {
    fn help(&self) {
        loop {
            let mut queue = self.queue();
            let piece = loop {
                if queue.is_closed {
                    return;
                }
                match queue.pieces.pop_front() {
                    Some(piece) => break piece,
                    None => queue = self.changed.wait(queue).expect("no holder of this lock can panic"),
                }
            };
            drop(queue);
            piece.read();
        }
    }
}

impl<R: FromLine> Piece<R> {
    fn work(&self) -> MutexGuard<'_, Work<R>> {
        self.work.lock().expect("no holder of this lock can panic")
    }

    /// Reads the piece, unless somebody else does or did.
    fn read(&self) -> bool {
        let mut work = self.work();
        if !matches!(*work, Work::Open(_)) {
            return false;
        }
        let Work::Open(bytes) = std::mem::replace(&mut *work, Work::Taken) else { unreachable!("it is open") };
        drop(work);
        // Should there be a line that makes this panic, nobody is to wait for it here: who reads on
        // from that line meets it again.
        let lines = catch_unwind(|| read_lines(&bytes, self.before)).unwrap_or(Lines::NONE);
        *self.work() = Work::Done(lines);
        self.done.notify_all();
        true
    }

    /// What the piece holds, if that is known by now.
    fn take(&self) -> Option<Lines<R>> {
        match &mut *self.work() {
            Work::Done(lines) => Some(std::mem::replace(lines, Lines::NONE)),
            Work::Open(_) | Work::Taken => None,
        }
    }

    /// Waits until the one who reads it has done so.
    fn wait(&self) {
        let is_under_way = |work: &mut Work<R>| !matches!(work, Work::Done(_));
        drop(self.done.wait_while(self.work(), is_under_way).expect("no holder of this lock can panic"));
    }
}

impl<R> Lines<R> {
    const NONE: Self = Self { good: Vec::new(), is_whole: false };
}

/// Reads whole lines, each with its end.
fn read_lines<R: FromLine>(bytes: &[u8], mut head: Head) -> Lines<R> {
    const USUAL_LINE_BYTES: usize = 300;
    let mut good = Vec::with_capacity(bytes.len() / USUAL_LINE_BYTES);
    let mut rest = bytes;
    while !rest.is_empty() {
        let mut behind = rest;
        let length_bytes = behind.skip_until(b'\n').expect("memory can be read");
        let Ok((record, after)) = line::decode_as(&rest[..length_bytes - 1], head) else { break };
        good.push(Line { record, head: after, length_bytes });
        (head, rest) = (after, behind);
    }
    Lines { good, is_whole: rest.is_empty() }
}

/// The lines of one file, read ahead.
pub struct Ahead<R> {
    team: Arc<Team<R>>,
    file: Box<dyn Readable>,
    /// What was read of the file and belongs to the next piece.
    rest: Vec<u8>,
    /// What the next piece has to follow; `None` when there is no next piece.
    stated: Option<Head>,
    /// The pieces under way, in their order.
    pieces: VecDeque<Arc<Piece<R>>>,
    lines: vec::IntoIter<Line<R>>,
}

impl<R> fmt::Debug for Ahead<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ahead").field("pieces", &self.pieces.len()).finish_non_exhaustive()
    }
}

impl<R> Drop for Ahead<R> {
    fn drop(&mut self) {
        // Nobody wants these any more.
        self.team.shared.queue().pieces.clear();
    }
}

impl<R: FromLine> Ahead<R> {
    /// From the beginning of a file whose first line follows `head`.
    pub fn start(team: &Arc<Team<R>>, file: Box<dyn Readable>, head: Head) -> Self {
        let (pieces, lines) = (VecDeque::new(), Vec::new().into_iter());
        Self { team: Arc::clone(team), file, rest: Vec::new(), stated: Some(head), pieces, lines }
    }

    /// The line that follows `head`. After `None` this is over, though the file may hold more.
    pub fn next(&mut self, head: Head) -> Option<Line<R>> {
        loop {
            if let Some(line) = self.lines.next() {
                return Some(line);
            }
            self.go_ahead();
            let piece = self.pieces.pop_front().filter(|piece| piece.before == head)?;
            let Lines { good, is_whole } = self.finish(&piece);
            self.lines = good.into_iter();
            if !is_whole {
                self.stated = None;
                self.pieces.clear();
            }
        }
    }

    /// Waits for a piece, and does not sit idle meanwhile.
    fn finish(&self, piece: &Piece<R>) -> Lines<R> {
        loop {
            if let Some(lines) = piece.take() {
                return lines;
            }
            if !piece.read() && !self.pieces.iter().any(|later| later.read()) {
                piece.wait();
            }
        }
    }

    /// Reads further pieces, up to as many as there should be.
    fn go_ahead(&mut self) {
        let most = PIECES_A_THREAD * (self.team.threads.len() + 1);
        while self.pieces.len() < most
            && let Some(before) = self.stated
            && let Some(bytes) = self.whole_lines()
        {
            let last = bytes[..bytes.len() - 1].rsplit(|byte| *byte == b'\n').next();
            self.stated = self.stated.and(last.and_then(line::stated_head));
            let piece = Arc::new(Piece { before, work: Mutex::new(Work::Open(bytes)), done: Condvar::new() });
            self.pieces.push_back(Arc::clone(&piece));
            self.team.shared.queue().pieces.push_back(piece);
            self.team.shared.changed.notify_one();
        }
    }

    /// The next whole lines of the file, if there are any. The last ones are those of which nothing
    /// is stated any more.
    fn whole_lines(&mut self) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(self.team.piece_bytes + self.rest.len());
        bytes.append(&mut self.rest);
        loop {
            let wanted = self.team.piece_bytes as u64;
            let read = (&mut self.file).take(wanted).read_to_end(&mut bytes);
            let is_at_end = !read.is_ok_and(|count| count as u64 == wanted);
            let end = bytes.iter().rposition(|byte| *byte == b'\n').map(|at| at + 1);
            if is_at_end || (end.is_none() && bytes.len() >= MAX_PIECE_BYTES) {
                self.stated = None;
            }
            match end {
                Some(end) => {
                    self.rest = bytes.split_off(end);
                    return Some(bytes);
                }
                None if self.stated.is_none() => return None,
                None => {}
            }
        }
    }
}
