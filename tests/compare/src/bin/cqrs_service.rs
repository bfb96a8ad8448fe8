//! A peer: what a Rust team gets from the crates `cqrs-es` and `sqlite-es` under axum. The aggregate
//! is a compartment; every event is judged against its history and committed in a transaction of its
//! own, synced; a view is updated before the answer, as the crate does it.
//!
//! Tuned as far as the crate lets one: one connection for the events, so that nobody waits for
//! SQLite's lock; the views in a file of their own that needs no sync, because they can be made anew;
//! the event id unique through an index, so that no second transaction is needed.
//! Left out, in its favour: reservation ids that are unique across compartments, summaries of lockers.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use chrono::{DateTime, FixedOffset};
use cqrs_es::event_sink::EventSink;
use cqrs_es::persist::{GenericQuery, ViewRepository};
use cqrs_es::{Aggregate, AggregateError, DomainEvent, EventEnvelope, View};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlite_es::{SqliteCqrs, SqliteViewRepository, sqlite_cqrs};
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use uuid::Uuid;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How often a command is tried that met another one for the same compartment.
const ATTEMPTS: usize = 5;

const EVENTS: &str = "
    CREATE TABLE IF NOT EXISTS events (
        aggregate_type TEXT NOT NULL, aggregate_id TEXT NOT NULL, sequence INTEGER NOT NULL,
        event_type TEXT NOT NULL, event_version TEXT NOT NULL, payload TEXT NOT NULL, metadata TEXT NOT NULL,
        PRIMARY KEY (aggregate_type, aggregate_id, sequence)
    ) STRICT;
    CREATE UNIQUE INDEX IF NOT EXISTS event_ids ON events (json_extract(metadata, '$.event_id'));";
const VIEWS: &str = "
    CREATE TABLE IF NOT EXISTS compartments (
        view_id TEXT PRIMARY KEY, version INTEGER NOT NULL, payload TEXT NOT NULL
    ) STRICT;";

#[derive(Deserialize)]
struct Incoming {
    event_id: Uuid,
    #[expect(dead_code, reason = "has to be a time, and decides nothing")]
    occurred_at: DateTime<FixedOffset>,
    locker_id: String,
    #[serde(flatten)]
    fact: Fact,
}

/// What a device reports: the command.
#[derive(Deserialize)]
#[serde(tag = "type", content = "payload")]
enum Fact {
    CompartmentRegistered { compartment_id: String },
    ReservationCreated { compartment_id: String, reservation_id: String },
    ParcelDeposited { compartment_id: String, reservation_id: String },
    ParcelPickedUp { compartment_id: String, reservation_id: String },
    ReservationExpired { compartment_id: String, reservation_id: String },
    FaultReported { compartment_id: String, severity: i64 },
    FaultCleared { compartment_id: String, fault_event_id: String },
}

impl Fact {
    fn compartment(&self) -> &str {
        match self {
            Self::CompartmentRegistered { compartment_id }
            | Self::ReservationCreated { compartment_id, .. }
            | Self::ParcelDeposited { compartment_id, .. }
            | Self::ParcelPickedUp { compartment_id, .. }
            | Self::ReservationExpired { compartment_id, .. }
            | Self::FaultReported { compartment_id, .. }
            | Self::FaultCleared { compartment_id, .. } => compartment_id,
        }
    }
}

/// What is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Change {
    Registered,
    Reserved { reservation: String },
    Deposited,
    Freed,
    FaultOpened { fault: String, severity: i64 },
    FaultClosed { fault: String },
}

impl DomainEvent for Change {
    fn event_type(&self) -> String {
        let name = match self {
            Self::Registered => "Registered",
            Self::Reserved { .. } => "Reserved",
            Self::Deposited => "Deposited",
            Self::Freed => "Freed",
            Self::FaultOpened { .. } => "FaultOpened",
            Self::FaultClosed { .. } => "FaultClosed",
        };
        name.to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct Compartment {
    registered: bool,
    /// And whether its parcel lies in the compartment.
    reservation: Option<(String, bool)>,
    faults: BTreeMap<String, i64>,
}

#[derive(Debug)]
struct Refused(&'static str);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Refused {}

impl Compartment {
    fn is_degraded(&self) -> bool {
        self.faults.values().any(|&severity| severity >= 3)
    }

    fn judge(&self, event_id: Uuid, fact: Fact) -> Result<Change, Refused> {
        if let Fact::CompartmentRegistered { .. } = fact {
            return if self.registered { Err(Refused("already registered")) } else { Ok(Change::Registered) };
        }
        if !self.registered {
            return Err(Refused("not registered"));
        }
        let active = |id: &str| self.reservation.as_ref().filter(|(active, _)| active == id);
        match fact {
            Fact::ReservationCreated { .. } if self.is_degraded() => Err(Refused("degraded")),
            Fact::ReservationCreated { .. } if self.reservation.is_some() => Err(Refused("occupied")),
            Fact::ReservationCreated { reservation_id, .. } => Ok(Change::Reserved { reservation: reservation_id }),
            Fact::ParcelDeposited { reservation_id, .. } => match active(&reservation_id) {
                Some((_, false)) => Ok(Change::Deposited),
                _ => Err(Refused("not awaiting a deposit")),
            },
            Fact::ParcelPickedUp { reservation_id, .. } => match active(&reservation_id) {
                Some((_, true)) => Ok(Change::Freed),
                _ => Err(Refused("not awaiting a pickup")),
            },
            Fact::ReservationExpired { reservation_id, .. } => {
                active(&reservation_id).map(|_| Change::Freed).ok_or(Refused("closed"))
            }
            Fact::FaultReported { severity, .. } => Ok(Change::FaultOpened { fault: event_id.to_string(), severity }),
            Fact::FaultCleared { fault_event_id, .. } if self.faults.contains_key(&fault_event_id) => {
                Ok(Change::FaultClosed { fault: fault_event_id })
            }
            Fact::FaultCleared { .. } | Fact::CompartmentRegistered { .. } => Err(Refused("no such fault")),
        }
    }

    fn take_in(&mut self, change: Change) {
        match change {
            Change::Registered => self.registered = true,
            Change::Reserved { reservation } => self.reservation = Some((reservation, false)),
            Change::Deposited => {
                if let Some((_, deposited)) = &mut self.reservation {
                    *deposited = true;
                }
            }
            Change::Freed => self.reservation = None,
            Change::FaultOpened { fault, severity } => {
                self.faults.insert(fault, severity);
            }
            Change::FaultClosed { fault } => {
                self.faults.remove(&fault);
            }
        }
    }
}

impl Aggregate for Compartment {
    const TYPE: &'static str = "compartment";
    type Command = (Uuid, Fact);
    type Event = Change;
    type Error = Refused;
    type Services = ();

    async fn handle(&mut self, (id, fact): Self::Command, (): &(), sink: &EventSink<Self>) -> Result<(), Refused> {
        let change = self.judge(id, fact)?;
        sink.write(change, self).await;
        Ok(())
    }

    fn apply(&mut self, change: Change) {
        self.take_in(change);
    }
}

impl View<Self> for Compartment {
    fn update(&mut self, event: &EventEnvelope<Self>) {
        self.take_in(event.payload.clone());
    }
}

type Views = SqliteViewRepository<Compartment, Compartment>;

struct App {
    cqrs: SqliteCqrs<Compartment>,
    events: SqlitePool,
    views: Arc<Views>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let usage = "usage: cqrs_service ADDR DIR";
    let addr: SocketAddr = std::env::args().nth(1).ok_or(usage)?.parse()?;
    let folder = PathBuf::from(std::env::args_os().nth(2).ok_or(usage)?);
    let events = open(&folder.join("events.db"), SqliteSynchronous::Full, EVENTS).await?;
    let views = open(&folder.join("views.db"), SqliteSynchronous::Normal, VIEWS).await?;
    let views = Arc::new(Views::new("compartments", views));
    let query = GenericQuery::<Views, Compartment, Compartment>::new(Arc::clone(&views));
    let cqrs = sqlite_cqrs(events.clone(), vec![Box::new(query)], ());
    let routes = Router::new()
        .route("/events", post(post_event))
        .route("/lockers/{locker}/compartments/{compartment}", get(get_compartment))
        .route("/livez", get(async || StatusCode::OK))
        .with_state(Arc::new(App { cqrs, events, views }));
    axum::serve(tokio::net::TcpListener::bind(addr).await?, routes).await?;
    Ok(())
}

async fn open(file: &Path, synchronous: SqliteSynchronous, schema: &'static str) -> Result<SqlitePool, sqlx::Error> {
    let options = SqliteConnectOptions::new().filename(file).create_if_missing(true);
    let options = options.journal_mode(SqliteJournalMode::Wal).synchronous(synchronous);
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
    sqlx::raw_sql(schema).execute(&pool).await?;
    Ok(pool)
}

async fn post_event(State(app): State<Arc<App>>, body: String) -> (StatusCode, Json<Value>) {
    let mut conflicts = 0;
    loop {
        let event: Incoming = match serde_json::from_str(&body) {
            Ok(event) => event,
            Err(error) => return (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({ "detail": error.to_string() }))),
        };
        let id = event.event_id;
        let compartment = format!("{}/{}", event.locker_id, event.fact.compartment());
        let metadata = HashMap::from([("event_id".to_owned(), id.to_string())]);
        let executed = app.cqrs.execute_with_metadata(&compartment, (id, event.fact), metadata).await;
        let status = match executed {
            Ok(()) => StatusCode::ACCEPTED,
            Err(_) if app.is_known(id).await => StatusCode::OK,
            Err(AggregateError::AggregateConflict) if conflicts < ATTEMPTS => {
                conflicts += 1;
                continue;
            }
            Err(AggregateError::UserError(Refused(why))) => {
                return (StatusCode::CONFLICT, Json(json!({ "event_id": id, "detail": why })));
            }
            Err(error) => {
                return (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({ "detail": error.to_string() })));
            }
        };
        return (status, Json(json!({ "event_id": id })));
    }
}

async fn get_compartment(
    State(app): State<Arc<App>>,
    UrlPath((locker, compartment)): UrlPath<(String, String)>,
) -> (StatusCode, Json<Value>) {
    match app.views.load(&format!("{locker}/{compartment}")).await {
        Ok(Some(view)) => {
            let reservation = view.reservation.as_ref().map(|(id, _)| id);
            let body = json!({ "compartment_id": compartment, "degraded": view.is_degraded(), "active_reservation": reservation });
            (StatusCode::OK, Json(body))
        }
        Ok(None) => (StatusCode::NOT_FOUND, Json(json!({ "detail": "not found" }))),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({ "detail": error.to_string() }))),
    }
}

impl App {
    async fn is_known(&self, event_id: Uuid) -> bool {
        let query = "SELECT 1 FROM events WHERE json_extract(metadata, '$.event_id') = ?";
        let found = sqlx::query(query).bind(event_id.to_string()).fetch_optional(&self.events).await;
        found.is_ok_and(|row| row.is_some())
    }
}
