"""A peer: the service as a Python team would usually write it. FastAPI, one SQLite file, one
transaction for each event, synced before the answer (WAL, synchronous=FULL).

One connection behind a lock: SQLite has one writer anyway, and waiting for a lock in Python is cheaper
than waiting for SQLite's. One process for the same reason. uvloop and httptools are installed.
"""

import json
import os
import sqlite3
import threading
from datetime import datetime
from uuid import UUID

from fastapi import FastAPI, Response
from pydantic import AwareDatetime, BaseModel

SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    sequence INTEGER PRIMARY KEY, event_id TEXT NOT NULL UNIQUE, recorded_at TEXT NOT NULL,
    locker_id TEXT NOT NULL, type TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS compartments (
    locker_id TEXT NOT NULL, compartment_id TEXT NOT NULL, reservation_id TEXT,
    PRIMARY KEY (locker_id, compartment_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reservations (
    reservation_id TEXT PRIMARY KEY, locker_id TEXT NOT NULL, compartment_id TEXT NOT NULL,
    status TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS faults (
    event_id TEXT PRIMARY KEY, locker_id TEXT NOT NULL, compartment_id TEXT NOT NULL,
    severity INTEGER NOT NULL, cleared INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS open_faults ON faults (locker_id, compartment_id) WHERE cleared = 0;
"""

database = sqlite3.connect(os.environ["EVENTS_DB"], check_same_thread=False, isolation_level=None)
database.execute("PRAGMA journal_mode = WAL")
database.execute("PRAGMA synchronous = FULL")
database.executescript(SCHEMA)
lock = threading.Lock()
app = FastAPI()


class Event(BaseModel):
    event_id: UUID
    occurred_at: AwareDatetime
    locker_id: str
    type: str
    payload: dict


class Refused(Exception):
    pass


@app.get("/livez")
def livez():
    return {"status": "alive"}


@app.post("/events", status_code=202)
def post_event(event: Event, response: Response):
    event_id = str(event.event_id)
    with lock:
        database.execute("BEGIN IMMEDIATE")
        try:
            known = one("SELECT sequence FROM events WHERE event_id = ?", event_id)
            if known:
                database.execute("ROLLBACK")
                response.status_code = 200
                return {"event_id": event_id, "status": "duplicate", "sequence": known[0]}
            apply(event, event_id)
            sequence = database.execute(
                "INSERT INTO events (event_id, recorded_at, locker_id, type, body) VALUES (?, ?, ?, ?, ?)",
                (event_id, datetime.now().isoformat(), event.locker_id, event.type, json.dumps(event.payload)),
            ).lastrowid
            database.execute("COMMIT")
        except Refused as why:
            database.execute("ROLLBACK")
            response.status_code = 409
            return {"event_id": event_id, "detail": str(why)}
        except BaseException:
            database.execute("ROLLBACK")
            raise
    return {"event_id": event_id, "status": "accepted", "sequence": sequence}


@app.get("/reservations/{reservation_id}")
def get_reservation(reservation_id: str, response: Response):
    with lock:
        found = one("SELECT status FROM reservations WHERE reservation_id = ?", reservation_id)
    if not found:
        response.status_code = 404
        return {"detail": "not found"}
    return {"reservation_id": reservation_id, "status": found[0]}


def one(query, *values):
    return database.execute(query, values).fetchone()


def require(condition, why):
    if not condition:
        raise Refused(why)


def apply(event, event_id):
    """The rules, and what an accepted event changes."""
    locker, payload = event.locker_id, event.payload
    place = (locker, payload["compartment_id"])
    compartment = one("SELECT reservation_id FROM compartments WHERE locker_id = ? AND compartment_id = ?", *place)
    if event.type == "CompartmentRegistered":
        require(compartment is None, "already registered")
        database.execute("INSERT INTO compartments VALUES (?, ?, NULL)", place)
        return
    require(compartment is not None, "not registered")
    if event.type == "FaultReported":
        database.execute("INSERT INTO faults VALUES (?, ?, ?, ?, 0)", (event_id, *place, payload["severity"]))
    elif event.type == "FaultCleared":
        closed = database.execute(
            "UPDATE faults SET cleared = 1 WHERE event_id = ? AND locker_id = ? AND compartment_id = ? AND cleared = 0",
            (payload["fault_event_id"], *place),
        )
        require(closed.rowcount == 1, "no such open fault")
    elif event.type == "ReservationCreated":
        degraded = one(
            "SELECT 1 FROM faults WHERE locker_id = ? AND compartment_id = ? AND cleared = 0 AND severity >= 3", *place
        )
        require(not degraded, "degraded")
        require(compartment[0] is None, "occupied")
        reservation = payload["reservation_id"]
        require(not one("SELECT 1 FROM reservations WHERE reservation_id = ?", reservation), "already exists")
        database.execute("INSERT INTO reservations VALUES (?, ?, ?, 'CREATED')", (reservation, *place))
        occupy(place, reservation)
    else:
        move(event.type, payload["reservation_id"], place)


def move(kind, reservation, place):
    found = one("SELECT locker_id, compartment_id, status FROM reservations WHERE reservation_id = ?", reservation)
    require(found is not None, "reservation not found")
    require(found[:2] == place, "reservation elsewhere")
    allowed, status = {
        "ParcelDeposited": (("CREATED",), "DEPOSITED"),
        "ParcelPickedUp": (("DEPOSITED",), "PICKED_UP"),
        "ReservationExpired": (("CREATED", "DEPOSITED"), "EXPIRED"),
    }[kind]
    require(found[2] in allowed, f"the reservation is {found[2]}")
    database.execute("UPDATE reservations SET status = ? WHERE reservation_id = ?", (status, reservation))
    if status != "DEPOSITED":
        occupy(place, None)


def occupy(place, reservation):
    database.execute(
        "UPDATE compartments SET reservation_id = ? WHERE locker_id = ? AND compartment_id = ?", (reservation, *place)
    )
