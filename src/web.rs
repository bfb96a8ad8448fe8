//! HTTP: routes, bodies, problems. Translates between requests and use cases and decides nothing.
//!
//! One list makes both the router and the OpenAPI document, so they cannot differ. What comes most goes
//! past the router to the same handlers (`shortcut.rs`); a test holds that against the document.

pub mod admin;
pub mod batch;
pub mod catalogue;
pub mod events;
pub mod extract;
pub mod json;
pub mod lockers;
pub mod openapi;
pub mod ops;
pub mod outbox;
pub mod pages;
pub mod problem;
pub mod request_id;
pub mod reservations;
pub mod server;
mod shortcut;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use axum::response::{Redirect, Response};
use axum::routing::get;
use axum::{Router, middleware};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tower_http::compression::CompressionLayer;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

use crate::application::ingest::WriterQueue;
use crate::application::ports::Projection;
use crate::application::progress::Progress;
use crate::application::queries::Queries;

/// What the handlers work with.
pub struct App {
    pub writer: WriterQueue,
    pub queries: Queries,
    pub progress: Arc<Progress>,
    /// Asked by readiness alone.
    pub projection: Arc<dyn Projection>,
    pub limits: WebLimits,
    /// The bulks that may be under way at a time.
    pub bulk_places: Arc<Semaphore>,
    /// The service is about to stop.
    pub stop: CancellationToken,
}

/// The limits of the web layer.
#[derive(Debug, Clone, Copy)]
pub struct WebLimits {
    pub body_bytes: usize,
    pub body_timeout: Duration,
    pub lag_events: u64,
}

type SharedApp = Arc<App>;

/// The routes of the API, each with its documentation.
fn api() -> OpenApiRouter<SharedApp> {
    OpenApiRouter::with_openapi(openapi::Document::openapi())
        .routes(routes!(events::post_event))
        .routes(routes!(batch::post_batch))
        .routes(routes!(lockers::get_locker))
        .routes(routes!(lockers::get_compartment))
        .routes(routes!(reservations::get_reservation))
        .routes(routes!(ops::livez))
        .routes(routes!(ops::readyz))
}

/// The OpenAPI document.
#[must_use]
pub fn openapi_document() -> utoipa::openapi::OpenApi {
    openapi::finish(api().into_openapi())
}

/// The whole service.
pub fn service(
    app: SharedApp,
) -> impl Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static {
    let routes = Routes { router: router(Arc::clone(&app)), app };
    // Around the router and not a layer of it: a layer would wrap every single route anew.
    service_fn(move |request| request_id::answer(routes.clone(), request))
}

/// The router, and a way past it.
#[derive(Clone)]
struct Routes {
    app: SharedApp,
    router: Router,
}

impl Routes {
    async fn answer(self, request: Request<Incoming>) -> Response {
        match shortcut::answer(&self.app, request.map(Body::new)).await {
            Ok(response) => response,
            Err(request) => self.router.oneshot(request).await.unwrap_or_else(|never| match never {}),
        }
    }
}

fn router(app: SharedApp) -> Router {
    let (api, _) = api().split_for_parts();
    let pages = Router::new()
        .merge(SwaggerUi::new("/docs").url("/openapi.json", openapi_document()).config(openapi::swagger_config()))
        .layer(middleware::from_fn(pages::problem_for_missing_file))
        .layer(CompressionLayer::new())
        .layer(middleware::from_fn_with_state(pages::Files::default(), pages::made_once));
    api.with_state(app)
        .route("/problems/{code}", get(pages::problem))
        .route("/", get(|| async { Redirect::temporary("/docs") }))
        .merge(pages)
        .method_not_allowed_fallback(pages::method_not_allowed)
        .fallback(pages::no_such_page)
}
