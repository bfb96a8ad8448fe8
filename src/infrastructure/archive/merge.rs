//! Merging: several runs become one, so that there are few to ask.
//!
//! Four neighbours of one level make one of the next. So there are at most three of each level, and
//! an entry is written again once for every four-fold of history.

use std::io;
use std::iter::Peekable;
use std::ops::Range;
use std::path::Path;

use super::entry::Entry;
use super::file::ContentHash;
use super::run::writer::RunWriter;
use super::run::{Entries, Run, Stamp};

/// How many runs of a level become one of the next.
const FAN_IN: usize = 4;
/// After how many entries a writer looks whether to stop.
pub const LOOK_ENTRIES: usize = 1 << 9;

/// Which runs are to be merged, of levels in the order of history: the newest that are due. A merge that
/// was given up may have left some behind newer ones.
#[must_use]
pub fn due(levels: &[u32]) -> Option<Range<usize>> {
    let mut end = levels.len();
    levels.chunk_by(PartialEq::eq).rev().find_map(|same| {
        let range = end - same.len()..end;
        end = range.start;
        (same.len() >= FAN_IN).then_some(range)
    })
}

/// Writes the entries of neighbouring runs into one. Ends with `None` as soon as `stop` says so.
pub fn merge(runs: &[&Run], path: &Path, stop: &dyn Fn() -> bool) -> io::Result<Option<(Run, ContentHash)>> {
    let (first, last) = (runs.first().expect("something to merge"), runs.last().expect("something to merge"));
    let stamp = Stamp { from: first.stamp().from, ..last.stamp() };
    let total = runs.iter().map(|run| run.entries()).sum::<u64>();
    let mut writer = RunWriter::create(path, stamp, usize::try_from(total).unwrap_or(usize::MAX))?;
    let mut sources: Vec<_> = runs.iter().map(|run| run.iter().peekable()).collect();
    for written in 0_usize.. {
        let Some(entry) = least(&mut sources)? else { break };
        writer.push(entry)?;
        if written.is_multiple_of(LOOK_ENTRIES) && stop() {
            return Ok(None);
        }
    }
    writer.finish(stop)
}

/// Takes the least entry of all.
fn least(sources: &mut [Peekable<Entries<'_>>]) -> io::Result<Option<Entry>> {
    let mut least: Option<(Entry, usize)> = None;
    for (at, source) in sources.iter_mut().enumerate() {
        match source.peek() {
            Some(Ok(entry)) if least.is_none_or(|(known, _)| *entry < known) => least = Some((*entry, at)),
            Some(Err(_)) => return source.next().transpose(),
            _ => {}
        }
    }
    least.map_or(Ok(None), |(_, at)| sources[at].next().transpose())
}

#[cfg(test)]
mod tests {
    use super::super::entry::Kind;
    use super::*;

    #[test]
    fn four_of_a_level_are_merged_and_fewer_are_not() {
        assert_eq!(due(&[]), None);
        assert_eq!(due(&[1, 1, 0, 0, 0]), None);
        assert_eq!(due(&[1, 0, 0, 0, 0]), Some(1..5));
        assert_eq!(due(&[2, 1, 1, 1, 1]), Some(1..5));
    }

    #[test]
    fn a_merge_that_was_given_up_is_still_due_behind_newer_runs() {
        assert_eq!(due(&[2, 2, 2, 2, 1, 0]), Some(0..4));
        assert_eq!(due(&[3, 2, 2, 2, 2, 1, 1, 1, 1, 0]), Some(5..9));
        assert_eq!(due(&[1, 1, 1, 1, 1]), Some(0..5));
    }

    #[test]
    fn a_merged_run_has_the_entries_of_all_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let entry = |number: u64| {
            let key = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
            Entry { key: [key, key].concat().try_into().unwrap(), kind: Kind::Original, first: number, second: 0 }
        };
        let runs: Vec<_> = (0..4_u64)
            .map(|part| {
                let mut entries: Vec<_> = (part * 500..(part + 1) * 500).map(entry).collect();
                entries.sort_unstable();
                let stamp = Stamp { from: part * 500, to: part * 500 + 499, seed: part };
                let path = folder.path().join(format!("{part}.run"));
                let mut writer = RunWriter::create(&path, stamp, 500).unwrap();
                entries.into_iter().try_for_each(|entry| writer.push(entry)).unwrap();
                writer.finish(&|| false).unwrap().unwrap().0
            })
            .collect();
        let runs: Vec<_> = runs.iter().collect();
        let path = folder.path().join("all.run");
        let (_, hash) = merge(&runs, &path, &|| false).unwrap().expect("nobody stopped it");
        let all = Run::open(&path, 2_000, hash).unwrap();
        assert_eq!(all.stamp(), Stamp { from: 0, to: 1_999, seed: 3 });
        let mut due: Vec<_> = (0..2_000).map(entry).collect();
        due.sort_unstable();
        assert_eq!(all.iter().collect::<io::Result<Vec<_>>>().unwrap(), due);
        assert!(merge(&runs, &folder.path().join("none.run"), &|| true).unwrap().is_none());
    }
}
