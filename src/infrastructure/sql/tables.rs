//! The tables of the projection, and for each the statement that writes it and the one that finds rows
//! by their keys. What is written is inserted where it is new, and written anew where it is there.
//!
//! The databases get rows and keys in different ways. PostgreSQL takes any number of them as one JSON
//! array: a round trip costs far more than reading that. SQLite has no round trip, and would spend
//! two thirds of a transaction on reading JSON; it takes lists of values, in statements for 1, 2, 4,
//! … rows or keys, so that any number needs a few of them and each stays prepared.

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
    written_on_postgres: LazyLock<String>,
    written_on_sqlite: [LazyLock<String>; SIZES],
    found_on_postgres: LazyLock<String>,
    found_on_sqlite: [LazyLock<String>; SIZES],
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

/// How many keys one statement finds at most.
pub const MAX_KEYS: usize = 1 << (SIZES - 1);

const fn text(name: &'static str) -> Column {
    Column { name, postgres_type: "TEXT" }
}

const fn count(name: &'static str) -> Column {
    Column { name, postgres_type: "BIGINT" }
}

const fn flag(name: &'static str) -> Column {
    Column { name, postgres_type: "BOOLEAN" }
}

/// A statement for each size.
macro_rules! by_size {
    ($table:ident . $statement:ident) => {
        [
            LazyLock::new(|| $table.$statement(1)),
            LazyLock::new(|| $table.$statement(2)),
            LazyLock::new(|| $table.$statement(4)),
            LazyLock::new(|| $table.$statement(8)),
            LazyLock::new(|| $table.$statement(16)),
            LazyLock::new(|| $table.$statement(32)),
            LazyLock::new(|| $table.$statement(64)),
            LazyLock::new(|| $table.$statement(128)),
            LazyLock::new(|| $table.$statement(256)),
        ]
    };
}

macro_rules! table {
    ($table:ident, $name:literal, $key_columns:literal, [$($column:expr),+]) => {
        pub static $table: Table = Table {
            name: $name,
            columns: &[$($column),+],
            key_columns: $key_columns,
            written_on_postgres: LazyLock::new(|| $table.write_on_postgres()),
            written_on_sqlite: by_size!($table.write_on_sqlite),
            found_on_postgres: LazyLock::new(|| $table.find_on_postgres()),
            found_on_sqlite: by_size!($table.find_on_sqlite),
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

    /// How many cells a key has.
    pub const fn key_width(&self) -> usize {
        self.key_columns
    }

    /// A text in every table: a lookup has the checkpoint's hash there.
    pub const fn last_column(&self) -> &'static str {
        self.columns[self.columns.len() - 1].name
    }

    /// Writes rows that are given as one parameter, a JSON array of arrays.
    pub fn for_json(&'static self) -> &'static str {
        &self.written_on_postgres
    }

    /// Writes the first of so many rows, one parameter for each cell; how many of them.
    pub fn for_values(&'static self, rows: usize) -> (&'static str, usize) {
        let size = (rows.ilog2() as usize).min(SIZES - 1);
        (&self.written_on_sqlite[size], 1 << size)
    }

    /// The same as [`Table::find_by_values`] by keys that are given as one parameter, a JSON array of
    /// arrays.
    pub fn find_by_json(&'static self) -> &'static str {
        &self.found_on_postgres
    }

    /// Finds rows by so many keys, [`MAX_KEYS`] at most, one parameter for each cell. A statement may
    /// be for more: a parameter that is not given is null, and no key is.
    ///
    /// Every cell that is not needed costs, in SQLite more than comparing a key. So a row has instead of
    /// its key the number of that, from 1. The checkpoint is a row by itself, of the same moment as the
    /// others, so that a reader knows which one it saw: instead of the number it has minus its sequence,
    /// and its hash in the table's last column. A sequence below zero, which only somebody else can have
    /// written, becomes a number beyond those of all keys.
    pub fn find_by_values(&'static self, keys: usize) -> &'static str {
        &self.found_on_sqlite[keys.next_power_of_two().ilog2() as usize]
    }

    fn write_on_postgres(&self) -> String {
        let value = |(at, column): (usize, &Column)| format!("CAST(value ->> {at} AS {})", column.postgres_type);
        let values: Vec<_> = self.columns.iter().enumerate().map(value).collect();
        format!(
            "{} SELECT {} FROM json_array_elements($1::json) AS rows(value){}",
            self.insert(),
            values.join(", "),
            self.or_update()
        )
    }

    fn write_on_sqlite(&self, rows: usize) -> String {
        let row = format!("({})", parameters(self.width()));
        format!("{} VALUES {}{}", self.insert(), vec![row.as_str(); rows].join(", "), self.or_update())
    }

    fn find_on_postgres(&self) -> String {
        let keys = "json_array_elements($1::json) WITH ORDINALITY AS keys(value, number)";
        self.find("number", keys, |at| format!("value ->> {at}"))
    }

    fn find_on_sqlite(&self, keys: usize) -> String {
        let key = |number| format!("({number}, {})", parameters(self.key_columns));
        let keys: Vec<_> = (1..=keys).map(key).collect();
        // So SQLite calls the columns of values; the first is the number.
        self.find("column1", &format!("(VALUES {})", keys.join(", ")), |at| format!("column{}", at + 2))
    }

    /// The shape of [`Table::find_by_values`], given where keys come from and what they are called there.
    fn find(&self, number: &str, keys: &str, key: impl Fn(usize) -> String) -> String {
        let (name, last, values) = (self.name, self.last_column(), self.values());
        let in_checkpoint = |value: &&str| format!("{} AS {value}", if *value == last { "chain_hash" } else { "NULL" });
        format!(
            "SELECT CASE WHEN sequence < 0 THEN {MAX_KEYS} - sequence ELSE -sequence END AS number, {} \
             FROM checkpoint WHERE id = 1 UNION ALL SELECT {number}, {} FROM {keys} CROSS JOIN {name} WHERE {}",
            values.iter().map(in_checkpoint).collect::<Vec<_>>().join(", "),
            values.join(", "),
            self.is_key(key),
        )
    }

    /// The names of the columns that are not the key.
    fn values(&self) -> Vec<&'static str> {
        self.columns[self.key_columns..].iter().map(|column| column.name).collect()
    }

    /// That a row has a key, given what stands for its columns.
    fn is_key(&self, value: impl Fn(usize) -> String) -> String {
        let keys = self.columns[..self.key_columns].iter().enumerate();
        let are_equal: Vec<_> = keys.map(|(at, column)| format!("{} = {}", column.name, value(at))).collect();
        are_equal.join(" AND ")
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

/// So many parameters.
fn parameters(count: usize) -> String {
    vec!["?"; count].join(", ")
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
    fn a_lookup_tells_the_checkpoint_too() {
        assert_eq!(
            RESERVATIONS.find_by_json(),
            "SELECT CASE WHEN sequence < 0 THEN 256 - sequence ELSE -sequence END AS number, \
             chain_hash AS status FROM checkpoint WHERE id = 1 UNION ALL \
             SELECT number, status FROM json_array_elements($1::json) WITH ORDINALITY AS keys(value, number) \
             CROSS JOIN reservations WHERE reservation_id = value ->> 0"
        );
        assert_eq!(
            COMPARTMENTS.find_by_values(2),
            "SELECT CASE WHEN sequence < 0 THEN 256 - sequence ELSE -sequence END AS number, \
             NULL AS degraded, chain_hash AS active_reservation FROM checkpoint \
             WHERE id = 1 UNION ALL SELECT column1, degraded, active_reservation \
             FROM (VALUES (1, ?, ?), (2, ?, ?)) CROSS JOIN compartments \
             WHERE locker_id = column2 AND compartment_id = column3"
        );
    }

    #[test]
    fn any_number_of_keys_takes_one_statement() {
        let sizes = |keys| LOCKERS.find_by_values(keys).matches('?').count();
        assert_eq!([1, 2, 3, 5, 64, 65, MAX_KEYS].map(sizes), [1, 2, 4, 8, 64, 128, MAX_KEYS]);
    }

    #[test]
    fn the_last_column_of_what_is_looked_up_is_a_text_as_the_hash_of_a_checkpoint_is() {
        for table in [&LOCKERS, &COMPARTMENTS, &RESERVATIONS] {
            assert_eq!(table.columns.last().unwrap().postgres_type, "TEXT", "{}", table.name);
        }
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
