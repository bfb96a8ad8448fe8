//! Golden logs: what earlier versions wrote, today's code reads, to the same state and hashes.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::server::{Server, lockstream, run};
use crate::support::{Folder, logs};

/// Every log under `tests/golden`: a folder `log` and what it means, `expected.json`.
fn golden() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let entries = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    found.sort();
    found
}

#[tokio::test]
async fn every_golden_log_gives_the_state_it_always_gave() {
    let all = golden();
    assert!(all.iter().any(|path| path.ends_with("log-v1")), "{all:?}");
    for golden in all {
        let folder = Folder::new();
        fs::create_dir(folder.log()).unwrap();
        for (path, bytes) in logs::files(&golden.join("log")) {
            fs::write(folder.log().join(path.file_name().unwrap()), bytes).unwrap();
        }
        let before = logs::files(&folder.log());
        let expected: Value = serde_json::from_slice(&fs::read(golden.join("expected.json")).unwrap()).unwrap();

        let mut verify = lockstream(&folder);
        verify.args(["verify", "--json"]);
        let ended = run(verify);
        assert_eq!(ended.code, Some(0), "{}: {ended:?}", golden.display());
        let report: Value = serde_json::from_str(&ended.stdout).unwrap();
        for (name, value) in expected["verify"].as_object().unwrap() {
            assert_eq!(report[name], *value, "{}: {name}", golden.display());
        }

        let server = Server::start(&folder).await;
        for (path, answer) in expected["answers"].as_object().unwrap() {
            assert_eq!(server.get(path).await.json(), *answer, "{}: {path}", golden.display());
        }
        let first = &folder.records()[0];
        let again = server.post(&first["event"]).await;
        assert_eq!((again.status, again.sequence()), (200, 1), "{}: known ids stay known", golden.display());
        assert!(server.stop().success());
        assert_eq!(logs::files(&folder.log()), before, "{}: opening a log changes nothing", golden.display());
    }
}

#[test]
fn the_first_golden_log_shows_all_that_format_1_can() {
    let golden = golden().into_iter().find(|path| path.ends_with("log-v1")).unwrap();
    let segments = logs::files(&golden.join("log"));
    assert_eq!(segments.len(), 2, "two segments");
    let text: String = segments.into_values().map(|bytes| String::from_utf8(bytes).unwrap()).collect();
    for event_type in lockstream::domain::event::EventType::ALL {
        assert!(text.contains(&format!("\"type\":\"{}\"", event_type.as_str())), "{event_type:?}");
    }
    let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let batches: std::collections::BTreeSet<_> = records.iter().map(|record| record["batch"].as_u64()).collect();
    assert!(batches.len() > 3 && batches.len() < records.len(), "batches of one and of several");
    assert!(!text.is_ascii() && text.contains("\\u") && text.contains("1.50e+2"), "spellings as they were sent");
}
