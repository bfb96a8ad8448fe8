//! The whole matrix of damage: a log of a thousand records, cut, flipped, shuffled and taken away in
//! every way that a disk, an operator or a restore can, and for each case the documented outcome:
//! it starts, or it refuses with a message that says what is wrong and what can be done.
//!
//! What should happen is stated by [`layout`], from where each line and batch was written, and
//! never by asking the code that is tested. The exhaustive parts go through the library's recovery;
//! one case of each outcome goes through the shipped binary, in `told`.
//!
//! A recovery reads the log from its beginning, so a case costs what lies before the damage. The
//! ordinary run therefore tries every byte (or bit) in the first segments and a stated sample of the
//! others; with `LOCKSTREAM_MATRIX=all` it tries every one everywhere.
#![expect(clippy::cast_possible_truncation, reason = "lengths and numbers of a small log fit everywhere")]

mod flipped;
mod layout;
mod outcome;
mod read_only;
mod segments;
mod told;
mod truncated;

use crate::matrix::layout::{Layout, Scratch};

/// Whether every single case is to be tried, however long that takes.
pub fn entirely() -> bool {
    std::env::var("LOCKSTREAM_MATRIX").is_ok_and(|value| value == "all")
}

/// How many threads share the cases.
const THREADS: usize = 2;

/// Runs `check` on every case, with a folder of its own for each thread, and says how many there
/// were. The threads take turns, so that each gets cheap and dear ones.
pub fn each<C: Sync>(what: &str, layout: &Layout, cases: &[C], check: impl Fn(&Scratch, &C) + Sync) {
    assert!(!cases.is_empty(), "{what}: there is something to try");
    let begin = std::time::Instant::now();
    std::thread::scope(|scope| {
        for turn in 0..THREADS {
            let check = &check;
            scope.spawn(move || {
                let scratch = Scratch::new();
                cases.iter().skip(turn).step_by(THREADS).for_each(|case| check(&scratch, case));
                scratch.check(layout);
            });
        }
    });
    eprintln!("{what}: {} cases in {} ms", cases.len(), begin.elapsed().as_millis());
}
