//! The statements that read the projection, one text for both databases. Those that write it are in
//! [`tables`](crate::infrastructure::sql::tables).
//!
//! Each takes at most one parameter, a JSON array of arrays: the keys to find. So its text is the same
//! for one key and for hundreds, stays prepared, and costs one round trip. The databases differ in one
//! place, how such an array becomes rows.

/// The statements in the words of one database. Each gives the checkpoint with every row, and once
/// without a row where nothing is found: so a reader knows which moment it saw.
#[derive(Debug, Clone, Copy)]
pub struct Statements {
    pub find_lockers: &'static str,
    pub find_compartments: &'static str,
    pub find_reservations: &'static str,
}

/// The statements, given how the database makes rows with a column `value` of the array `$1`.
macro_rules! statements {
    ($rows:literal) => {
        $crate::infrastructure::sql::statements::Statements {
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
