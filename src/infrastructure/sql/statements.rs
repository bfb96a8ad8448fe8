//! The statements of the projection, one text for both databases.
//!
//! Each takes at most one parameter, a JSON array of arrays: rows to write, or keys to find. So its
//! text is the same for one row and for ten thousand, stays prepared, and costs one round trip. The
//! databases differ in one place, how such an array becomes rows.

/// The statements in the words of one database.
#[derive(Debug, Clone, Copy)]
pub struct Statements {
    pub upsert_lockers: &'static str,
    pub upsert_compartments: &'static str,
    pub upsert_reservations: &'static str,
    pub upsert_checkpoint: &'static str,
    /// The `find_` statements give the checkpoint with every row, and once without a
    /// row where nothing is found: so a reader knows which moment it saw.
    pub find_lockers: &'static str,
    pub find_compartments: &'static str,
    pub find_reservations: &'static str,
}

/// The statements, given how the database makes rows with a column `value` of the array `$1`.
macro_rules! statements {
    ($rows:literal) => {
        $crate::infrastructure::sql::statements::Statements {
            // Without `WHERE true` SQLite takes the conflict clause for the condition of a join.
            upsert_lockers: concat!(
                "INSERT INTO lockers (locker_id, compartments, active_reservations, degraded_compartments, state_hash) ",
                "SELECT value ->> 0, CAST(value ->> 1 AS BIGINT), CAST(value ->> 2 AS BIGINT), ",
                "CAST(value ->> 3 AS BIGINT), value ->> 4 FROM ",
                $rows,
                " WHERE true ON CONFLICT (locker_id) DO UPDATE SET compartments = excluded.compartments, ",
                "active_reservations = excluded.active_reservations, ",
                "degraded_compartments = excluded.degraded_compartments, state_hash = excluded.state_hash"
            ),
            upsert_compartments: concat!(
                "INSERT INTO compartments (locker_id, compartment_id, degraded, active_reservation) ",
                "SELECT value ->> 0, value ->> 1, CAST(value ->> 2 AS BOOLEAN), value ->> 3 FROM ",
                $rows,
                " WHERE true ON CONFLICT (locker_id, compartment_id) DO UPDATE SET ",
                "degraded = excluded.degraded, active_reservation = excluded.active_reservation"
            ),
            upsert_reservations: concat!(
                "INSERT INTO reservations (reservation_id, status) SELECT value ->> 0, value ->> 1 FROM ",
                $rows,
                " WHERE true ON CONFLICT (reservation_id) DO UPDATE SET status = excluded.status"
            ),
            upsert_checkpoint: concat!(
                "INSERT INTO checkpoint (id, sequence, chain_hash) ",
                "SELECT 1, CAST(value ->> 0 AS BIGINT), value ->> 1 FROM ",
                $rows,
                " WHERE true ON CONFLICT (id) DO UPDATE SET ",
                "sequence = excluded.sequence, chain_hash = excluded.chain_hash"
            ),
            find_lockers: concat!(
                "SELECT checkpoint.sequence, checkpoint.chain_hash, found.* FROM checkpoint LEFT JOIN (SELECT lockers.* FROM ",
                $rows,
                " CROSS JOIN lockers WHERE locker_id = value ->> 0) AS found ON true WHERE checkpoint.id = 1"
            ),
            find_compartments: concat!(
                "SELECT checkpoint.sequence, checkpoint.chain_hash, found.* FROM checkpoint LEFT JOIN (SELECT compartments.* FROM ",
                $rows,
                " CROSS JOIN compartments WHERE locker_id = value ->> 0 AND compartment_id = value ->> 1) ",
                "AS found ON true WHERE checkpoint.id = 1"
            ),
            find_reservations: concat!(
                "SELECT checkpoint.sequence, checkpoint.chain_hash, found.* FROM checkpoint LEFT JOIN (SELECT reservations.* FROM ",
                $rows,
                " CROSS JOIN reservations WHERE reservation_id = value ->> 0) AS found ON true ",
                "WHERE checkpoint.id = 1"
            ),
        }
    };
}
pub(super) use statements;

pub const SELECT_CHECKPOINT: &str = "SELECT sequence, chain_hash FROM checkpoint WHERE id = 1";
pub const SELECT_STATE_HASHES: &str = "SELECT locker_id, state_hash FROM lockers";
pub const SELECT_LOCKERS: &str = "SELECT * FROM lockers";
pub const SELECT_COMPARTMENTS: &str = "SELECT * FROM compartments";
pub const SELECT_RESERVATIONS: &str = "SELECT * FROM reservations";
