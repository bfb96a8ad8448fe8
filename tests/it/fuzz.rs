//! Fuzzing within bounds: the seeds of `tests/fuzz/corpus`, each as it is and then mutated many
//! times, given to the targets of `tests/fuzz`.
//!
//! The inputs are the same in every run. A failing one is shown as bytes with the command that
//! gives it again. `LOCKSTREAM_FUZZ_INPUTS=1000000` makes more of them, `LOCKSTREAM_FUZZ_SEED=7`
//! makes others.

mod mutator;
mod paths;
#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

use crate::fuzz::mutator::Mutator;

const INPUTS: u64 = 20_000;
const SEED: u64 = 20_261_121;

/// The number in a variable, if it is set.
fn number(variable: &str) -> Option<u64> {
    let number = |text: OsString| text.to_str()?.parse().ok();
    std::env::var_os(variable).map(|text| number(text).unwrap_or_else(|| panic!("{variable} must be a number")))
}

fn seed() -> u64 {
    number("LOCKSTREAM_FUZZ_SEED").unwrap_or(SEED)
}

/// Which inputs to make: all of a run, or the one that is to be seen again. A target that works on
/// files gets fewer.
fn numbers(fewer: u64) -> std::ops::Range<u64> {
    match number("LOCKSTREAM_FUZZ_INPUT") {
        Some(one) => one..one + 1,
        None => 0..number("LOCKSTREAM_FUZZ_INPUTS").unwrap_or(INPUTS) / fewer,
    }
}

/// The seeds of a target, in the order of their names.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn fuzz(name: &str, target: fn(&[u8]), fewer: u64) {
    let seeds = corpus(name);
    for seed in &seeds {
        target(seed);
    }
    let mutator = Mutator::new(&seeds, seed());
    for number in numbers(fewer) {
        let input = mutator.input(number);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(&input))) {
            eprintln!(
                "input {number}: b\"{}\"\nagain: LOCKSTREAM_FUZZ_SEED={} LOCKSTREAM_FUZZ_INPUT={number} \
                 cargo test --test it fuzz::{name}\nbetter: keep it under tests/fuzz/corpus/{name}",
                input.escape_ascii(),
                seed(),
            );
            resume_unwind(panic);
        }
    }
}

#[test]
fn events_are_judged_as_a_second_reader_judges_them() {
    fuzz("event", targets::event, 1);
}

#[test]
fn lines_that_are_read_have_one_spelling() {
    fuzz("line", targets::line, 1);
}

#[test]
fn recovery_cuts_no_more_than_was_torn() {
    fuzz("recovery", targets::recovery, 10);
}

#[test]
fn marks_of_a_clean_stop_are_understood_or_named() {
    fuzz("mark", targets::mark, 10);
}

#[test]
fn manifests_of_backups_are_as_they_say_or_refused() {
    fuzz("manifest", targets::manifest, 10);
}

#[test]
fn urls_of_databases_never_tell_a_password() {
    fuzz("url", targets::url, 1);
}
