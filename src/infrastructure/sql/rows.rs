//! Rows on their way into a database, cell by cell, and out of it again.

use std::error::Error;

use serde::Serialize;
use sqlx::Row;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;

use crate::domain::hash::{ChainHash, StateHash};
use crate::domain::ids::{CompartmentId, LockerId, ReservationId, Sequence};
use crate::domain::record::Head;
use crate::domain::reservation::ReservationState;
use crate::domain::rows::{CompartmentRow, CompartmentStatus, LockerSummary, ReservationStatus, Rows};
use crate::infrastructure::sql::tables::{CHECKPOINT, COMPARTMENTS, Cell, LOCKERS, MAX_KEYS, RESERVATIONS, Table};

/// How many rows are handed to the database at once at most: as cells they are there twice.
const MAX_CHUNK_ROWS: usize = 10_000;

/// Rows of one table, cell by cell.
#[derive(Debug)]
pub struct Chunk {
    pub table: &'static Table,
    pub cells: Vec<Cell>,
}

impl Chunk {
    /// In the order of their keys, so that a database which keeps them in that order goes through its
    /// pages once.
    fn of<'r, R: Sync, K: Ord, const WIDTH: usize>(
        table: &'static Table,
        rows: &'r [R],
        key: impl Fn(&'r R) -> K,
        cells: impl Fn(&'r R) -> [Cell; WIDTH] + Send + 'r,
    ) -> impl Iterator<Item = Self> + Send + 'r {
        debug_assert_eq!(table.width(), WIDTH, "a cell for each column");
        let mut sorted: Vec<_> = rows.iter().collect();
        sorted.sort_unstable_by_key(|row| key(row));
        let begins = (0..sorted.len()).step_by(MAX_CHUNK_ROWS);
        begins.map(move |begin| {
            let end = sorted.len().min(begin + MAX_CHUNK_ROWS);
            Self { table, cells: sorted[begin..end].iter().flat_map(|row| cells(row)).collect() }
        })
    }

    /// As one parameter: a JSON array of arrays.
    pub fn to_json(&self) -> String {
        json_rows(self.cells.chunks(self.table.width()))
    }
}

/// The rows of one transaction and its checkpoint. Each chunk is made when its turn comes: a
/// transaction must not stand idle for long, nor everything be there twice.
pub fn chunks(rows: &Rows, head: Head) -> impl Iterator<Item = Chunk> + Send {
    let lockers = Chunk::of(
        &LOCKERS,
        &rows.lockers,
        |row| &row.locker_id,
        |row| {
            let LockerSummary { locker_id, compartments, active_reservations, degraded_compartments, state_hash } = row;
            [
                Cell::Text(locker_id.to_shared()),
                Cell::Count(*compartments),
                Cell::Count(*active_reservations),
                Cell::Count(*degraded_compartments),
                Cell::Text(state_hash.to_string().into()),
            ]
        },
    );
    let compartments = Chunk::of(
        &COMPARTMENTS,
        &rows.compartments,
        |row| (&row.locker_id, &row.status.compartment_id),
        |row| {
            let CompartmentStatus { compartment_id, degraded, active_reservation } = &row.status;
            [
                Cell::Text(row.locker_id.to_shared()),
                Cell::Text(compartment_id.to_shared()),
                Cell::Flag(*degraded),
                active_reservation.as_ref().map_or(Cell::Null, |id| Cell::Text(id.to_shared())),
            ]
        },
    );
    let reservations = Chunk::of(
        &RESERVATIONS,
        &rows.reservations,
        |row| &row.reservation_id,
        |row| [Cell::Text(row.reservation_id.to_shared()), Cell::Text(row.status.as_str().into())],
    );
    let cells = vec![Cell::Count(1), Cell::Count(head.sequence.get()), Cell::Text(head.chain_hash.to_string().into())];
    lockers.chain(compartments).chain(reservations).chain([Chunk { table: &CHECKPOINT, cells }])
}

/// Keys of one table, cell by cell.
#[derive(Debug)]
pub struct Keys {
    pub table: &'static Table,
    pub cells: Vec<Cell>,
}

impl Keys {
    pub fn count(&self) -> usize {
        self.cells.len() / self.table.key_width()
    }

    /// As one parameter: a JSON array of arrays.
    pub fn to_json(&self) -> String {
        json_rows(self.cells.chunks(self.table.key_width()))
    }
}

/// Rows of cells as one parameter.
fn json_rows(rows: impl Iterator<Item = impl Serialize>) -> String {
    let rows: Vec<_> = rows.collect();
    serde_json::to_string(&rows).expect("texts, numbers and booleans have a JSON form")
}

/// The values of a row, by the names of their columns.
pub trait Cells: Send {
    fn text(&self, column: &str) -> Read<&str>;
    fn optional_text(&self, column: &str) -> Read<Option<&str>>;
    fn integer(&self, column: &str) -> Read<i64>;
    fn boolean(&self, column: &'static str) -> Read<bool>;
}

pub type Read<T> = Result<T, sqlx::Error>;

/// The rows of both drivers are read alike, but their types have nothing in common that says so.
macro_rules! cells {
    ($row:ty, $boolean:expr) => {
        impl Cells for $row {
            fn text(&self, column: &str) -> Read<&str> {
                self.try_get(column)
            }

            fn optional_text(&self, column: &str) -> Read<Option<&str>> {
                self.try_get(column)
            }

            fn integer(&self, column: &str) -> Read<i64> {
                self.try_get(column)
            }

            fn boolean(&self, column: &'static str) -> Read<bool> {
                $boolean(self, column)
            }
        }
    };
}
cells!(SqliteRow, zero_or_one);
cells!(PgRow, PgRow::try_get);

/// SQLite has numbers where PostgreSQL has a type for what is true or false.
fn zero_or_one(row: &impl Cells, column: &'static str) -> Read<bool> {
    match row.integer(column)? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(foreign(column, other.to_string())),
    }
}

pub fn read_locker(row: &impl Cells) -> Read<LockerSummary> {
    read_locker_of(read_locker_id(row)?, row)
}

pub fn read_locker_of(locker_id: LockerId, row: &impl Cells) -> Read<LockerSummary> {
    Ok(LockerSummary {
        locker_id,
        compartments: count(row, "compartments")?,
        active_reservations: count(row, "active_reservations")?,
        degraded_compartments: count(row, "degraded_compartments")?,
        state_hash: text(row, "state_hash", StateHash::parse)?,
    })
}

pub fn read_state_hash(row: &impl Cells) -> Read<(LockerId, StateHash)> {
    Ok((read_locker_id(row)?, text(row, "state_hash", StateHash::parse)?))
}

fn read_locker_id(row: &impl Cells) -> Read<LockerId> {
    text(row, "locker_id", |text| LockerId::parse(text).ok())
}

pub fn read_compartment(row: &impl Cells) -> Read<CompartmentRow> {
    let compartment_id = text(row, "compartment_id", |text| CompartmentId::parse(text).ok())?;
    Ok(CompartmentRow { locker_id: read_locker_id(row)?, status: read_compartment_of(compartment_id, row)? })
}

pub fn read_compartment_of(compartment_id: CompartmentId, row: &impl Cells) -> Read<CompartmentStatus> {
    let active = row.optional_text("active_reservation")?;
    Ok(CompartmentStatus {
        compartment_id,
        degraded: row.boolean("degraded")?,
        active_reservation: active.map(|text| parsed("active_reservation", text, reservation_id)).transpose()?,
    })
}

pub fn read_reservation(row: &impl Cells) -> Read<ReservationStatus> {
    read_reservation_of(text(row, "reservation_id", reservation_id)?, row)
}

pub fn read_reservation_of(reservation_id: ReservationId, row: &impl Cells) -> Read<ReservationStatus> {
    Ok(ReservationStatus { reservation_id, status: text(row, "status", ReservationState::parse)? })
}

fn reservation_id(text: &str) -> Option<ReservationId> {
    ReservationId::parse(text).ok()
}

/// The checkpoint, from a statement for it alone.
pub fn read_checkpoint(row: &impl Cells) -> Read<Head> {
    let sequence = Sequence::new(count(row, "sequence")?);
    Ok(Head { sequence, chain_hash: text(row, "chain_hash", ChainHash::parse)? })
}

/// What a row that was looked up is.
pub enum FoundRow {
    /// The one of this key, by its place among those that were asked for.
    Of(usize),
    Checkpoint(Head),
}

/// Tells what a row of [`Table::find_by_values`] or [`Table::find_by_json`] is, for so many keys.
pub fn read_found(row: &impl Cells, table: &'static Table, keys: usize) -> Read<FoundRow> {
    let number = row.integer("number")?;
    match usize::try_from(number) {
        Ok(number) if number > keys => Err(foreign("sequence", format!("-{}", number.saturating_sub(MAX_KEYS)))),
        Ok(number) if number > 0 => Ok(FoundRow::Of(number - 1)),
        _ => {
            let chain_hash = parsed("chain_hash", row.text(table.last_column())?, ChainHash::parse)?;
            Ok(FoundRow::Checkpoint(Head { sequence: Sequence::new(number.unsigned_abs()), chain_hash }))
        }
    }
}

fn text<T>(row: &impl Cells, column: &'static str, parse: impl Fn(&str) -> Option<T>) -> Read<T> {
    parsed(column, row.text(column)?, parse)
}

fn parsed<T>(column: &'static str, value: &str, parse: impl Fn(&str) -> Option<T>) -> Read<T> {
    parse(value).ok_or_else(|| foreign(column, value.to_owned()))
}

fn count(row: &impl Cells, column: &'static str) -> Read<u64> {
    let value = row.integer(column)?;
    u64::try_from(value).map_err(|_| foreign(column, value.to_string()))
}

/// A stored value that the service never writes: somebody else changed the database.
#[derive(Debug, thiserror::Error)]
#[error("column {column} holds {value:?}, which lockstream never writes")]
struct ForeignValue {
    column: &'static str,
    value: String,
}

fn foreign(column: &'static str, value: String) -> sqlx::Error {
    let source: Box<dyn Error + Send + Sync> = Box::new(ForeignValue { column, value });
    sqlx::Error::ColumnDecode { index: column.to_owned(), source }
}
