//! Orders of whoever runs the service, over a socket that nobody else can reach.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http_body_util::channel::Channel;
use hyper::body::Frame;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::application::progress::Progress;
use crate::application::rebuild::Rebuilder;
use crate::application::rebuild::report::{RebuildError, RebuildProgress, RebuildReport};
use crate::domain::hash::ChainHash;
use crate::domain::record::Head;
use crate::web::App;
use crate::web::batch;
use crate::web::batch::intake::Dialect;
use crate::web::json::Json;
use crate::web::problem::Problem;

/// How often a client hears how far a rebuild is.
const PROGRESS_PAUSE: Duration = Duration::from_millis(200);
/// How long the outcome waits for a client to take it.
const LAST_LINE_LIMIT: Duration = Duration::from_secs(5);

/// What the orders work with.
#[derive(Clone)]
pub struct Admin {
    pub app: Arc<App>,
    pub rebuilder: Arc<Rebuilder>,
    pub progress: Arc<Progress>,
    /// Ends what is under way.
    pub stop: CancellationToken,
}

/// A line of the answer to `POST /rebuild`; the last one is no progress.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RebuildLine {
    Progress(RebuildProgress),
    Done(RebuildReport),
    Failed {
        detail: String,
        /// Whether the old projection differs from what the log gives.
        differs: bool,
    },
}

/// The answer to `GET /head`: up to where the log survives a crash. Everything that was acknowledged
/// before the question is in it.
#[derive(Debug, Serialize, Deserialize)]
pub struct DurableHead {
    pub sequence: u64,
    pub chain_hash: ChainHash,
}

#[derive(Debug, Deserialize)]
struct RebuildQuery {
    #[serde(default)]
    force: bool,
}

/// The orders.
pub fn router(admin: Admin) -> Router {
    let router = Router::new().route("/rebuild", post(rebuild)).route("/head", get(head));
    router.route("/import", post(import)).with_state(admin)
}

/// A bulk that may hold events in other forms too; answered like `POST /events/batch`.
async fn import(State(admin): State<Admin>, request: Request) -> Result<Response, Problem> {
    batch::respond(admin.app, request, Dialect::AnyKept).await
}

async fn head(State(admin): State<Admin>) -> Json<DurableHead> {
    let Head { sequence, chain_hash } = admin.progress.durable_head();
    Json(DurableHead { sequence: sequence.get(), chain_hash })
}

/// Rebuilds the projection. Goes on when the client goes away; the process's log lines tell the
/// outcome too.
async fn rebuild(State(admin): State<Admin>, Query(RebuildQuery { force }): Query<RebuildQuery>) -> Response {
    let (mut lines, body) = Channel::<Bytes>::new(1);
    tokio::spawn(async move {
        let (progress, steps) = watch::channel(RebuildProgress { read_events: 0, total_events: 0 });
        info!(force, "rebuilding the projection");
        let on_progress = move |step| {
            progress.send_replace(step);
        };
        let rebuilding = admin.rebuilder.rebuild(force, Arc::new(on_progress));
        tokio::pin!(rebuilding);
        let mut pauses = interval(PROGRESS_PAUSE);
        let result = loop {
            tokio::select! {
                result = &mut rebuilding => break Some(result),
                () = admin.stop.cancelled() => break None,
                _ = pauses.tick() => {
                    let step = *steps.borrow();
                    // A client that does not listen misses something; the rebuild waits for nobody.
                    let _ = lines.try_send(Frame::data(json_line(&RebuildLine::Progress(step))));
                }
            }
        };
        let last = match result {
            Some(Ok(report)) => {
                let RebuildReport { records, held_events, held_ms, elapsed_ms, .. } = report;
                info!(records, held_events, held_ms, elapsed_ms, "the projection is rebuilt");
                RebuildLine::Done(report)
            }
            Some(Err(error)) => {
                warn!(%error, "the projection was not rebuilt");
                RebuildLine::Failed { detail: error.to_string(), differs: matches!(error, RebuildError::Differs(_)) }
            }
            None => {
                RebuildLine::Failed { detail: "the service is stopping; nothing was replaced".into(), differs: false }
            }
        };
        // Who went away meanwhile finds it in the process's log lines.
        let _ = timeout(LAST_LINE_LIMIT, lines.send_data(json_line(&last))).await;
    });
    ([(CONTENT_TYPE, "application/jsonl")], Body::new(body)).into_response()
}

fn json_line(line: &RebuildLine) -> Bytes {
    let mut json = serde_json::to_vec(line).expect("a line has a JSON form");
    json.push(b'\n');
    json.into()
}
