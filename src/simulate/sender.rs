//! One connection's share of a network: makes its events, sends them in order, takes the answers.
//!
//! The order of a locker holds because one sender has all of it and sends nothing before the last
//! thing is settled. What got no answer, or the answer "not now", is sent again: the same event with
//! the same id, so it counts once.
//!
//! With a rate, an event is due at a moment that the rate alone decides, and its latency counts from
//! there, whether or not the sender could send by then. Were it counted from the sending, a server
//! that stands still for a second would spoil one measurement and not the thousand that fell into
//! that second (Gil Tene calls that coordinated omission).

use std::cell::{Cell, OnceCell, RefCell};
use std::io::Write;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Barrier;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::simulate::clock::Clock;
use crate::simulate::connection::{Answer, Connection};
use crate::simulate::network::{Part, Planned};
use crate::simulate::report::Tally;
use crate::simulate::target::Target;
use crate::simulate::verdict::{Circumstances, Judged, NotNow, Verdict, judge, of_batch, of_event};

/// How long opening a connection may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long an answer may take; longer than a server takes to give up.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// The first pause after a lost connection; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause that a server may ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(10);
/// After so many wrong answers and no right one, this is no server of this kind.
const HOPELESS: u64 = 100;

/// What the senders of one simulation share. They run on one thread.
#[derive(Debug)]
pub struct Shared {
    pub target: Target,
    /// How many events the whole stream has.
    pub events: u64,
    pub rate: Option<f64>,
    /// How many events a request has; one goes to `/events`, more to `/events/batch`.
    pub batch: Option<u32>,
    pub give_up_after: Duration,
    pub stop: CancellationToken,
    /// Where the senders, and who started them, wait until all of them are connected.
    pub start: Barrier,
    pub begin: OnceCell<Instant>,
    /// Tells each of them when its event is due.
    pub clock: Clock,
    pub tally: RefCell<Tally>,
    pub last_settled: Cell<Option<Instant>>,
    pub failure: RefCell<Option<String>>,
    /// Whether it was said that the server does not answer.
    pub outage: Cell<bool>,
}

impl Shared {
    pub fn fail(&self, failure: String) {
        self.failure.borrow_mut().get_or_insert(failure);
        self.stop.cancel();
    }
}

/// A connection with its lockers.
#[derive(Debug)]
pub struct Sender {
    shared: Rc<Shared>,
    part: Part,
    connection: Option<Connection>,
    head: Vec<u8>,
    /// The events of the request, each with its line end.
    body: Vec<u8>,
    /// The events, and where each ends in the body.
    planned: Vec<(Planned, usize)>,
    request: Vec<u8>,
    /// Lockers that the server knew before.
    known: Vec<bool>,
}

/// Why a request has to be sent again.
enum Again {
    NotNow(NotNow),
    NoAnswer(String),
}

impl Sender {
    #[must_use]
    pub fn new(shared: Rc<Shared>, part: Part) -> Self {
        let head = match shared.batch {
            None => shared.target.post_head("/events", "application/json"),
            Some(_) => shared.target.post_head("/events/batch", "application/x-ndjson"),
        };
        let known = vec![false; part.lockers().len()];
        Self { shared, part, connection: None, head, body: vec![], planned: vec![], request: vec![], known }
    }

    /// Sends until the stream ends, or the simulation stops.
    pub async fn run(mut self) {
        // A server that is not there yet is met again when the first event is sent.
        self.connection =
            timeout(CONNECT_WITHIN, Connection::open(&self.shared.target)).await.ok().and_then(Result::ok);
        tokio::select! {
            _ = self.shared.start.wait() => {}
            () = self.shared.stop.cancelled() => return,
        }
        self.shared.begin.get_or_init(Instant::now);
        if let Err(failure) = self.send().await {
            self.shared.fail(failure);
        }
    }

    async fn send(&mut self) -> Result<(), String> {
        while !self.shared.stop.is_cancelled() && self.make() {
            let mut began = Instant::now();
            if let Some(due) = self.due() {
                if due > began {
                    let stop = self.shared.stop.clone();
                    tokio::select! {
                        () = stop.cancelled() => break,
                        () = self.shared.clock.wait_until(due) => {}
                    }
                    self.shared.tally.borrow_mut().own_lag.add(nanos_since(due));
                }
                began = due;
            }
            if !self.settle(began).await? {
                break;
            }
        }
        Ok(())
    }

    /// Makes the events of the next request; false at the end of the stream.
    fn make(&mut self) -> bool {
        self.body.clear();
        self.planned.clear();
        for _ in 0..self.shared.batch.unwrap_or(1) {
            if self.part.next_place() >= self.shared.events {
                break;
            }
            let planned = self.part.next_event(&mut self.body);
            self.body.push(b'\n');
            self.planned.push((planned, self.body.len()));
        }
        !self.planned.is_empty()
    }

    /// When the last event of the request is due; the request cannot be sent before.
    #[expect(clippy::cast_precision_loss, reason = "after 2^53 events a microsecond is lost")]
    fn due(&self) -> Option<Instant> {
        let (last, _) = self.planned.last()?;
        let begin = self.shared.begin.get()?;
        Some(*begin + Duration::from_secs_f64(last.place as f64 / self.shared.rate?))
    }

    /// Sends the request until each of its events has a verdict; false when the simulation stopped
    /// before that, and an error when the server was away for too long.
    async fn settle(&mut self, began: Instant) -> Result<bool, String> {
        let (mut first_sent, patience) = (Instant::now(), self.shared.give_up_after);
        let (mut settled, mut attempts, mut pause) = (0, 0, FIRST_PAUSE);
        self.shared.tally.borrow_mut().under_way += self.planned.len() as u64;
        loop {
            let left = patience.saturating_sub(first_sent.elapsed()).max(FIRST_PAUSE);
            let settled_before = settled;
            let again = match self.attempt(settled, attempts > 0, left).await {
                Ok(answer) => self.take(&answer, &mut settled, attempts > 0),
                Err(error) => Some(Again::NoAnswer(error.to_string())),
            };
            let Some(again) = again else {
                self.shared.tally.borrow_mut().latency.add(nanos_since(began));
                self.shared.last_settled.set(Some(Instant::now()));
                if self.shared.outage.replace(false) {
                    info!(server = %self.shared.target, "the server answers again");
                }
                return Ok(true);
            };
            if settled > settled_before {
                (first_sent, pause) = (Instant::now(), FIRST_PAUSE);
            }
            attempts += 1;
            let (reason, asked) = self.note(again);
            if first_sent.elapsed() >= patience {
                return Err(format!("no verdict on an event for {} s; the last try: {reason}", patience.as_secs()));
            }
            let stop = self.shared.stop.clone();
            tokio::select! {
                () = stop.cancelled() => return Ok(false),
                () = sleep(asked.unwrap_or(pause).min(LONGEST_RETRY_AFTER).min(left)) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Sends what is not settled yet.
    async fn attempt(&mut self, settled: usize, again: bool, left: Duration) -> std::io::Result<Answer> {
        let begin = settled.checked_sub(1).map_or(0, |last| self.planned[last].1);
        let body = &self.body[begin..];
        self.request.clear();
        self.request.extend_from_slice(&self.head);
        write!(self.request, "{}\r\n\r\n", body.len()).expect("a Vec takes whatever is written");
        self.request.extend_from_slice(body);
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => timeout(CONNECT_WITHIN.min(left), Connection::open(&self.shared.target)).await??,
        };
        {
            let mut tally = self.shared.tally.borrow_mut();
            tally.requests += 1;
            tally.sent_again += if again { (self.planned.len() - settled) as u64 } else { 0 };
        }
        let answer = timeout(ANSWER_WITHIN.min(left), connection.exchange(&self.request)).await??;
        self.connection = (!answer.is_last).then_some(connection);
        Ok(answer)
    }

    /// Takes in an answer. After an event that has to come again, all that follow it do too: they may
    /// build upon it.
    fn take(&mut self, answer: &Answer, settled: &mut usize, sent_before: bool) -> Option<Again> {
        let verdicts = match self.shared.batch {
            None => Ok(vec![of_event(answer)]),
            Some(_) => of_batch(answer, self.planned.len() - *settled),
        };
        let verdicts = match verdicts {
            Ok(verdicts) => verdicts,
            Err(Verdict::NotNow(not_now)) => return Some(Again::NotNow(not_now)),
            Err(verdict) => vec![verdict; self.planned.len() - *settled],
        };
        for verdict in verdicts {
            if let Verdict::NotNow(not_now) = verdict {
                return Some(Again::NotNow(not_now));
            }
            self.judge(*settled, verdict, sent_before);
            *settled += 1;
        }
        None
    }

    fn judge(&mut self, at: usize, verdict: Verdict, sent_before: bool) {
        let (planned, end) = self.planned[at];
        let known_locker = self.known[planned.locker];
        let repeated_with_others = sent_before && self.planned.len() > 1;
        let circumstances = Circumstances { sent_before, repeated_with_others, known_locker };
        let judged = judge(planned.expected, &verdict, circumstances);
        self.known[planned.locker] |= judged == Judged::KnownFromBefore && !repeated_with_others;
        let mut tally = self.shared.tally.borrow_mut();
        let told = verdict.clone();
        tally.settle(verdict, judged, || {
            let begin = at.checked_sub(1).map_or(0, |before| self.planned[before].1);
            let event = String::from_utf8_lossy(&self.body[begin..end - 1]);
            format!("{event}: the rules say {}, the server said {told}", planned.expected)
        });
        if tally.wrong >= HOPELESS && tally.accepted + tally.duplicates == 0 {
            drop(tally);
            self.shared.fail(format!("{HOPELESS} wrong answers and no right one: is this the right server?"));
        }
    }

    /// Counts an answer that settles nothing, or none; says why, and after which pause the server wants it.
    fn note(&self, again: Again) -> (String, Option<Duration>) {
        let mut tally = self.shared.tally.borrow_mut();
        let (reason, pause) = match again {
            Again::NotNow(not_now) => {
                tally.turn_away(&not_now);
                (not_now.reason, Some(not_now.retry_after.unwrap_or(LONGEST_PAUSE)))
            }
            Again::NoAnswer(error) => {
                tally.unanswered_requests += 1;
                (error, None)
            }
        };
        if !self.shared.outage.replace(true) {
            warn!(server = %self.shared.target, %reason, "events have to be sent again");
        }
        (reason, pause)
    }
}

fn nanos_since(moment: Instant) -> u64 {
    u64::try_from(moment.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
