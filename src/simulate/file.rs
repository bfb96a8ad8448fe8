//! A network's events in a file, one a line, in the order to send them: to look at, to import, to
//! send with a program of one's own.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::simulate::locker::Expected;
use crate::simulate::network::Network;
use crate::simulate::report::Tally;
use crate::simulate::verdict::{Judged, Verdict};
use crate::simulate::{Progress, View};

/// How much is written at once.
const PIECE_BYTES: usize = 256 << 10;

/// Writes the first `events` events; counts them as the rules will judge them. A reader that wants no
/// more ends it in order, like a signal.
pub async fn write(
    path: &Path,
    network: &Network,
    events: u64,
    stop: &CancellationToken,
    on_progress: Option<&dyn Fn(Progress)>,
) -> io::Result<(Tally, Duration)> {
    let mut out: Box<dyn Write> = match path.to_str() {
        Some("-") => Box::new(io::stdout()),
        _ => Box::new(File::create(path)?),
    };
    let begin = Instant::now();
    let mut tally = Tally::default();
    let mut view = View::new();
    let mut part = network.whole();
    let mut piece = Vec::with_capacity(PIECE_BYTES + (4 << 10));
    while tally.events() < events && !stop.is_cancelled() {
        piece.clear();
        while piece.len() < PIECE_BYTES && tally.events() < events {
            let planned = part.next_event(&mut piece);
            piece.push(b'\n');
            let verdict = match planned.expected {
                Expected::Accepted => Verdict::Accepted,
                Expected::Duplicate => Verdict::Duplicate,
                Expected::Refused(rule) => Verdict::Refused(rule.code().to_owned()),
            };
            tally.under_way += 1;
            tally.settle(verdict, Judged::AsExpected, String::new);
        }
        match out.write_all(&piece) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => break,
            written => written?,
        }
        if let Some(on_progress) = on_progress.filter(|_| view.is_due()) {
            on_progress(view.look_at(&tally, Some(events)));
        }
        // A signal is heard here.
        tokio::task::yield_now().await;
    }
    match out.flush() {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
        _ => Ok((tally, begin.elapsed())),
    }
}
