//! Paths and queries of requests: whatever they are, an answer that is no 5xx, and nothing is found
//! under a name that it does not have.

use crate::fuzz::mutator::Mutator;
use crate::fuzz::{numbers, seed};
use crate::support::Folder;
use crate::support::events::{registered, reserved};
use crate::support::server::Server;
use crate::support::wire::Wire;

const IDS: [&str; 7] = ["L", "a/b", "ü", "100%", "a b", "a+b", ".."];

/// The path without its query, cut at its slashes and decoded; none where that is no text.
fn decoded(path: &str) -> Option<Vec<String>> {
    let path = path.split('?').next()?.strip_prefix('/')?;
    path.split('/').map(segment).collect()
}

/// A `%` that begins no encoding stands for itself.
fn segment(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, others)) = rest.split_first() {
        let encoded = others.get(..2).filter(|digits| *first == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        let byte = encoded.map(|digits| u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &others[2..] } else { others };
    }
    String::from_utf8(bytes).ok()
}

/// Whether something is there, by the few ids that there are.
fn is_found(path: &str) -> bool {
    let is_known = |id: &String| IDS.contains(&id.as_str());
    match decoded(path).as_deref() {
        Some([kind, locker]) if kind == "lockers" => is_known(locker),
        Some([kind, reservation]) if kind == "reservations" => is_known(reservation),
        Some([kind, locker, inside, compartment]) if kind == "lockers" && inside == "compartments" => {
            is_known(locker) && locker == compartment
        }
        _ => false,
    }
}

#[tokio::test]
async fn paths_find_what_they_name_and_nothing_else() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    for id in IDS {
        server.accept(&[registered(id, id), reserved(id, id, id)]).await;
    }
    let seeds = crate::fuzz::corpus("path");
    let mutator = Mutator::new(&seeds, seed());
    let mut found = 0;
    for number in numbers(10) {
        let input = mutator.input(number);
        // What is none of a URL's characters (RFC 3986) is the business of HTTP.
        let is_of_a_url = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(byte);
        let path: String = input.into_iter().filter(is_of_a_url).map(char::from).collect();
        let path = format!("/{}", path.trim_start_matches('/'));
        let mut wire = Wire::connect(&server).await;
        let reply = wire.get(&path).await;
        let again = format!("LOCKSTREAM_FUZZ_SEED={} LOCKSTREAM_FUZZ_INPUT={number}", seed());
        assert!(reply.status < 500, "{again}: {path}: {reply:?}");
        let is_of_the_api = ["/lockers/", "/reservations/"].iter().any(|start| path.starts_with(start));
        if is_of_the_api {
            assert_eq!(reply.status == 200, is_found(&path), "{again}: {path}: {reply:?}");
            found += usize::from(reply.status == 200);
        }
    }
    assert!(found > 0 || numbers(10).end - numbers(10).start == 1, "some paths find something");
}
