//! The state of lockers and their compartments.

use axum::extract::{Path, State};

use crate::domain::ids::{CompartmentId, LockerId};
use crate::domain::rows::{CompartmentStatus, LockerSummary};
use crate::web::SharedApp;
use crate::web::catalogue::Code;
use crate::web::extract::PathIds;
use crate::web::json::Json;
use crate::web::problem::Problem;

/// The state of a locker
///
/// Shows the effect of every event that was acknowledged before the request, on any connection.
#[utoipa::path(
    get,
    path = "/lockers/{locker_id}",
    tag = "lockers",
    operation_id = "getLocker",
    params(("locker_id" = String, Path, description = "Percent-encoded where it needs to be", min_length = 1, max_length = 128, example = "campus-north")),
    responses(
        (status = 200, description = "The locker as it now is", body = LockerSummary),
        (status = 404, description = "No such locker", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not now; see `retry-after`", body = Problem, content_type = "application/problem+json",
            headers(("retry-after" = u32, description = "Seconds to wait before the next attempt"))),
    ),
)]
pub async fn get_locker(State(app): State<SharedApp>, path: PathIds<String>) -> Result<Json<LockerSummary>, Problem> {
    let unknown = || Problem::new(Code::UnknownLocker, "No compartment was ever registered in this locker.");
    let Path(locker_id) = path.map_err(|_| unknown())?;
    let locker_id = LockerId::parse(&locker_id).map_err(|_| unknown())?;
    app.queries.locker(&locker_id).await?.map(Json).ok_or_else(unknown)
}

/// The state of a compartment
///
/// Shows the effect of every event that was acknowledged before the request, on any connection.
#[utoipa::path(
    get,
    path = "/lockers/{locker_id}/compartments/{compartment_id}",
    tag = "lockers",
    operation_id = "getCompartment",
    params(
        ("locker_id" = String, Path, description = "Percent-encoded where it needs to be", min_length = 1, max_length = 128, example = "campus-north"),
        ("compartment_id" = String, Path, description = "Percent-encoded where it needs to be", min_length = 1, max_length = 128, example = "A1"),
    ),
    responses(
        (status = 200, description = "The compartment as it now is", body = CompartmentStatus),
        (status = 404, description = "No such compartment in this locker", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not now; see `retry-after`", body = Problem, content_type = "application/problem+json",
            headers(("retry-after" = u32, description = "Seconds to wait before the next attempt"))),
    ),
)]
pub async fn get_compartment(
    State(app): State<SharedApp>,
    path: PathIds<(String, String)>,
) -> Result<Json<CompartmentStatus>, Problem> {
    let unknown = || Problem::new(Code::UnknownCompartment, "This compartment is not registered in this locker.");
    let Path((locker_id, compartment_id)) = path.map_err(|_| unknown())?;
    let locker_id = LockerId::parse(&locker_id).map_err(|_| unknown())?;
    let compartment_id = CompartmentId::parse(&compartment_id).map_err(|_| unknown())?;
    app.queries.compartment(&locker_id, &compartment_id).await?.map(Json).ok_or_else(unknown)
}
