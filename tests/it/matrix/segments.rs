//! Segments that are missing, exchanged, there twice, under another name, joined, of another log, or
//! no files at all: each segment in turn, the first and the last included. The ordinary run does it
//! to a log of 200 records, the entire one to that of a thousand.

mod case;

use std::fs;
use std::os::unix::fs::symlink;

use crate::matrix::each;
use crate::matrix::layout::{Layout, Scratch};
use crate::matrix::outcome::{Outcome, Proof, start};
use crate::matrix::segments::case::{Case, log, starts, unless_last, with_each_segment};

#[test]
fn a_segment_that_is_missing_or_empty_is_found_unless_it_was_the_last() {
    with_each_segment("a segment is missing", |case| {
        case.remove(case.segment);
        if case.is_last() { starts(case.first(case.segment) - 1) } else { case.lost_from(case.segment) }
    });
    with_each_segment("a segment is empty", |case| {
        case.write(case.segment, b"");
        if case.is_last() { starts(case.first(case.segment) - 1) } else { case.lost_from(case.segment) }
    });
}

#[test]
fn segments_whose_names_vanished_from_the_end_need_a_proof_to_be_missed() {
    let layout = log();
    let left: Vec<_> = (0..layout.segments.len()).collect();
    each("the names of the last segments are lost", layout, &left, |scratch, left| {
        let end = layout.sequences(*left).start() - 1;
        for proof in [
            Proof::Mark(layout.lines.len()),
            Proof::Checkpoint(layout.lines.len() / 2),
            Proof::Checkpoint(end),
            Proof::Nothing,
        ] {
            scratch.lay(layout, *left);
            let outcome = start(&scratch.log(), &proof.of(layout));
            let proven = proof.sequence();
            let shortened = Outcome::Shortened { end, proven };
            let expected = if proven > end { shortened } else { Outcome::Starts { kept: end, torn: None } };
            assert_eq!(outcome, expected, "{left} segments are left, {proof:?}");
            // In the one that starts, an event was appended.
            scratch.clear();
        }
    });
}

#[test]
fn a_segment_in_the_place_of_another_is_found() {
    with_each_segment("two segments are exchanged", |case| {
        let other = (case.segment + 1) % case.layout.segments.len();
        case.write(case.segment, case.bytes(other));
        case.write(other, case.bytes(case.segment));
        case.lost_from(case.segment.min(other))
    });
    with_each_segment("a segment is there under the name of the next, too", |case| {
        if case.is_last() {
            return starts(case.layout.lines.len());
        }
        let next = case.segment + 1;
        case.write(next, case.bytes(case.segment));
        if next + 1 == case.layout.segments.len() {
            // Older batches prove nothing about later ones; the mark or the checkpoint would.
            return Case { segment: next, ..*case }.torn(0, case.bytes(case.segment).len(), case.first(next) - 1);
        }
        case.lost_from(next)
    });
}

#[test]
fn a_segment_of_another_log_of_the_same_lengths_is_found() {
    let layout = log();
    let other = Layout::write(layout.lines.len());
    let lengths = |layout: &Layout| layout.segments.iter().map(|(_, bytes)| bytes.len()).collect::<Vec<_>>();
    assert_eq!(lengths(layout), lengths(&other));
    with_each_segment("a segment is of another log", |case| {
        case.write(case.segment, &other.segments[case.segment].1);
        if case.is_last() {
            return unless_last(case, 0, case.bytes(case.segment).len());
        }
        // The beginning of another log is sound in itself, up to where this one goes on.
        case.lost_from(case.segment.max(1))
    });
    let scratch = Scratch::new();
    scratch.lay(&other, other.segments.len());
    for proof in [Proof::Mark(layout.lines.len()), Proof::Checkpoint(layout.lines.len() / 2)] {
        let outcome = start(&scratch.log(), &proof.of(layout));
        assert_eq!(outcome, Outcome::OtherHistory { sequence: proof.sequence() }, "all segments, {proof:?}");
    }
    assert_eq!(
        start(&scratch.log(), &[]),
        Outcome::Starts { kept: layout.lines.len(), torn: None },
        "all segments, no proof"
    );
}

#[test]
fn joined_segments_are_one_longer_segment_and_a_copy_left_behind_is_named() {
    with_each_segment("a segment is joined to the one before, which is gone", |case| {
        if case.segment > 0 {
            let joined = [case.bytes(case.segment - 1), case.bytes(case.segment)].concat();
            case.write(case.segment - 1, &joined);
            case.remove(case.segment);
        }
        starts(case.layout.lines.len())
    });
    with_each_segment("a segment is joined to the one before, and is there still", |case| {
        if case.segment == 0 {
            return starts(case.layout.lines.len());
        }
        let joined = [case.bytes(case.segment - 1), case.bytes(case.segment)].concat();
        case.write(case.segment - 1, &joined);
        case.superfluous(case.first(case.segment), *case.layout.sequences(case.segment).end())
    });
}

#[test]
fn a_segment_under_another_name_is_found() {
    with_each_segment("a segment is renamed to a later one", |case| {
        fs::rename(case.log.join(case.name(case.segment)), case.log.join(Layout::name(9999))).unwrap();
        case.lost_from(case.segment)
    });
    with_each_segment("a copy claims to be the end", |case| {
        fs::write(case.log.join(Layout::name(9999)), case.bytes(case.segment)).unwrap();
        let end = case.layout.lines.len();
        Outcome::Lost { segment: Layout::name(end + 1), line: 1, offset_bytes: 0, sequence: end + 1 }
    });
    with_each_segment("a copy claims to begin where no segment does", |case| {
        let (first, last) = case.layout.sequences(case.segment).into_inner();
        if first == last {
            return starts(case.layout.lines.len()); // No sequence is left that such a copy could claim.
        }
        fs::write(case.log.join(Layout::name(last)), case.bytes(case.segment)).unwrap();
        case.superfluous(last, last)
    });
    for ending in ["copy.jsonl", "1.jsonl", "00000000000000000001 (1).jsonl", "00000000000000000000.jsonl"] {
        with_each_segment("a segment has a name that is none", |case| {
            fs::rename(case.log.join(case.name(case.segment)), case.log.join(ending)).unwrap();
            Outcome::Unreadable(format!(
                "{} cannot be read: {} is not named like a segment of the log; move it out of the folder, or give it \
                 back its name",
                case.log.display(),
                case.log.join(ending).display()
            ))
        });
    }
}

#[test]
fn files_with_other_endings_beside_the_segments_are_none_of_the_log_s() {
    with_each_segment("a copy has another ending", |case| {
        for ending in ["bak", "jsonl~", "jsonl.gz", "torn-0-1"] {
            let copy = case.log.join(case.name(case.segment)).with_extension(ending);
            fs::write(copy, case.bytes(case.segment)).unwrap();
        }
        starts(case.layout.lines.len())
    });
}

#[test]
fn what_an_editor_or_a_transfer_does_to_a_segment_is_found() {
    with_each_segment("lines end as on Windows", |case| {
        let text = String::from_utf8(case.bytes(case.segment).to_vec()).unwrap().replace('\n', "\r\n");
        case.write(case.segment, text.as_bytes());
        unless_last(case, 0, text.len())
    });
    with_each_segment("a byte order mark stands first", |case| {
        let marked = [b"\xef\xbb\xbf", case.bytes(case.segment)].concat();
        case.write(case.segment, &marked);
        unless_last(case, 0, marked.len())
    });
    with_each_segment("empty lines at the end", |case| {
        case.write(case.segment, &[case.bytes(case.segment), b"\n\n"].concat());
        unless_last(case, case.layout.sequences(case.segment).count(), 2)
    });
    with_each_segment("the last line feed is gone", |case| {
        let bytes = case.bytes(case.segment);
        case.write(case.segment, &bytes[..bytes.len() - 1]);
        let before = case.layout.sequences(case.segment).count() - 1;
        unless_last(case, before, bytes.len() - 1 - case.layout.line(case.first(case.segment) + before).start)
    });
    with_each_segment("all of it is zeros", |case| {
        case.write(case.segment, &vec![0; case.bytes(case.segment).len()]);
        unless_last(case, 0, case.bytes(case.segment).len())
    });
}

#[test]
fn a_segment_that_is_no_file_is_named_and_never_waited_for() {
    let named = |case: &Case<'_>, problem: &str| {
        Outcome::Unreadable(format!("{} cannot be read: {problem}", case.log.join(case.name(case.segment)).display()))
    };
    let no_file = "it is not a file";
    with_each_segment("a segment is a folder", |case| {
        case.remove(case.segment);
        fs::create_dir(case.log.join(case.name(case.segment))).unwrap();
        named(case, no_file)
    });
    with_each_segment("a segment is a pipe", |case| {
        case.remove(case.segment);
        let path = case.log.join(case.name(case.segment));
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
        named(case, no_file)
    });
    with_each_segment("a segment is a link to nowhere", |case| {
        case.remove(case.segment);
        symlink("nowhere", case.log.join(case.name(case.segment))).unwrap();
        named(case, "No such file or directory (os error 2)")
    });
    with_each_segment("a segment is a link to a file", |case| {
        let path = case.log.join(case.name(case.segment));
        fs::rename(&path, path.with_extension("elsewhere")).unwrap();
        symlink(path.with_extension("elsewhere"), &path).unwrap();
        starts(case.layout.lines.len())
    });
}
