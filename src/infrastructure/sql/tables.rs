//! The tables of the projection, and the one statement that writes each: rows that are new are
//! inserted, rows that are there are written anew.
//!
//! The databases get the rows in different ways. PostgreSQL takes any number of them as one JSON
//! array: a round trip costs far more than reading that. SQLite has no round trip, and would spend
//! two thirds of a transaction on reading JSON; it takes lists of values, in statements for 1, 2, 4,
//! … rows, so that any number of rows needs a few of them and each stays prepared.

use std::fmt::Write;
use std::sync::{Arc, LazyLock};

use serde::Serialize;

/// A table, its columns in the order in which rows have them.
#[derive(Debug)]
pub struct Table {
    name: &'static str,
    columns: &'static [Column],
    /// How many of the columns, from the first, are the key.
    key_columns: usize,
    postgres: LazyLock<String>,
    sqlite: [LazyLock<String>; SIZES],
}

#[derive(Debug)]
struct Column {
    name: &'static str,
    postgres_type: &'static str,
}

/// The value of a column of a row.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Cell {
    Text(Arc<str>),
    Count(u64),
    Flag(bool),
    Null,
}

/// SQLite gets at most `2^(SIZES - 1)` rows in one statement: 256 rows of the widest table have 1,280
/// values, of which it takes up to 32,766.
const SIZES: usize = 9;

const fn text(name: &'static str) -> Column {
    Column { name, postgres_type: "TEXT" }
}

const fn count(name: &'static str) -> Column {
    Column { name, postgres_type: "BIGINT" }
}

const fn flag(name: &'static str) -> Column {
    Column { name, postgres_type: "BOOLEAN" }
}

macro_rules! table {
    ($table:ident, $name:literal, $key_columns:literal, [$($column:expr),+]) => {
        pub static $table: Table = Table {
            name: $name,
            columns: &[$($column),+],
            key_columns: $key_columns,
            postgres: LazyLock::new(|| $table.on_postgres()),
            sqlite: [
                LazyLock::new(|| $table.on_sqlite(1)),
                LazyLock::new(|| $table.on_sqlite(2)),
                LazyLock::new(|| $table.on_sqlite(4)),
                LazyLock::new(|| $table.on_sqlite(8)),
                LazyLock::new(|| $table.on_sqlite(16)),
                LazyLock::new(|| $table.on_sqlite(32)),
                LazyLock::new(|| $table.on_sqlite(64)),
                LazyLock::new(|| $table.on_sqlite(128)),
                LazyLock::new(|| $table.on_sqlite(256)),
            ],
        };
    };
}

table!(
    LOCKERS,
    "lockers",
    1,
    [
        text("locker_id"),
        count("compartments"),
        count("active_reservations"),
        count("degraded_compartments"),
        text("state_hash")
    ]
);
table!(
    COMPARTMENTS,
    "compartments",
    2,
    [text("locker_id"), text("compartment_id"), flag("degraded"), text("active_reservation")]
);
table!(RESERVATIONS, "reservations", 1, [text("reservation_id"), text("status")]);
table!(CHECKPOINT, "checkpoint", 1, [count("id"), count("sequence"), text("chain_hash")]);

impl Table {
    /// How many cells a row has.
    pub const fn width(&self) -> usize {
        self.columns.len()
    }

    /// Writes rows that are given as one parameter, a JSON array of arrays.
    pub fn for_json(&'static self) -> &'static str {
        &self.postgres
    }

    /// Writes the first of so many rows, one parameter for each cell; how many of them.
    pub fn for_values(&'static self, rows: usize) -> (&'static str, usize) {
        let size = (rows.ilog2() as usize).min(SIZES - 1);
        (&self.sqlite[size], 1 << size)
    }

    fn on_postgres(&self) -> String {
        let value = |(at, column): (usize, &Column)| format!("CAST(value ->> {at} AS {})", column.postgres_type);
        let values: Vec<_> = self.columns.iter().enumerate().map(value).collect();
        format!(
            "{} SELECT {} FROM json_array_elements($1::json) AS rows(value){}",
            self.insert(),
            values.join(", "),
            self.or_update()
        )
    }

    fn on_sqlite(&self, rows: usize) -> String {
        let row = format!("({})", vec!["?"; self.width()].join(", "));
        format!("{} VALUES {}{}", self.insert(), vec![row.as_str(); rows].join(", "), self.or_update())
    }

    fn insert(&self) -> String {
        let names: Vec<_> = self.columns.iter().map(|column| column.name).collect();
        format!("INSERT INTO {} ({})", self.name, names.join(", "))
    }

    fn or_update(&self) -> String {
        let (keys, values) = self.columns.split_at(self.key_columns);
        let keys: Vec<_> = keys.iter().map(|column| column.name).collect();
        let mut clause = format!(" ON CONFLICT ({}) DO UPDATE SET ", keys.join(", "));
        for (at, Column { name, .. }) in values.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(clause, "{comma}{name} = excluded.{name}").expect("writing to memory cannot fail");
        }
        clause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_names_key_and_values() {
        assert_eq!(
            RESERVATIONS.for_json(),
            "INSERT INTO reservations (reservation_id, status) SELECT CAST(value ->> 0 AS TEXT), \
             CAST(value ->> 1 AS TEXT) FROM json_array_elements($1::json) AS rows(value) \
             ON CONFLICT (reservation_id) DO UPDATE SET status = excluded.status"
        );
        assert_eq!(
            COMPARTMENTS.for_values(2),
            (
                "INSERT INTO compartments (locker_id, compartment_id, degraded, active_reservation) \
                 VALUES (?, ?, ?, ?), (?, ?, ?, ?) ON CONFLICT (locker_id, compartment_id) DO UPDATE SET \
                 degraded = excluded.degraded, active_reservation = excluded.active_reservation",
                2
            )
        );
    }

    #[test]
    fn any_number_of_rows_takes_a_few_statements() {
        let sizes = |mut rows: usize| {
            let mut sizes = Vec::new();
            while rows > 0 {
                let (_, size) = LOCKERS.for_values(rows);
                sizes.push(size);
                rows -= size;
            }
            sizes
        };
        assert_eq!(sizes(1), [1]);
        assert_eq!(sizes(300), [256, 32, 8, 4]);
        assert_eq!(sizes(1_023), [256, 256, 256, 128, 64, 32, 16, 8, 4, 2, 1]);
    }
}
