//! Everything that the API says: the answer of each GET that some event has to do with.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use serde_json::Value;

use crate::support::server::Server;
use crate::support::{Folder, PATIENCE};

/// Status and body by path.
pub type Views = BTreeMap<String, (u16, String)>;

/// The path of a locker, its id percent-encoded.
pub fn locker_path(locker: &str) -> String {
    format!("/lockers/{}", encoded(locker))
}

pub fn compartment_path(locker: &str, compartment: &str) -> String {
    format!("/lockers/{}/compartments/{}", encoded(locker), encoded(compartment))
}

pub fn reservation_path(reservation: &str) -> String {
    format!("/reservations/{}", encoded(reservation))
}

/// Every byte of an id that is not plain is written as `%XX`; so no id can be mistaken for a path.
pub fn encoded(id: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let spell = |byte: u8| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    id.bytes().map(spell).collect()
}

/// What the API says of every locker, compartment and reservation that the log or `also` names. A
/// server with little patience for its database may have to be asked again.
pub async fn views(server: &Server, folder: &Folder, also: &Value) -> Views {
    let records = folder.records();
    let mut views = Views::new();
    let events = records.iter().map(|record| &record["event"]).chain([also]);
    let paths: BTreeSet<String> = events.flat_map(paths).collect();
    for path in paths {
        let begin = Instant::now();
        let mut answer = server.get(&path).await;
        while answer.status == 503 && begin.elapsed() < PATIENCE {
            answer = server.get(&path).await;
        }
        views.insert(path, (answer.status, answer.body));
    }
    views
}

fn paths(event: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let payload = &event["payload"];
    let (locker, compartment) = (text(&event["locker_id"]), text(&payload["compartment_id"]));
    let mut paths = Vec::new();
    if let (Some(locker), Some(compartment)) = (&locker, compartment) {
        paths.push(compartment_path(locker, &compartment));
    }
    paths.extend(locker.map(|locker| locker_path(&locker)));
    paths.extend(text(&payload["reservation_id"]).map(|reservation| reservation_path(&reservation)));
    paths
}
