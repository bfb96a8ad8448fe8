-- The projection: what the log says, as it now is. Everything here can be made anew from the log.
-- Text compares byte by byte (the collation "C"), like the identifiers in the domain.

CREATE TABLE lockers (
    locker_id             TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    compartments          BIGINT NOT NULL,
    active_reservations   BIGINT NOT NULL,
    degraded_compartments BIGINT NOT NULL,
    state_hash            TEXT   COLLATE "C" NOT NULL
);

CREATE TABLE compartments (
    locker_id          TEXT    COLLATE "C" NOT NULL,
    compartment_id     TEXT    COLLATE "C" NOT NULL,
    degraded           BOOLEAN NOT NULL,
    active_reservation TEXT    COLLATE "C",
    PRIMARY KEY (locker_id, compartment_id)
);

CREATE TABLE reservations (
    reservation_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    status         TEXT COLLATE "C" NOT NULL
);

-- One row: the last record whose effect is in the tables above, and the hash of its line.
CREATE TABLE checkpoint (
    id         INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    sequence   BIGINT  NOT NULL,
    chain_hash TEXT    COLLATE "C" NOT NULL
);
