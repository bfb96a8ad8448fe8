//! The state of reservations.

use axum::extract::{Path, State};

use crate::domain::ids::ReservationId;
use crate::domain::rows::ReservationStatus;
use crate::web::SharedApp;
use crate::web::catalogue::Code;
use crate::web::extract::PathIds;
use crate::web::json::Json;
use crate::web::problem::Problem;

/// The state of a reservation
///
/// Shows the effect of every event that was acknowledged before the request, on any connection.
#[utoipa::path(
    get,
    path = "/reservations/{reservation_id}",
    tag = "reservations",
    operation_id = "getReservation",
    params(("reservation_id" = String, Path, description = "Percent-encoded where it needs to be", min_length = 1, max_length = 128, example = "parcel-7001")),
    responses(
        (status = 200, description = "The reservation as it now is", body = ReservationStatus),
        (status = 404, description = "No such reservation", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not now; see `retry-after`", body = Problem, content_type = "application/problem+json",
            headers(("retry-after" = u32, description = "Seconds to wait before the next attempt"))),
    ),
)]
pub async fn get_reservation(
    State(app): State<SharedApp>,
    path: PathIds<String>,
) -> Result<Json<ReservationStatus>, Problem> {
    let unknown = || Problem::new(Code::UnknownReservation, "No reservation was ever created with this id.");
    let Path(reservation_id) = path.map_err(|_| unknown())?;
    let reservation_id = ReservationId::parse(&reservation_id).map_err(|_| unknown())?;
    app.queries.reservation(&reservation_id).await?.map(Json).ok_or_else(unknown)
}
