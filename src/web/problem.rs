//! Errors as RFC 9457 problem details: every answer that is not a success has this one shape.
//!
//! What each code means is listed in [`catalogue`](crate::web::catalogue); this file turns one
//! occurrence into an answer.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::application::ingest::Unavailable;
use crate::application::queries::QueryError;
use crate::domain::event::json;
use crate::domain::ids::Sequence;
use crate::domain::violation::{Involved, Violation};
use crate::web::catalogue::Code;
use crate::web::request_id::Note;

/// What a client is told to wait before it tries again, in seconds.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("1");
/// The same as a number.
pub const RETRY_AFTER_SECONDS: u64 = 1;

/// Problem details (RFC 9457), `application/problem+json`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct Problem {
    /// A page that explains the code, relative to this service.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "/problems/compartment-occupied")]
    kind: String,
    /// The same for every occurrence of the code.
    #[schema(value_type = String, example = "The compartment is occupied")]
    title: &'static str,
    #[schema(example = 409)]
    status: u16,
    /// What is wrong in this case, for a person.
    detail: String,
    /// A stable word for a program; on a 409 the name of the rule.
    #[schema(value_type = String, example = "compartment-occupied")]
    code: &'static str,
    /// On a 422: everything that is wrong with the event.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<FieldProblem>,
    #[serde(flatten)]
    #[schema(value_type = Conflict)]
    conflict: Option<Conflict>,
    #[serde(skip)]
    note: Option<Note>,
}

/// One thing that is wrong with an event.
#[derive(Debug, Serialize, ToSchema)]
pub struct FieldProblem {
    /// A JSON Pointer (RFC 6901) into the event; empty for the event as a whole.
    #[schema(example = "/payload/severity")]
    pointer: String,
    #[schema(example = "must be an integer, not a string")]
    detail: String,
}

/// On a 409: the ids involved, and the record that stands in the way, where there is one.
#[derive(Debug, Serialize, ToSchema)]
pub struct Conflict {
    #[serde(flatten)]
    involved: Involved,
    /// The sequence of the record that stands in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false, example = 17)]
    conflicting_sequence: Option<u64>,
}

impl From<json::Problem> for FieldProblem {
    fn from(json::Problem { pointer, detail }: json::Problem) -> Self {
        Self { pointer, detail }
    }
}

impl Conflict {
    pub fn new(involved: Involved, conflicting_sequence: Option<Sequence>) -> Self {
        Self { involved, conflicting_sequence: conflicting_sequence.map(Sequence::get) }
    }
}

impl Problem {
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let entry = code.entry();
        Self {
            kind: format!("/problems/{}", entry.code),
            title: entry.title,
            status: entry.status.as_u16(),
            detail: detail.into(),
            code: entry.code,
            errors: Vec::new(),
            conflict: None,
            note: None,
        }
    }

    /// A 422 with everything that is wrong.
    #[must_use]
    pub fn invalid_event(problems: Vec<json::Problem>) -> Self {
        let detail = match problems.as_slice() {
            [one] if one.pointer.is_empty() => format!("The event {}.", one.detail),
            [one] => format!("The event is not valid: {} {}.", one.pointer, one.detail),
            many => format!("The event is not valid: {} problems, listed in errors.", many.len()),
        };
        let errors = problems.into_iter().map(FieldProblem::from);
        Self { errors: errors.collect(), ..Self::new(Code::InvalidEvent, detail) }
    }

    /// What is wrong in this case, for a person.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl From<Violation> for Problem {
    fn from(violation: Violation) -> Self {
        let conflict = Some(Conflict::new(*violation.involved, violation.conflicting_sequence));
        Self { conflict, ..Self::new(Code::Rule(violation.rule), violation.detail) }
    }
}

impl From<Unavailable> for Code {
    fn from(unavailable: Unavailable) -> Self {
        match unavailable {
            Unavailable::QueueFull | Unavailable::InflightFull => Self::Overloaded,
            Unavailable::ProjectionBehind => Self::ProjectionBehind,
            Unavailable::LogFull => Self::InsufficientStorage,
            Unavailable::LogUnwritable => Self::LogUnwritable,
            Unavailable::PastUnreadable => Self::PastUnreadable,
            Unavailable::LogFailed => Self::LogFailed,
            Unavailable::Stopping => Self::Stopping,
            Unavailable::NoAnswerInTime => Self::OutcomeUnknown,
        }
    }
}

impl From<Unavailable> for Problem {
    fn from(unavailable: Unavailable) -> Self {
        let code = Code::from(unavailable);
        Self::new(code, format!("{}.", capitalised(&unavailable.to_string())))
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::ProjectionBehind => {
                Self::new(Code::ProjectionBehind, format!("{}.", capitalised(&error.to_string())))
            }
            QueryError::TimedOut => Self::new(Code::DatabaseUnavailable, "The database did not answer in time."),
            QueryError::Store(error) => {
                let detail = "The database cannot be read at the moment.";
                // The database's own words are for the operator and not for the client.
                let note = Some(Note::QueryFailed(error.to_string()));
                Self { note, ..Self::new(Code::DatabaseUnavailable, detail) }
            }
        }
    }
}

impl Problem {
    /// Makes the answer whose body is the problem, or something that holds it.
    pub fn respond(&self, body: &impl Serialize) -> Response {
        let status = StatusCode::from_u16(self.status).expect("the catalogue holds valid statuses");
        let body = serde_json::to_vec(body).expect("texts and numbers have a JSON form");
        let content_type = HeaderValue::from_static("application/problem+json");
        let mut response = (status, [(header::CONTENT_TYPE, content_type)], body).into_response();
        if let Some(note) = &self.note {
            response.extensions_mut().insert(note.clone());
        }
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::INSUFFICIENT_STORAGE) {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER_S);
        }
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.respond(&self)
    }
}

fn capitalised(sentence: &str) -> String {
    let mut characters = sentence.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}
