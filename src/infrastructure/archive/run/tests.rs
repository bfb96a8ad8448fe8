//! Runs written and read back, and damaged in every way.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;

use super::super::entry::Kind;
use super::writer::RunWriter;
use super::*;

const STAMP: Stamp = Stamp { from: 1, to: 900, seed: 42 };

/// Entries with keys that are far apart, and one key many times over.
fn entries(count: u64) -> Vec<Entry> {
    let key = |number: u64| (u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_9e37_79b9_7f4a_7c15)).to_be_bytes();
    let mut entries: Vec<_> = (0..count)
        .map(|number| {
            let key = if number % 3 == 0 { [200; KEY_BYTES] } else { key(number) };
            Entry { key, kind: Kind::Original, first: number, second: number * 300 }
        })
        .collect();
    entries.sort_unstable();
    entries
}

fn write(path: &Path, entries: &[Entry]) -> (Run, ContentHash) {
    let mut writer = RunWriter::create(path, STAMP, entries.len()).unwrap();
    entries.iter().try_for_each(|entry| writer.push(*entry)).unwrap();
    writer.finish(&|| false).unwrap().expect("nobody stopped it")
}

fn find(run: &Run, key: &Key) -> Vec<Entry> {
    let mut found = Vec::new();
    if run.may_hold(&Probe::new(key, STAMP.seed)) {
        run.find(key, &mut found).unwrap();
    }
    found
}

#[test]
fn every_entry_of_a_key_is_found_and_of_no_other() {
    let folder = tempfile::tempdir().unwrap();
    for count in [0, 1, 2, 126, 127, 128, 254, 1_000] {
        let (path, entries) = (folder.path().join(format!("{count}.run")), entries(count));
        let (_, hash) = write(&path, &entries);
        let run = Run::open(&path, count, hash).unwrap();
        assert_eq!(run.stamp(), STAMP);
        assert_eq!(run.iter().collect::<io::Result<Vec<_>>>().unwrap(), entries);
        for key in entries.iter().map(|entry| entry.key).collect::<BTreeSet<_>>() {
            let due: Vec<_> = entries.iter().copied().filter(|entry| entry.key == key).collect();
            assert_eq!(find(&run, &key), due);
        }
        for stranger in 0..=255 {
            assert_eq!(
                find(&run, &[stranger; KEY_BYTES]).len(),
                if stranger == 200 { usize::try_from(count.div_ceil(3)).unwrap() } else { 0 }
            );
        }
    }
}

#[test]
fn it_takes_no_more_of_the_disk_than_was_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    for count in [0, 1, 127, 128, 1_000, 30_000] {
        let path = folder.path().join(format!("{count}.run"));
        write(&path, &entries(count));
        let (bytes, looked_for) =
            (fs::metadata(path).unwrap().len(), max_bytes(usize::try_from(count).unwrap()) as u64);
        assert_eq!(bytes, looked_for, "{count} entries");
    }
}

#[test]
fn whoever_writes_its_table_looks_whether_to_stop() {
    let folder = tempfile::tempdir().unwrap();
    let entries = entries(60_000);
    let looks = |stop_at: usize| {
        let mut writer = RunWriter::create(&folder.path().join("a.run"), STAMP, entries.len()).unwrap();
        entries.iter().try_for_each(|entry| writer.push(*entry)).unwrap();
        let looked = Cell::new(0);
        let finished = writer.finish(&|| {
            looked.set(looked.get() + 1);
            looked.get() == stop_at
        });
        (finished.unwrap().is_some(), looked.get())
    };
    // 473 first keys of 16 bytes, then 240,000 bytes of filter in steps of 64 KiB.
    assert_eq!(looks(usize::MAX), (true, 1 + 3));
    for stop_at in 1..=4 {
        assert_eq!(looks(stop_at), (false, stop_at));
    }
}

#[test]
fn a_flipped_bit_anywhere_is_found_and_never_believed() {
    let folder = tempfile::tempdir().unwrap();
    let (path, entries) = (folder.path().join("a.run"), entries(300));
    let (_, hash) = write(&path, &entries);
    let whole = fs::read(&path).unwrap();
    for at in (0..whole.len()).step_by(13).chain(whole.len() - 40..whole.len()) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&path, &bytes).unwrap();
        let read = Run::open(&path, 300, hash).and_then(|run| run.iter().collect::<io::Result<Vec<_>>>());
        assert!(read.is_err(), "byte {at}");
    }
    for bytes in [0, 1, 4096, 3 * 4096, whole.len() - 1] {
        fs::write(&path, &whole[..bytes]).unwrap();
        assert!(Run::open(&path, 300, hash).is_err(), "cut to {bytes} bytes");
    }
}

#[test]
fn a_block_in_the_place_of_another_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let (path, entries) = (folder.path().join("a.run"), entries(300));
    let (_, hash) = write(&path, &entries);
    let mut bytes = fs::read(&path).unwrap();
    bytes.copy_within(0..BLOCK_BYTES, BLOCK_BYTES);
    fs::write(&path, &bytes).unwrap();
    let run = Run::open(&path, 300, hash).unwrap();
    let error = run.iter().find_map(Result::err).expect("it is no block of this place");
    assert!(error.to_string().contains("block 1"), "{error}");
}
