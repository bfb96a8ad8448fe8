//! The manifest of a backup, which decides what is restored, and is a file like any other.

use std::fs;
use std::path::{Component, Path};

use lockstream::domain::record::Head;
use lockstream::infrastructure::backup::manifest::Manifest;
use lockstream::infrastructure::backup::{BackupError, restore};
use lockstream::infrastructure::event_log::{line, segments};

use super::good;

/// Any content of `manifest.json`, beside the copy of a good log.
pub fn manifest(content: &[u8]) {
    let backup = super::folder();
    let (log, good) = (backup.path().join("log"), good::log());
    fs::create_dir(&log).expect("there is room");
    fs::write(segments::path(&log, Head::default().sequence.next()), &good.bytes).expect("there is room");
    fs::write(backup.path().join("manifest.json"), content).expect("there is room");
    let manifest = match Manifest::read(backup.path()) {
        Ok(manifest) => manifest.expect("a manifest that is there is never overlooked"),
        Err(error) => {
            assert!(matches!(error, BackupError::BadManifest { .. }), "{error}");
            assert!(error.to_string().contains("manifest.json"), "{error}");
            return;
        }
    };
    for entry in &manifest.segments {
        let inside: Vec<_> = Path::new(&entry.name).components().collect();
        assert!(matches!(inside.as_slice(), [Component::Normal(_)]), "{:?} leads out of the backup", entry.name);
    }
    let is_so = match manifest.segments.as_slice() {
        [] => true,
        [one] => ends(&good.bytes).contains(&(one.end(), one.bytes)),
        _ => false,
    };
    let checked = restore::check(backup.path(), &manifest, |_| {});
    assert_eq!(checked.is_ok(), is_so, "{checked:?}: {manifest:?}");
}

/// Where a segment may end: the head there, and how many bytes are before it.
fn ends(segment: &[u8]) -> Vec<(Head, u64)> {
    let (mut head, mut bytes) = (Head::default(), 0);
    let lines = segment.split_inclusive(|byte| *byte == b'\n');
    lines
        .map(|text| {
            head = line::decode(&text[..text.len() - 1], head).expect("it is good").1;
            bytes += text.len() as u64;
            (head, bytes)
        })
        .collect()
}
