//! Every row of the rule table, over HTTP: what is accepted, what is refused and why, and that a
//! refusal leaves no trace and the id free.

use serde_json::Value;

use crate::support::Folder;
use crate::support::events::{registered, reserved};
use crate::support::server::Server;

/// Posts an event that has to be refused with `code`; checks that it left no trace, then makes it
/// possible with `remedy` and sends the very same event again.
async fn refused(server: &Server, folder: &Folder, event: &Value, code: &str, remedy: &[Value]) {
    let log_before = folder.log_bytes();
    let answer = server.post(event).await;
    assert_eq!((answer.status, answer.code().as_str()), (409, code), "{event}: {answer:?}");
    assert_eq!(folder.log_bytes(), log_before, "a refusal leaves the log as it was");
    server.accept(remedy).await;
    let retried = server.post(event).await;
    assert_eq!(retried.status, 202, "the id stayed free: {retried:?}");
}

#[tokio::test]
async fn a_reservation_needs_a_registered_compartment() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let event = reserved("L", "A1", "R1");
    refused(&server, &folder, &event, "compartment-not-registered", &[registered("L", "A1")]).await;
}
