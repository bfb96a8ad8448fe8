//! Pages for people, and what is answered where there is none: the page that a problem's `type`
//! leads to, 404 and 405.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use http_body_util::BodyExt;
use tokio::sync::Mutex;
use tokio::task::yield_now;

use crate::web::catalogue::{Code, Entry};
use crate::web::extract::PathIds;
use crate::web::problem::Problem;

/// `GET /problems/{code}`: the page that explains a code.
pub async fn problem(path: PathIds<String>) -> Response {
    let code = path.ok().map(|Path(code)| code);
    let Some(entry) = Code::all().map(Code::entry).find(|entry| Some(entry.code) == code.as_deref()) else {
        return Problem::new(Code::NoSuchPage, "No problem has this code.").into_response();
    };
    let Entry { code, status, title, advice } = entry;
    Html(format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title} – Lockstream</title>\
         <style>body{{font:1.1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:4rem auto;padding:0 1rem}}</style>\
         <h1>{title}</h1><p>Code <code>{code}</code>, status {status}.</p><p>{advice}</p>\
         <p><a href=\"/docs\">The API of this service</a></p></html>"
    ))
    .into_response()
}

/// The files that were asked for, packed or not, as they are sent. There are only so many.
#[derive(Clone, Default)]
pub struct Files(Arc<Mutex<HashMap<FileKey, (HeaderMap, Bytes)>>>);

/// The path and whether it is packed. Names in a path are decoded: spelled in another way it is the
/// same file.
type FileKey = (String, bool);

/// Makes each file once and gives all clients the same bytes. Packed anew for each client it would
/// take some hundred kilobytes for every one that is slow to take it.
pub async fn made_once(
    State(files): State<Files>,
    uri: Uri,
    name: PathIds<String>,
    mut request: Request,
    next: Next,
) -> Response {
    if request.method() != Method::GET {
        return next.run(request).await;
    }
    let packed = accepts_gzip(request.headers());
    let path = name.map_or_else(|_| uri.path().to_owned(), |Path(name)| format!("/docs/{name}"));
    let key = (path, packed);
    let mut files = files.0.lock().await;
    let (headers, bytes) = if let Some(file) = files.get(&key) {
        file.clone()
    } else {
        let accepted = HeaderValue::from_static(if packed { "gzip" } else { "identity" });
        request.headers_mut().insert(header::ACCEPT_ENCODING, accepted);
        let (parts, body) = next.run(request).await.into_parts();
        if parts.status != StatusCode::OK {
            return Response::from_parts(parts, body);
        }
        let file = (parts.headers, whole(body).await);
        files.insert(key, file.clone());
        file
    };
    let mut response = Response::new(Body::from(bytes));
    *response.headers_mut() = headers;
    response
}

/// All of a body that is made from what is in memory. Packing takes a while; between two pieces
/// others have their turn.
async fn whole(mut body: Body) -> Bytes {
    let mut pieces = Vec::new();
    while let Some(frame) = body.frame().await {
        pieces.extend(frame.expect("what is in memory can be read").into_data());
        yield_now().await;
    }
    match pieces.as_slice() {
        [one] => one.clone(),
        several => several.concat().into(),
    }
}

/// Whether a client takes what is packed with gzip.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|accepted| {
        let (coding, weight) = accepted.split_once(';').unwrap_or((accepted, "q=1"));
        let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.trim().parse().ok());
        coding.trim().eq_ignore_ascii_case("gzip") && weight.unwrap_or(1.0) > 0.0
    })
}

/// The pages' own answer for a file that they do not have is an empty one.
pub async fn problem_for_missing_file(uri: Uri, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    if response.status() == StatusCode::NOT_FOUND {
        return no_such_page(uri).await.into_response();
    }
    response
}

pub async fn no_such_page(uri: Uri) -> Problem {
    Problem::new(Code::NoSuchPage, format!("There is nothing at {:?}.", uri.path()))
}

pub async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    Problem::new(Code::MethodNotAllowed, format!("{:?} does not take {method}.", uri.path()))
}
