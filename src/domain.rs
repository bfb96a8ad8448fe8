//! What is true and what is possible in a network of parcel lockers.
//!
//! Pure: no clock, no input or output, no async. The rules of the service are decided here and
//! nowhere else; everything outside asks and obeys.

pub mod event;
pub mod fault;
pub mod hash;
pub mod hashing;
pub mod ids;
pub mod locker;
pub mod parted;
pub mod record;
pub mod reservation;
pub mod rows;
pub mod small_map;
pub mod state_hash;
pub mod violation;
pub mod world;
