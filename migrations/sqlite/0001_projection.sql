-- The projection: what the log says, as it now is. Everything here can be made anew from the log.
-- Text compares byte by byte (SQLite's BINARY collation), like the identifiers in the domain.

CREATE TABLE lockers (
    locker_id             TEXT    NOT NULL PRIMARY KEY,
    compartments          INTEGER NOT NULL,
    active_reservations   INTEGER NOT NULL,
    degraded_compartments INTEGER NOT NULL,
    state_hash            TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE compartments (
    locker_id          TEXT    NOT NULL,
    compartment_id     TEXT    NOT NULL,
    degraded           INTEGER NOT NULL,
    active_reservation TEXT,
    PRIMARY KEY (locker_id, compartment_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE reservations (
    reservation_id TEXT NOT NULL PRIMARY KEY,
    status         TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- One row: the last record whose effect is in the tables above, and the hash of its line.
CREATE TABLE checkpoint (
    id         INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    sequence   INTEGER NOT NULL,
    chain_hash TEXT    NOT NULL
) STRICT;
