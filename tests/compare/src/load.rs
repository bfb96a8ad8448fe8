//! Sends events to one server as fast as it answers, over a number of connections (closed loop). At a
//! given rate, whatever it answers: see `paced.rs`. What is sent is made before the clock starts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use umadb_client::{AsyncUmaDbClient, UmaDbClient};
use umadb_dcb::{DcbAppendCondition, DcbEvent, DcbEventStoreAsync, DcbQuery, DcbQueryItem};

use crate::Failure;
use crate::events::Event;
use crate::http::{Connection, request};
use crate::server::{Kind, Server};

/// How much longer than it should a round may take.
pub const GRACE: Duration = Duration::from_secs(120);
/// How long a connection waits that was told 503.
pub const PAUSE: Duration = Duration::from_millis(5);
pub const NDJSON: &str = "application/x-ndjson";

/// What goes out at once.
#[derive(Debug)]
pub enum Parcel {
    /// A request, and how many events (or questions) it carries.
    Http(Vec<u8>, u64),
    UmaDb(Vec<DcbEvent>, Option<DcbAppendCondition>),
}

impl Parcel {
    /// One event for a server of this kind.
    pub fn single(kind: Kind, event: &Event) -> Self {
        match kind {
            Kind::UmaDb => Self::appended(std::slice::from_ref(event), true),
            Kind::Ceiling => Self::Http(request("POST", "/echo", "application/json", &event.body), 1),
            Kind::Lockstream | Kind::FastApi | Kind::Cqrs => {
                Self::Http(request("POST", "/events", "application/json", &event.body), 1)
            }
        }
    }

    /// Many events in one request, for a service that has the batch endpoint.
    pub fn batch(events: &[Event]) -> Self {
        let mut body = String::with_capacity(events.len() * 256);
        for event in events {
            body.push_str(&event.body);
            body.push('\n');
        }
        Self::Http(request("POST", "/events/batch", NDJSON, &body), events.len() as u64)
    }

    /// Events in one append to UmaDB; with a condition it fails if one of the event ids is known.
    pub fn appended(events: &[Event], condition: bool) -> Self {
        let by_id = |event: &Event| DcbQueryItem::new().tags([event.id.clone()]);
        let condition = condition.then(|| DcbAppendCondition::new(DcbQuery::with_items(events.iter().map(by_id))));
        let stored =
            |event: &Event| DcbEvent::new().event_type(event.kind).tags([event.id.clone()]).data(event.body.as_bytes());
        Self::UmaDb(events.iter().map(stored).collect(), condition)
    }

    /// How many events, or questions, it carries.
    pub fn events(&self) -> u64 {
        match self {
            Self::Http(_, events) => *events,
            Self::UmaDb(events, _) => events.len() as u64,
        }
    }

    pub fn question(path: &str) -> Self {
        Self::Http(request("GET", path, "", ""), 1)
    }
}

/// What came of it.
#[derive(Debug, Default, Clone)]
pub struct Answers {
    /// Events that were accepted, or questions that were answered.
    pub accepted: u64,
    pub refused: u64,
    /// How often the server said: not now.
    pub put_off: u64,
    /// What was said to the first one that was refused.
    pub first_refusal: Option<String>,
    pub took: Duration,
}

impl Answers {
    pub fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.put_off += other.put_off;
        self.first_refusal = self.first_refusal.take().or(other.first_refusal);
    }

    pub fn refuse(&mut self, events: u64, words: impl FnOnce() -> String) {
        self.refused += events;
        self.first_refusal.get_or_insert_with(words);
    }
}

/// One way to a server; UmaDB's may be shared.
pub enum Way {
    Http(Connection),
    UmaDb(Arc<AsyncUmaDbClient>),
}

pub async fn ways(server: &Server, count: usize) -> Result<Vec<Way>, Failure> {
    let Server { kind, addr, channels, .. } = *server;
    let mut ways = Vec::with_capacity(count);
    let mut shared = Vec::new();
    for number in 0..count {
        if kind != Kind::UmaDb {
            ways.push(Way::Http(Connection::open(addr).await?));
            continue;
        }
        if number < channels {
            let client = UmaDbClient::new(format!("http://{addr}")).connect_async().await;
            shared.push(Arc::new(client.map_err(|error| format!("no connection to UmaDB: {error}"))?));
        }
        ways.push(Way::UmaDb(Arc::clone(&shared[number % channels])));
    }
    Ok(ways)
}

impl Way {
    pub async fn send(&mut self, parcel: Parcel, answers: &mut Answers) -> Result<(), Failure> {
        match (self, parcel) {
            (Self::Http(connection), Parcel::Http(request, events)) => {
                // Of a batch that is sent again, what was accepted before is known now.
                let mut before = 0;
                loop {
                    let status = connection.ask(&request).await?;
                    let lines = (status == 200 && events > 1).then(|| Lines::count(connection.body()));
                    if let Some(lines) = &lines {
                        before += lines.accepted;
                    }
                    if status == 503 || lines.as_ref().is_some_and(|lines| lines.unavailable) {
                        answers.put_off += 1;
                        sleep(PAUSE).await;
                        continue;
                    }
                    match lines {
                        Some(lines) => {
                            answers.accepted += before;
                            if before < events {
                                answers.refuse(events - before, || lines.other);
                            }
                        }
                        None if matches!(status, 200 | 202) => answers.accepted += events,
                        None => {
                            let said = String::from_utf8_lossy(connection.body());
                            answers.refuse(events, || format!("{status} {said}"));
                        }
                    }
                    return Ok(());
                }
            }
            (Self::UmaDb(client), Parcel::UmaDb(events, condition)) => {
                let count = events.len() as u64;
                match client.append(events, condition, None).await {
                    Ok(_) => answers.accepted += count,
                    Err(error) => answers.refuse(count, || error.to_string()),
                }
                Ok(())
            }
            _ => Err("a parcel for another kind of server".into()),
        }
    }
}

/// What the lines say that answer a batch: one for each event, and a last one.
#[derive(Debug, PartialEq)]
struct Lines {
    accepted: u64,
    /// The rest has no verdict, and everything is to be sent again.
    unavailable: bool,
    /// The first one that says anything else.
    other: String,
}

impl Lines {
    fn count(body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let accepted = r#""status":"accepted""#;
        let other = text.lines().find(|line| !line.contains(accepted)).unwrap_or("no line at all");
        Self {
            accepted: text.matches(accepted).count() as u64,
            unavailable: text.contains(r#""status":"unavailable""#),
            other: other.to_owned(),
        }
    }
}

/// Sends each connection's parcels one after another, until all are sent, or the time is over, or
/// one connection has none left: what comes after that would no longer be the same load.
pub async fn closed_loop(
    server: &Server,
    lanes: Vec<Vec<Parcel>>,
    limit: Option<Duration>,
) -> Result<Answers, Failure> {
    let ways = ways(server, lanes.len()).await?;
    let start = Arc::new(Barrier::new(lanes.len() + 1));
    let over = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    for (mut way, lane) in ways.into_iter().zip(lanes) {
        let (start, over) = (Arc::clone(&start), Arc::clone(&over));
        tasks.spawn(async move {
            let mut answers = Answers::default();
            start.wait().await;
            let begin = Instant::now();
            let mut lane = lane.into_iter();
            while limit.is_none_or(|limit| !over.load(Ordering::Relaxed) && begin.elapsed() < limit) {
                let Some(parcel) = lane.next() else {
                    over.store(true, Ordering::Relaxed);
                    break;
                };
                way.send(parcel, &mut answers).await?;
            }
            // What was not sent goes after the clock has stopped.
            Ok::<_, Failure>((answers, Instant::now(), lane))
        });
    }
    start.wait().await;
    let begin = Instant::now();
    let (mut all, mut end, mut unsent) = (Answers::default(), begin, Vec::new());
    let joined = async {
        while let Some(done) = tasks.join_next().await {
            let (answers, ended, lane) = done??;
            all.add(answers);
            end = end.max(ended);
            unsent.push(lane);
        }
        Ok::<_, Failure>(())
    };
    let patience = limit.unwrap_or(Duration::from_secs(600)) + GRACE;
    timeout(patience, joined).await.map_err(|_| format!("{} did not answer in time", server.kind.name()))??;
    all.took = end - begin;
    Ok(all)
}

/// Waits until all that the service accepted can be seen in its answers.
pub async fn caught_up(server: &Server) -> Result<(), Failure> {
    let mut connection = Connection::open(server.addr).await?;
    let readyz = request("GET", "/readyz", "", "");
    let begin = Instant::now();
    loop {
        let status = connection.ask(&readyz).await?;
        let body: serde_json::Value = serde_json::from_slice(connection.body())?;
        if status == 200 && body["lag_events"] == 0 {
            return Ok(());
        }
        if begin.elapsed() > GRACE {
            return Err(format!("the projection does not catch up: {body}").into());
        }
        sleep(Duration::from_millis(1)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_a_batch_is_not_taken_for_a_verdict() {
        let refused = r#"{"status":"refused","line":2,"event_id":"b","code":"compartment-occupied"}"#;
        let body = format!(
            "{}\n{refused}\n{}\n",
            r#"{"status":"accepted","line":1,"event_id":"a","sequence":1}"#,
            r#"{"status":"end","complete":true,"accepted":1,"duplicate":0,"refused":1,"invalid":0,"unavailable":0}"#
        );
        let expected = Lines { accepted: 1, unavailable: false, other: refused.to_owned() };
        assert_eq!(Lines::count(body.as_bytes()), expected);
    }

    #[test]
    fn a_batch_that_was_put_off_is_told_from_one_that_was_refused() {
        let body = "{\"status\":\"unavailable\",\"line\":1,\"code\":\"overloaded\",\"retry_after_s\":1}\n";
        assert!(Lines::count(body.as_bytes()).unavailable);
    }
}
