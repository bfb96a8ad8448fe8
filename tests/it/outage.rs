//! The database may go away, in every way that we could bring about for real. Whatever it is, four
//! promises hold: what can be recorded is acknowledged, up to the lag limit; a query is answered
//! rightly or with 503 in its time; readiness says what is wrong; and all heals by itself, with
//! every event there exactly once.

mod disk;
mod failover;
mod network;
mod restore;
mod server;
mod sessions;
mod start;
mod twins;

use std::cell::RefCell;
use std::fs;
use std::process::Command;
use std::time::Instant;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::support::events::{id, registered, reserved};
use crate::support::server::{Answer, Server, lockstream, run};
use crate::support::views::{Views, views};
use crate::support::{Folder, PATIENCE, eventually};

/// How many events are acknowledged while nothing can be written.
const LAG_LIMIT: usize = 20;

/// Little patience makes short tests.
const SETTINGS: [(&str, &str); 3] = [
    ("LOCKSTREAM_DATABASE_TIMEOUT_MS", "500"),
    ("LOCKSTREAM_QUERY_TIMEOUT_MS", "300"),
    ("LOCKSTREAM_MAX_LAG_EVENTS", "20"),
];

/// For load: whatever happens to the database, no event is turned away.
const NO_LAG_LIMIT: (&str, &str) = ("LOCKSTREAM_MAX_LAG_EVENTS", "1000000");

/// What is asked while the database is away.
const PATHS: [&str; 4] = ["/lockers/L", "/lockers/L/compartments/0", "/reservations/R", "/lockers/nowhere"];

/// A server with a life behind it, and all that it acknowledged.
struct Trial<'f> {
    folder: &'f Folder,
    /// Where its database is, other than the folder says.
    database_url: Option<String>,
    server: Server,
    known: Value,
    acknowledged: RefCell<Vec<String>>,
}

impl<'f> Trial<'f> {
    /// One that has the database of the folder.
    async fn begin(folder: &'f Folder) -> Self {
        Self::begin_with(folder, &[]).await
    }

    /// The same with further settings.
    async fn begin_with(folder: &'f Folder, settings: &[(&str, &str)]) -> Self {
        let mut command = lockstream(folder);
        command.envs(settings.iter().copied());
        Self::begin_by(folder, command).await
    }

    /// The same by a command of the test's own.
    async fn begin_by(folder: &'f Folder, mut command: Command) -> Self {
        let own = |name: &str| command.get_envs().any(|(set, _)| set == name);
        let further: Vec<_> = SETTINGS.into_iter().filter(|(name, _)| !own(name)).collect();
        let database_url = command.get_envs().find_map(|(name, value)| (name == "DATABASE_URL").then_some(value?));
        let database_url = database_url.map(|url| url.to_str().unwrap().to_owned());
        command.envs(further);
        let server = Server::spawn(command).await.unwrap_or_else(|lines| panic!("it does not start: {lines:?}"));
        let (known, acknowledged) = (registered("L", "0"), RefCell::default());
        let trial = Self { folder, database_url, server, known, acknowledged };
        trial.accept(&trial.known).await;
        trial.accept(&reserved("L", "0", "R")).await;
        trial.is_up_to_date().await;
        trial
    }

    async fn accept(&self, event: &Value) {
        let answer = self.server.post(event).await;
        assert_eq!(answer.status, 202, "{event}: {answer:?}");
        self.acknowledged.borrow_mut().push(id(event).to_owned());
    }

    /// Registers one compartment more; returns its name.
    async fn grow(&self) -> String {
        let name = format!("c{}", uuid::Uuid::now_v7());
        self.accept(&registered("L", &name)).await;
        name
    }

    async fn is_up_to_date(&self) {
        let ready = async || self.server.get("/readyz").await.status == 200;
        eventually("the service is ready", ready).await;
        let right = async || self.server.get("/lockers/L").await.status == 200;
        eventually("queries are answered", right).await;
    }

    /// While nothing can be written: events are acknowledged up to the limit, then turned away; what
    /// needs no record is answered all the same. Queries could not show what was acknowledged.
    async fn records_up_to_the_limit(&self) {
        let before = self.folder.records().len();
        let lag = usize::try_from(self.readiness().await["lag_events"].as_u64().unwrap()).unwrap();
        for _ in lag..LAG_LIMIT {
            self.grow().await;
        }
        let late = registered("L", "late");
        for _ in 0..2 {
            is_turned_away(&self.server.post(&late).await, &["projection-behind"]);
        }
        assert_eq!(self.folder.records().len(), before + LAG_LIMIT - lag, "what is turned away leaves no trace");
        assert_eq!(self.server.post(&self.known).await.status, 200);
        assert_eq!(self.server.post(&registered("L", "0")).await.code(), "compartment-already-registered");
        assert_eq!(self.server.post(&json!({})).await.status, 422);
        self.answers_no_query(&["projection-behind"]).await;
    }

    /// Queries are turned away in their time, each with one of these codes.
    async fn answers_no_query(&self, codes: &[&str]) {
        for path in PATHS {
            let begin = Instant::now();
            is_turned_away(&self.server.get(path).await, codes);
            assert!(begin.elapsed() < PATIENCE / 2, "{path} took {:?}", begin.elapsed());
        }
    }

    /// What readiness found.
    async fn readiness(&self) -> Value {
        let body = self.server.get("/readyz").await.json();
        if body["checks"].is_object() { body["checks"].clone() } else { body }
    }

    /// Readiness says one of these; the process lives.
    async fn says(&self, words: &[&str]) {
        let says_it = async || {
            let readiness = self.server.get("/readyz").await;
            let [ready, alive] = [readiness.status, self.server.get("/livez").await.status];
            assert_eq!(alive, 200);
            let body = readiness.json();
            ready == 503
                && readiness.header("retry-after") == "1"
                && body["code"] == "not-ready"
                && body["checks"]["log"] == "ok"
                && words.iter().any(|words| body["checks"]["projection"].as_str().unwrap().contains(words))
        };
        let begin = Instant::now();
        while !says_it().await {
            let last = self.server.get("/readyz").await;
            assert!(begin.elapsed() < PATIENCE, "readiness never says {words:?}, but {last:?}");
        }
    }

    /// The cause is gone: everything is well again, and was never anything but late.
    async fn heals(self) {
        self.is_up_to_date().await;
        let name = self.grow().await;
        let path = format!("/lockers/L/compartments/{name}");
        eventually("what is new is seen", async || self.server.get(&path).await.status == 200).await;
        self.ends_well().await;
    }

    /// Each acknowledged event is in the log once and in its order, and the database says what the
    /// log says, to the last row; so does SQLite, given the same log.
    async fn ends_well(self) {
        let Self { folder, database_url, server, acknowledged, .. } = self;
        let said = views(&server, folder, &Value::Null).await;
        assert!(said.values().all(|(status, _)| *status == 200), "{said:?}");
        assert!(server.stop().success());
        assert_eq!(sorted(folder.event_ids()), sorted(acknowledged.into_inner()), "each once, and nothing else");
        is_sound(folder, database_url.as_deref());
        assert!(views_on_sqlite(folder).await == said, "the same on SQLite, state hashes included");
    }

    /// Events and queries from several sides until `work` is done. Every event is acknowledged, and
    /// whoever got that sees its effect in the next answer that is no 503.
    async fn under_load(&self, work: impl Future<Output = ()>) {
        let (done, is_done) = watch::channel(false);
        let clients = join_all((0..4).map(|_| async {
            let mut answered = 0;
            while !*is_done.borrow() {
                let path = format!("/lockers/L/compartments/{}", self.grow().await);
                let answer = self.server.get(&path).await;
                match answer.status {
                    200 => answered += 1,
                    _ => is_turned_away(&answer, &["projection-behind", "database-unavailable"]),
                }
            }
            answered
        }));
        let working = async {
            work.await;
            done.send_replace(true);
        };
        let (answered, ()) = tokio::join!(clients, working);
        assert!(answered.into_iter().sum::<u32>() > 0, "the load saw the database too");
    }
}

fn is_turned_away(answer: &Answer, codes: &[&str]) {
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(codes.contains(&answer.code().as_str()), "{answer:?}");
    assert_eq!(answer.header("retry-after"), "1");
}

/// The database holds what the log says.
fn is_sound(folder: &Folder, database_url: Option<&str>) {
    let mut verify = lockstream(folder);
    verify.arg("verify").envs(database_url.map(|url| ("DATABASE_URL", url)));
    let ended = run(verify);
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort();
    ids
}

/// What a fresh server on SQLite says of a folder's log.
async fn views_on_sqlite(folder: &Folder) -> Views {
    let copy = Folder::on_sqlite();
    fs::create_dir(copy.log()).unwrap();
    for segment in folder.segments() {
        fs::copy(&segment, copy.log().join(segment.file_name().unwrap())).unwrap();
    }
    let server = Server::start(&copy).await;
    views(&server, &copy, &Value::Null).await
}
