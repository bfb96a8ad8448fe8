//! Valid events, damaged at random: always an answer with a reason, never a 5xx.

use crate::support::Folder;
use crate::support::events::{cleared, deposited, fault, registered, reserved};
use crate::support::server::Server;

/// Numbers that look random and are the same in every run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

/// Pieces that mean something to a parser.
const PIECES: [&str; 24] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\",
    ",",
    ":",
    "null",
    "true",
    "-",
    "1e999",
    "99999999999999999999",
    "\\ud800",
    "\\u0000",
    "\0",
    "\n",
    "\u{feff}",
    "🦀",
    "[[[[[[[[",
    "{\"a\":1,\"a\":2}",
    "\"payload\":{}",
    "\"\":",
    "\"event_id\":0,",
];

fn damaged(event: &str, numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = event.as_bytes().to_vec();
    for _ in 0..=numbers.below(3) {
        let at = numbers.below(bytes.len());
        let end = at + numbers.below(bytes.len() - at);
        match numbers.below(12) {
            0 => bytes[at] = u8::try_from(numbers.below(256)).unwrap(),
            1 => bytes[at] ^= 1 << numbers.below(8),
            2 => drop(bytes.drain(at..end)),
            3 => bytes.truncate(at.max(1)),
            4 => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            5 => bytes[at..end].reverse(),
            6 => {
                let piece = PIECES[numbers.below(PIECES.len())].bytes();
                bytes.splice(at..at, piece);
            }
            // Where it hits text it is harmless.
            _ => bytes[at] = b'a' + u8::try_from(numbers.below(26)).unwrap(),
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

#[tokio::test]
async fn no_damaged_event_gives_a_5xx() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let (known, fault) = (registered("L", "A1"), fault("L", "A1", 2));
    server.accept([&known, &fault]).await;
    let mut numbers = Numbers(0x5EED);
    let mut count_by_status = std::collections::BTreeMap::<u16, usize>::new();
    for round in 0..800 {
        let event = match round % 5 {
            0 => registered("L", &format!("B{round}")),
            1 => known.clone(),
            2 => reserved("L", "A1", &format!("R{round}")),
            3 => deposited("L", "R2"),
            _ => cleared("L", "A1", &fault),
        };
        let body = damaged(&event.to_string(), &mut numbers);
        let shown = String::from_utf8_lossy(&body).into_owned();
        let log_before = folder.log_bytes();
        let answer = server.post_raw("application/json", body).await;
        *count_by_status.entry(answer.status).or_default() += 1;
        assert!(matches!(answer.status, 200 | 202 | 409 | 422), "{shown}: {answer:?}");
        if answer.status == 422 {
            let problems = answer.json()["errors"].as_array().unwrap().len();
            assert!((1..=100).contains(&problems), "{shown}: {answer:?}");
        }
        assert_eq!(folder.log_bytes() != log_before, answer.status == 202, "{shown}: {answer:?}");
    }
    assert!(count_by_status[&422] > 400, "most damage is seen: {count_by_status:?}");
    assert_eq!(count_by_status.len(), 4, "and some is harmless: {count_by_status:?}");

    // Whatever was accepted among them is history that the next start takes in.
    assert_eq!(server.get("/readyz").await.status, 200);
    server.kill();
    let server = Server::start(&folder).await;
    assert_eq!(server.get("/readyz").await.status, 200);
}
