//! Pages for people, and what is answered where there is none: the page that a problem's `type`
//! leads to, 404 and 405.

use axum::extract::{OriginalUri, Path, Request};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};

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

/// The pages' own answer for a file that they do not have is an empty one.
pub async fn problem_for_missing_file(OriginalUri(uri): OriginalUri, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    if response.status() == StatusCode::NOT_FOUND {
        return no_such_page(OriginalUri(uri)).await.into_response();
    }
    response
}

pub async fn no_such_page(OriginalUri(uri): OriginalUri) -> Problem {
    Problem::new(Code::NoSuchPage, format!("There is nothing at {:?}.", uri.path()))
}

pub async fn method_not_allowed(method: Method, OriginalUri(uri): OriginalUri) -> Problem {
    Problem::new(Code::MethodNotAllowed, format!("{:?} does not take {method}.", uri.path()))
}
