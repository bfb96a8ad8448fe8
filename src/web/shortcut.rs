//! The way past the router, for what nearly all requests are: events and the three queries.
//!
//! The router finds the same handlers, but on the way it lays the ids of a path into a map of the
//! request, and copies and boxes request and answer for each of its layers: of what an event takes
//! outside of the kernel that is a tenth, of a query's a seventh. Everything else goes by the router, and
//! so does what the router knows better: ids that are percent-encoded, `HEAD`, and paths that nobody has.
//! A layer around the router's routes would not be around these.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::Method;
use axum::response::{IntoResponse, Response};

use crate::web::{SharedApp, events, lockers, reservations};

/// A request that needs no router.
#[derive(Debug, PartialEq, Eq)]
enum Shortcut {
    PostEvent,
    Get(Query),
}

/// What is asked for, by the ids of its path.
#[derive(Debug, PartialEq, Eq)]
enum Query {
    Locker(String),
    Compartment(String, String),
    Reservation(String),
}

/// Answers a request that needs no router; gives back one that does.
pub(super) async fn answer(app: &SharedApp, request: Request) -> Result<Response, Request> {
    let Some(shortcut) = Shortcut::of(request.method(), request.uri().path()) else { return Err(request) };
    let app = State(Arc::clone(app));
    Ok(match shortcut {
        Shortcut::PostEvent => events::receive_event(app, request).await.into_response(),
        Shortcut::Get(query) => {
            // Before it is asked, as the router does: whether the connection goes on after a body that
            // nobody wants is decided by then.
            drop(request);
            query.ask(app).await
        }
    })
}

impl Query {
    async fn ask(self, app: State<SharedApp>) -> Response {
        match self {
            Self::Locker(id) => lockers::get_locker(app, Ok(Path(id))).await.into_response(),
            Self::Compartment(locker_id, id) => {
                lockers::get_compartment(app, Ok(Path((locker_id, id)))).await.into_response()
            }
            Self::Reservation(id) => reservations::get_reservation(app, Ok(Path(id))).await.into_response(),
        }
    }
}

impl Shortcut {
    fn of(method: &Method, path: &str) -> Option<Self> {
        if method == Method::POST {
            return (path == "/events").then_some(Self::PostEvent);
        }
        if method != Method::GET || path.contains('%') {
            return None;
        }
        let mut segments = path.strip_prefix('/')?.split('/');
        let kind = segments.next()?;
        let id = segments.next().filter(|id| !id.is_empty())?.to_owned();
        let query = match (kind, segments.next()) {
            ("lockers", None) => Query::Locker(id),
            ("lockers", Some("compartments")) => {
                Query::Compartment(id, segments.next().filter(|id| !id.is_empty())?.to_owned())
            }
            ("reservations", None) => Query::Reservation(id),
            _ => return None,
        };
        segments.next().is_none().then_some(Self::Get(query))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::openapi_document;

    #[test]
    fn what_goes_by_the_short_way_is_what_the_router_has() {
        let document = serde_json::to_value(openapi_document()).unwrap();
        let mut taken = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let method: Method = method.to_uppercase().parse().unwrap();
                let path =
                    path.replace("{locker_id}", "L").replace("{compartment_id}", "C").replace("{reservation_id}", "R");
                if let Some(shortcut) = Shortcut::of(&method, &path) {
                    taken.push((operation["operationId"].as_str().unwrap().to_owned(), shortcut));
                }
            }
        }
        let expected = [
            ("postEvent", Shortcut::PostEvent),
            ("getLocker", Shortcut::Get(Query::Locker("L".into()))),
            ("getCompartment", Shortcut::Get(Query::Compartment("L".into(), "C".into()))),
            ("getReservation", Shortcut::Get(Query::Reservation("R".into()))),
        ];
        assert_eq!(taken, expected.map(|(operation, shortcut)| (operation.to_owned(), shortcut)));
    }

    #[test]
    fn what_the_router_knows_better_goes_by_the_router() {
        for path in [
            "/lockers/%4C",
            "/lockers/",
            "/lockers/L/",
            "/lockers/L/doors/C",
            "/reservations/R/x",
            "/lockers/L/compartments/C/x",
            "lockers/L",
            "/",
        ] {
            assert_eq!(Shortcut::of(&Method::GET, path), None, "{path}");
        }
        for method in [Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS] {
            for path in ["/events", "/lockers/L", "/reservations/R"] {
                assert_eq!(Shortcut::of(&method, path), None, "{method} {path}");
            }
        }
        assert_eq!(Shortcut::of(&Method::GET, "/events"), None);
        assert_eq!(Shortcut::of(&Method::POST, "/lockers/L"), None);
    }
}
