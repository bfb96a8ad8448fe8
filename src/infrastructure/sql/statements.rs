//! The statements that read the projection as a whole, one text for both databases. Those that write it
//! and those that look something up are in [`tables`](crate::infrastructure::sql::tables).

pub const SELECT_CHECKPOINT: &str = "SELECT sequence, chain_hash FROM checkpoint WHERE id = 1";
pub const SELECT_STATE_HASHES: &str = "SELECT locker_id, state_hash FROM lockers";
pub const SELECT_LOCKERS: &str = "SELECT * FROM lockers";
pub const SELECT_COMPARTMENTS: &str = "SELECT * FROM compartments";
pub const SELECT_RESERVATIONS: &str = "SELECT * FROM reservations";
