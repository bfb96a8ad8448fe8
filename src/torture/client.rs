//! A client: sends what its device reports, repeats what got no answer, and notes all of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::domain::record::RecordedAt;
use crate::random::Random;
use crate::torture::connection::{Answer, Connection, Failure, post_and_leave};
use crate::torture::device::Device;
use crate::torture::event::{Planned, Prepared};
use crate::torture::journal::{Entry, Expected, Outcome};
use crate::torture::round::Round;

/// The pause after an answer that says "not now", or none at all.
const PAUSE: Duration = Duration::from_millis(20);
/// How many connections a volley has.
const VOLLEY: usize = 4;

/// A client with its device.
#[derive(Debug)]
pub struct Client {
    number: usize,
    device: Device,
    /// Decides what is done with the device's events.
    random: Random,
    /// What is not settled yet.
    pending: Option<Planned>,
    connection: Option<Connection>,
}

impl Client {
    #[must_use]
    pub fn new(seed: u64, generation: u64, number: usize) -> Self {
        let part = |name| Random::of_part(Random::of_part(seed, name, generation).number(), name, number as u64);
        Self {
            number,
            device: Device::new(part("device"), number),
            random: part("client"),
            pending: None,
            connection: None,
        }
    }

    #[must_use]
    pub const fn number(&self) -> usize {
        self.number
    }

    /// Sends until the round is over.
    pub async fn send(mut self, round: Arc<Round>) -> Self {
        while !round.is_over() {
            if self.pending.is_some() {
                self.settle(&round).await;
            } else if self.random.percent(round.mix.repeats)
                && let Some(known) = round.recent.pick(&mut self.random)
            {
                self.repeat(&round, &known).await;
            } else {
                self.report(&round).await;
            }
        }
        self.connection = None;
        self
    }

    /// Sends only what is not settled yet, until it is or the round is over.
    pub async fn finish(mut self, round: Arc<Round>) -> Self {
        while self.pending.is_some() && !round.is_over() {
            self.settle(&round).await;
        }
        self.connection = None;
        self
    }

    async fn report(&mut self, round: &Arc<Round>) {
        let planned = self.device.next_event();
        self.pending = Some(planned.clone());
        // What arrives late must find the same world as what arrives in time.
        let harmless = matches!(planned.expected, Expected::Accepted | Expected::Invalid);
        if harmless && self.random.percent(round.mix.disconnects) {
            self.leave(round, &planned).await;
        } else if self.random.percent(round.mix.volleys) {
            self.volley(round, &planned).await;
        } else {
            self.settle(round).await;
        }
    }

    /// Sends what is pending once more; forgets it when the answer settles it.
    async fn settle(&mut self, round: &Round) {
        let Some(planned) = self.pending.clone() else { return };
        let connection = self.connection.take();
        let (outcome, connection) = post(round, self.number, &planned, connection).await;
        self.connection = connection;
        match outcome {
            Some(outcome) if !outcome.is_unsettled() => self.pending = None,
            _ => sleep(PAUSE).await,
        }
    }

    /// Sends an event that is known to be in the log, at times with another content.
    async fn repeat(&mut self, round: &Round, known: &Prepared) {
        let same_content = !self.random.percent(3);
        let event = match self.random.below(2) {
            _ if same_content => known.clone(),
            0 => known.with("payload", json!({})),
            _ => known.with("note", json!("another one")),
        };
        let planned = Planned { event, expected: Expected::Known { same_content } };
        let connection = self.connection.take();
        let (outcome, connection) = post(round, self.number, &planned, connection).await;
        self.connection = connection;
        if outcome.is_none_or(|outcome| outcome.is_unsettled()) {
            sleep(PAUSE).await;
        }
    }

    /// Sends the event on several connections at once.
    async fn volley(&mut self, round: &Arc<Round>, planned: &Planned) {
        let mut posts = JoinSet::new();
        for _ in 0..VOLLEY {
            let (round, planned, number) = (Arc::clone(round), planned.clone(), self.number);
            posts.spawn(async move { post(&round, number, &planned, None).await.0 });
        }
        while let Some(posted) = posts.join_next().await {
            if let Ok(Some(outcome)) = posted
                && !outcome.is_unsettled()
            {
                self.pending = None;
            }
        }
    }

    /// Sends the event, or a part of it, and goes away.
    async fn leave(&mut self, round: &Round, planned: &Planned) {
        let share = if self.random.percent(50) { 100 } else { self.random.below(100) };
        let sent_ns = round.journal.now_ns();
        let outcome = match post_and_leave(round.addr, &planned.event.body(), share).await {
            Err(Failure::NotSent(_)) => return sleep(PAUSE).await,
            _ if share < 100 => Outcome::CutOff,
            Ok(()) => Outcome::NoAnswer { reason: "the client left".into() },
            Err(Failure::NoAnswer(reason)) => Outcome::NoAnswer { reason: reason.into() },
        };
        note(round, self.number, planned, sent_ns, outcome);
    }
}

/// Sends an event and notes what came of it; `None` when nothing was sent. Gives the connection back
/// where it can be used again.
async fn post(
    round: &Round,
    client: usize,
    planned: &Planned,
    connection: Option<Connection>,
) -> (Option<Outcome>, Option<Connection>) {
    let mut connection = match connection {
        Some(connection) => connection,
        None => match Connection::open(round.addr).await {
            Ok(connection) => connection,
            Err(_) => return (None, None),
        },
    };
    let sent_ns = round.journal.now_ns();
    let (outcome, connection) = match connection.post_event(planned.event.body()).await {
        Ok(answer) => (read(&answer), Some(connection)),
        Err(Failure::NoAnswer(reason)) => (Outcome::NoAnswer { reason: reason.into() }, None),
        Err(Failure::NotSent(_)) => return (None, None),
    };
    note(round, client, planned, sent_ns, outcome.clone());
    (Some(outcome), connection)
}

fn note(round: &Round, client: usize, planned: &Planned, sent_ns: u64, outcome: Outcome) {
    let Planned { event, expected } = planned;
    match outcome {
        Outcome::Accepted { .. } => {
            round.acknowledged.fetch_add(1, Ordering::Relaxed);
            round.recent.add(event.clone());
        }
        Outcome::TurnedAway { .. } | Outcome::LeftOpen { .. } => {
            round.turned_away.fetch_add(1, Ordering::Relaxed);
        }
        _ => {}
    }
    round.journal.add(Entry {
        cycle: round.cycle,
        client,
        event_id: event.event_id(),
        digest: event.digest(),
        expected: *expected,
        sent_ns,
        ended_ns: round.journal.now_ns(),
        outcome,
    });
}

/// Codes of 503 that leave open whether the event was recorded.
const LEAVE_OPEN: [&str; 2] = ["log-failed", "outcome-unknown"];
/// Codes that say that nothing was recorded.
const TURN_AWAY: [(u16, &str); 6] = [
    (503, "overloaded"),
    (503, "projection-behind"),
    (503, "stopping"),
    (503, "log-unwritable"),
    (503, "past-unreadable"),
    (507, "insufficient-storage"),
];

/// What an answer to `POST /events` says.
fn read(answer: &Answer) -> Outcome {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Body {
        status: serde_json::Value,
        sequence: u64,
        recorded_at: String,
        content_matches: Option<bool>,
        code: String,
    }
    let body: Body = serde_json::from_slice(&answer.body).unwrap_or_default();
    let recorded_at = RecordedAt::parse(&body.recorded_at);
    let code = body.code.as_str();
    match (answer.status, body.status.as_str(), recorded_at) {
        (202, Some("accepted"), Some(recorded_at)) => Outcome::Accepted { sequence: body.sequence, recorded_at },
        (200, Some("duplicate"), Some(recorded_at)) => {
            let content_matches = body.content_matches.unwrap_or(true);
            Outcome::Duplicate { sequence: body.sequence, recorded_at, content_matches }
        }
        (409, ..) => Outcome::Refused { code: code.into() },
        (422, ..) if code == "invalid-event" => Outcome::Invalid,
        (503, ..) if LEAVE_OPEN.contains(&code) => Outcome::LeftOpen { code: code.into() },
        (status, ..) if TURN_AWAY.contains(&(status, code)) => Outcome::TurnedAway { status, code: code.into() },
        (status, ..) => Outcome::Unknown { status, body: String::from_utf8_lossy(&answer.body).into() },
    }
}
