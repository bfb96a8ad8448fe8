//! Reading requests: the body of an event within its limits, and ids from paths.

use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, Path, Request};
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::time::timeout;

use crate::web::catalogue::Code;
use crate::web::problem::Problem;
use crate::web::{SharedApp, WebLimits};

/// The bytes of a JSON body: of the right type, complete, in time, and not too many.
#[derive(Debug)]
pub struct JsonBytes(pub Bytes);

impl FromRequest<SharedApp> for JsonBytes {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &SharedApp) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            let detail = "The header content-type has to be application/json.";
            return Err(Problem::new(Code::UnsupportedMediaType, detail));
        }
        let stated =
            request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if stated.is_some_and(|length: u64| length > app.limits.body_bytes as u64) {
            return Err(too_large(&app.limits));
        }
        read(request.into_body(), &app.limits).await.map(Self)
    }
}

async fn read(body: Body, limits: &WebLimits) -> Result<Bytes, Problem> {
    let whole = Limited::new(body, limits.body_bytes).collect();
    match timeout(limits.body_timeout, whole).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(limits)),
        Ok(Err(error)) => Err(Problem::new(Code::BodyInterrupted, format!("The body could not be read: {error}."))),
        Err(_) => {
            let detail = format!("The body was not complete after {} ms.", limits.body_timeout.as_millis());
            Err(Problem::new(Code::BodyTimeout, detail))
        }
    }
}

fn too_large(limits: &WebLimits) -> Problem {
    Problem::new(Code::BodyTooLarge, format!("A body may have {} bytes at most.", limits.body_bytes))
}

/// `application/json` or a type built upon it, with whatever parameters.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// Ids from a path, decoded. What cannot be decoded cannot name anything that exists.
pub type PathIds<T> = Result<Path<T>, PathRejection>;
