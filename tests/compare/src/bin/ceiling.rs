//! The ceiling: axum as everybody has it, with handlers that do nothing. `POST /echo` parses an event and
//! answers 202, `GET /hello` answers a summary that never changes; nothing is judged, kept or looked up.

use std::hint::black_box;
use std::net::SocketAddr;

use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use chrono::{DateTime, FixedOffset};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Parsing is all that happens to it.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
struct Incoming {
    event_id: Uuid,
    occurred_at: DateTime<FixedOffset>,
    locker_id: String,
    r#type: String,
    payload: Value,
}

/// As long as the service's summary of a locker.
#[derive(Serialize)]
struct Hello {
    locker_id: &'static str,
    compartments: u32,
    active_reservations: u32,
    degraded_compartments: u32,
    state_hash: &'static str,
}

const HELLO: Hello = Hello {
    locker_id: "locker-1-100-7",
    compartments: 20,
    active_reservations: 12,
    degraded_compartments: 1,
    state_hash: "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00",
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let addr: SocketAddr = std::env::args().nth(1).ok_or("usage: ceiling ADDR")?.parse()?;
    let routes = Router::new().route("/echo", post(echo)).route("/hello", get(async || Json(HELLO)));
    axum::serve(tokio::net::TcpListener::bind(addr).await?, routes).await?;
    Ok(())
}

async fn echo(Json(event): Json<Incoming>) -> StatusCode {
    let Incoming { event_id, occurred_at, locker_id, r#type, payload } = event;
    black_box((event_id, occurred_at, locker_id, r#type, payload));
    StatusCode::ACCEPTED
}
