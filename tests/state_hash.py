#!/usr/bin/env python3
"""Recomputes the state hash of every locker from a log alone.

An independent second implementation of docs/state-hash.md, with nothing but Python's standard
library. It trusts the log: the rules and the chain of hashes are not checked here (`lockstream
verify` does that).

    python3 tests/state_hash.py data/log            {"locker": "hash", ...}, sorted by locker
    python3 tests/state_hash.py --each data/log     after each record: sequence, hash, locker

A path is a folder of segments or one segment.
"""

import hashlib
import json
import pathlib
import sys
import uuid

CODES = {"CREATED": 1, "DEPOSITED": 2, "PICKED_UP": 3, "EXPIRED": 4}
STEPS = {"ParcelDeposited": "DEPOSITED", "ParcelPickedUp": "PICKED_UP", "ReservationExpired": "EXPIRED"}


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def u32(number):
    return number.to_bytes(4, "big")


def u64(number):
    return number.to_bytes(8, "big")


def i64(number):
    return number.to_bytes(8, "big", signed=True)


def text(string):
    utf8 = string.encode()
    return u32(len(utf8)) + utf8


class Compartment:
    def __init__(self):
        self.active = None  # the id and state of the reservation that holds it
        self.faults = {}  # the open ones: severity by the 16 bytes of the id

    def degraded(self):
        return any(severity >= 3 for severity in self.faults.values())

    def leaf(self, compartment_id):
        reservation = b"\0" if self.active is None else bytes([CODES[self.active[1]]]) + text(self.active[0])
        faults = [fault + i64(severity) for fault, severity in sorted(self.faults.items())]
        return sha256(b"\0", text(compartment_id), bytes([self.degraded()]), reservation, u32(len(faults)), *faults)


class Locker:
    def __init__(self):
        self.compartments = {}
        self.closed = bytes(32)

    def close(self, kind, compartment_id, *entry):
        self.closed = sha256(b"\1", self.closed, bytes([kind]), text(compartment_id), *entry)

    def state_hash(self, locker_id):
        doors = self.compartments.values()
        counts = [len(doors), sum(door.active is not None for door in doors), sum(door.degraded() for door in doors)]
        in_order = sorted(self.compartments.items(), key=lambda item: item[0].encode())
        leaves = [door.leaf(compartment_id) for compartment_id, door in in_order]
        return sha256(b"\2", text(locker_id), *map(u64, counts), self.closed, *leaves).hex()


class World:
    def __init__(self):
        self.lockers = {}
        self.place = {}  # the compartment of each reservation

    def take(self, event):
        kind, payload = event["type"], event["payload"]
        locker = self.lockers.setdefault(event["locker_id"], Locker())
        if kind == "CompartmentRegistered":
            locker.compartments[payload["compartment_id"]] = Compartment()
        elif kind == "ReservationCreated":
            self.place[payload["reservation_id"]] = payload["compartment_id"]
            locker.compartments[payload["compartment_id"]].active = (payload["reservation_id"], "CREATED")
        elif kind in STEPS:
            # The payload may leave its compartment out; the reservation knows it.
            reservation_id, state = payload["reservation_id"], STEPS[kind]
            compartment_id = self.place[reservation_id]
            door = locker.compartments[compartment_id]
            if state == "DEPOSITED":
                door.active = (reservation_id, state)
            else:
                door.active = None
                locker.close(1, compartment_id, text(reservation_id), bytes([CODES[state]]))
        elif kind == "FaultReported":
            fault = uuid.UUID(event["event_id"]).bytes
            locker.compartments[payload["compartment_id"]].faults[fault] = payload["severity"]
        elif kind == "FaultCleared":
            fault = uuid.UUID(payload["fault_event_id"]).bytes
            severity = locker.compartments[payload["compartment_id"]].faults.pop(fault)
            locker.close(2, payload["compartment_id"], fault, i64(severity))
        else:
            sys.exit(f"unknown event type {kind!r}")


def records(path):
    segments = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    for segment in segments:
        # Split at line feeds alone: an event may hold other characters that Python takes for ends.
        for line in segment.read_bytes().split(b"\n")[:-1]:
            yield json.loads(line)


def main(arguments):
    each = "--each" in arguments
    paths = [argument for argument in arguments if argument != "--each"]
    if len(paths) != 1:
        sys.exit(__doc__)
    world = World()
    for record in records(pathlib.Path(paths[0])):
        world.take(record["event"])
        if each:
            locker_id = record["event"]["locker_id"]
            print(record["seq"], world.lockers[locker_id].state_hash(locker_id), locker_id)
    if not each:
        hashes = {locker_id: locker.state_hash(locker_id) for locker_id, locker in sorted(world.lockers.items())}
        print(json.dumps(hashes, ensure_ascii=False, indent=2))


main(sys.argv[1:])
