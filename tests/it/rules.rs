//! Every row of the rule table, over HTTP: what is accepted and what it changes, what is refused
//! and why, and that a refusal leaves no trace and the id free.

mod deliveries;
mod faults;
mod precedence;
mod registration;
mod reservations;

use serde_json::{Value, json};

use crate::support::Folder;
use crate::support::events::registered;
use crate::support::server::Server;
use crate::support::views::{compartment_path, locker_path, reservation_path, views};

/// A server with a history.
struct Bench {
    folder: Folder,
    server: Server,
}

impl Bench {
    /// Starts with these events accepted; the first has sequence 1.
    async fn with<'e>(history: impl IntoIterator<Item = &'e Value>) -> Self {
        let folder = Folder::new();
        let server = Server::start(&folder).await;
        server.accept(history).await;
        Self { folder, server }
    }

    async fn accept<'e>(&self, events: impl IntoIterator<Item = &'e Value>) {
        self.server.accept(events).await;
    }

    /// Posts an event that has to be refused with `code` about exactly the ids and sequence of
    /// `about`, and leave no trace.
    async fn refused(&self, event: &Value, code: &str, about: &Value) {
        let log_before = self.folder.log_bytes();
        let views_before = views(&self.server, &self.folder, event).await;

        let answer = self.server.post(event).await;

        assert_eq!((answer.status, answer.code().as_str()), (409, code), "{event}: {answer:?}");
        let mut members = answer.json();
        let members = members.as_object_mut().unwrap();
        for general in ["type", "title", "status", "detail", "code"] {
            assert!(members.remove(general).is_some(), "{general} is missing: {answer:?}");
        }
        assert_eq!(&json!(members), about, "the ids and the sequence: {answer:?}");
        assert_eq!(self.folder.log_bytes(), log_before, "a refusal leaves the log as it was");
        assert_eq!(views(&self.server, &self.folder, event).await, views_before, "and all that the API says");
    }

    /// The same; then `remedy` makes the very same event possible.
    async fn refused_until(&self, event: &Value, code: &str, about: &Value, remedy: &[Value]) {
        self.refused(event, code, about).await;
        self.accept(remedy).await;
        let retried = self.server.post(event).await;
        assert_eq!(retried.status, 202, "the id stayed free: {retried:?}");
    }

    /// The same where no remedy exists: its id can still name another fact.
    async fn refused_for_good(&self, event: &Value, code: &str, about: &Value) {
        self.refused(event, code, about).await;
        let id = event["event_id"].as_str().unwrap();
        let mut other = registered("elsewhere", id);
        other["event_id"] = event["event_id"].clone();
        let answer = self.server.post(&other).await;
        assert_eq!(answer.status, 202, "the id stayed free: {answer:?}");
        assert_eq!(self.folder.event_ids().last().map(String::as_str), Some(id));
    }

    /// Compartments, active reservations and degraded compartments of a locker.
    async fn counts(&self, locker: &str) -> (u64, u64, u64) {
        let summary = self.found(&locker_path(locker)).await;
        let count = |name: &str| summary[name].as_u64().unwrap();
        (count("compartments"), count("active_reservations"), count("degraded_compartments"))
    }

    async fn is_degraded(&self, locker: &str, compartment: &str) -> bool {
        self.found(&compartment_path(locker, compartment)).await["degraded"].as_bool().unwrap()
    }

    /// The reservation that holds a compartment, or null.
    async fn holder(&self, locker: &str, compartment: &str) -> Value {
        self.found(&compartment_path(locker, compartment)).await["active_reservation"].clone()
    }

    async fn status(&self, reservation: &str) -> String {
        self.found(&reservation_path(reservation)).await["status"].as_str().unwrap().to_owned()
    }

    async fn found(&self, path: &str) -> Value {
        let answer = self.server.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    }
}
