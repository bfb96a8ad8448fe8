//! The projection in SQL: plain rows, no rule, no arithmetic.

pub mod lookups;
pub mod sqlite;
pub mod sqlite_file;

use std::error::Error;

use serde::Serialize;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::application::ports::StoreError;
use crate::domain::hash::{ChainHash, StateHash};
use crate::domain::ids::{CompartmentId, LockerId, ReservationId, Sequence};
use crate::domain::record::Head;
use crate::domain::reservation::ReservationState;
use crate::domain::rows::{CompartmentRow, CompartmentStatus, LockerSummary, ReservationStatus, Rows};

/// How many rows one statement writes at most, so that its parameter stays small.
const MAX_STATEMENT_ROWS: usize = 10_000;

/// The rows of one transaction as JSON arrays of arrays, for each table as many as it takes: so a
/// statement has one parameter and one text, however many rows there are.
struct RowParameters {
    lockers: Vec<String>,
    compartments: Vec<String>,
    reservations: Vec<String>,
}

impl RowParameters {
    fn of(rows: &Rows) -> Self {
        Self {
            lockers: in_chunks(&rows.lockers, |row| {
                let LockerSummary { locker_id, compartments, active_reservations, degraded_compartments, state_hash } =
                    row;
                (locker_id, compartments, active_reservations, degraded_compartments, state_hash)
            }),
            compartments: in_chunks(&rows.compartments, |row| {
                let CompartmentStatus { compartment_id, degraded, active_reservation } = &row.status;
                (&row.locker_id, compartment_id, u8::from(*degraded), active_reservation)
            }),
            reservations: in_chunks(&rows.reservations, |row| (&row.reservation_id, row.status)),
        }
    }
}

fn in_chunks<'r, R, T: Serialize>(rows: &'r [R], columns: impl Fn(&'r R) -> T + Copy) -> Vec<String> {
    rows.chunks(MAX_STATEMENT_ROWS).map(|chunk| json_rows(chunk.iter().map(columns))).collect()
}

fn json_rows(rows: impl Iterator<Item = impl Serialize>) -> String {
    let rows: Vec<_> = rows.collect();
    serde_json::to_string(&rows).expect("texts and numbers have a JSON form")
}

/// A stored value that the service never writes: somebody else changed the database.
#[derive(Debug, thiserror::Error)]
#[error("column {column} holds {value:?}, which lockstream never writes")]
struct ForeignValue {
    column: &'static str,
    value: String,
}

type Read<T> = Result<T, sqlx::Error>;

fn read_locker(row: &SqliteRow) -> Read<LockerSummary> {
    Ok(LockerSummary {
        locker_id: text(row, "locker_id", |text| LockerId::parse(text).ok())?,
        compartments: count(row, "compartments")?,
        active_reservations: count(row, "active_reservations")?,
        degraded_compartments: count(row, "degraded_compartments")?,
        state_hash: text(row, "state_hash", StateHash::parse)?,
    })
}

fn read_compartment(row: &SqliteRow) -> Read<CompartmentRow> {
    let locker_id = text(row, "locker_id", |text| LockerId::parse(text).ok())?;
    let active: Option<&str> = row.try_get("active_reservation")?;
    let status = CompartmentStatus {
        compartment_id: text(row, "compartment_id", |text| CompartmentId::parse(text).ok())?,
        degraded: row.try_get("degraded")?,
        active_reservation: active
            .map(|_| text(row, "active_reservation", |text| ReservationId::parse(text).ok()))
            .transpose()?,
    };
    Ok(CompartmentRow { locker_id, status })
}

fn read_reservation(row: &SqliteRow) -> Read<ReservationStatus> {
    Ok(ReservationStatus {
        reservation_id: text(row, "reservation_id", |text| ReservationId::parse(text).ok())?,
        status: text(row, "status", ReservationState::parse)?,
    })
}

fn read_checkpoint(row: &SqliteRow) -> Read<Head> {
    Ok(Head {
        sequence: Sequence::new(count(row, "sequence")?),
        chain_hash: text(row, "chain_hash", ChainHash::parse)?,
    })
}

fn text<T>(row: &SqliteRow, column: &'static str, parse: impl Fn(&str) -> Option<T>) -> Read<T> {
    let value: &str = row.try_get(column)?;
    parse(value).ok_or_else(|| foreign(column, value.to_owned()))
}

fn count(row: &SqliteRow, column: &'static str) -> Read<u64> {
    let value: i64 = row.try_get(column)?;
    u64::try_from(value).map_err(|_| foreign(column, value.to_string()))
}

fn foreign(column: &'static str, value: String) -> sqlx::Error {
    let source: Box<dyn Error + Send + Sync> = Box::new(ForeignValue { column, value });
    sqlx::Error::ColumnDecode { index: column.to_owned(), source }
}

fn failed(doing: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    move |source| StoreError::new(doing, source)
}
