//! One flipped bit, anywhere. In a sealed segment it is found, its line is named, and nothing is
//! cut; in the last batch it is a torn write, unless something proves that the batch was whole.
//!
//! The ordinary run flips every bit of the first segment and of a last batch, and one in 14 983 of
//! all other sealed ones; the entire one every bit of three whole segments (the first, one in the
//! middle, the last sealed one), and of the last batch of the longest kind.

use crate::matrix::layout::{Files, Layout};
use crate::matrix::outcome::{Outcome, Proof, Torn, start};
use crate::matrix::{each, entirely};

/// Prime, so that it falls on every bit and every part of a line.
const STRIDE_BITS: usize = 14_983;

#[derive(Debug)]
struct Flip {
    segment: usize,
    byte: usize,
    bit: u8,
}

impl Flip {
    fn of(segment: usize, bits: usize) -> Self {
        Self { segment, byte: bits / 8, bit: (bits % 8) as u8 }
    }

    /// The first bytes of the segment, with the bit flipped.
    fn flipped(&self, layout: &Layout, bytes: usize) -> Vec<u8> {
        let mut flipped = layout.segments[self.segment].1[..bytes].to_vec();
        flipped[self.byte] ^= 1 << self.bit;
        flipped
    }

    /// Loss at the line that was hit.
    fn lost(&self, layout: &Layout) -> Outcome {
        let sequence = layout.at(self.segment, self.byte);
        let line = layout.line(sequence);
        let segment = layout.segments[self.segment].0.clone();
        Outcome::Lost { segment, line: line.number, offset_bytes: line.start, sequence }
    }
}

#[test]
fn every_flipped_bit_of_a_sealed_segment_is_found_where_it_is_and_nothing_is_cut() {
    let layout = Layout::get();
    let sealed = layout.segments.len() - 1;
    let wholly = if entirely() { vec![0, sealed / 2, sealed - 1] } else { vec![0] };
    let mut flips = Vec::new();
    let mut before_bits = 0;
    for segment in 0..sealed {
        let bits = layout.len(segment) * 8;
        let is_wanted = |bit: &usize| wholly.contains(&segment) || (before_bits + bit).is_multiple_of(STRIDE_BITS);
        flips.extend((0..bits).filter(is_wanted).map(|bit| Flip::of(segment, bit)));
        before_bits += bits;
    }
    each("flipped bits of sealed segments", layout, &flips, |scratch, flip| {
        scratch.lay(layout, flip.segment);
        let flipped = flip.flipped(layout, layout.len(flip.segment));
        let files = Files::from([
            (layout.segments[flip.segment].0.clone(), flipped),
            layout.segments[flip.segment + 1].clone(),
        ]);
        scratch.put(&files);

        assert_eq!(start(&scratch.log(), &[]), flip.lost(layout), "{flip:?}");

        assert!(scratch.take_beside(layout, flip.segment) == files, "{flip:?}: nothing was changed");
    });
}

#[test]
fn every_flipped_bit_of_a_last_batch_is_torn_without_a_proof_and_lost_with_one() {
    let layout = Layout::get();
    let size = |sequence: usize| layout.line(sequence).batch.1 + 1 - layout.line(sequence).batch.0;
    let largest = (1..=layout.lines.len()).max_by_key(|sequence| size(*sequence)).unwrap();
    // Sequences 4 to 6 are the third batch.
    for last in if entirely() { vec![6, layout.line(largest).batch.1] } else { vec![6] } {
        let batch = layout.line(last).batch;
        let segment = layout.line(last).segment;
        let (from, end) = (layout.line(batch.0).start, layout.line(last).end);
        let flips: Vec<_> = (from * 8..end * 8).map(|bit| Flip::of(segment, bit)).collect();
        each("flipped bits of a last batch", layout, &flips, |scratch, flip| {
            scratch.lay(layout, segment);
            let name = layout.segments[segment].0.clone();
            let flipped = flip.flipped(layout, end);
            let hit = layout.at(segment, flip.byte);
            let offset_bytes = layout.line(hit).start;
            for proof in [Proof::Mark(last), Proof::Checkpoint(hit), Proof::Checkpoint(hit - 1), Proof::Nothing] {
                let files = Files::from([(name.clone(), flipped.clone())]);
                scratch.put(&files);

                let outcome = start(&scratch.log(), &proof.of(layout));

                let mut left = scratch.take_beside(layout, segment);
                if proof.sequence() >= hit {
                    assert_eq!(outcome, flip.lost(layout), "{flip:?}, {proof:?}");
                    assert!(left == files, "{flip:?}, {proof:?}: nothing was changed");
                    continue;
                }
                let torn = Torn { segment: name.clone(), offset_bytes, bytes: end - offset_bytes };
                assert_eq!(outcome, Outcome::Starts { kept: hit - 1, torn: Some(torn) }, "{flip:?}, {proof:?}");
                left.get_mut(&name).unwrap().truncate(offset_bytes);
                let kept_at = format!("{name}.torn-{offset_bytes}-1");
                let (kept, torn) = flipped.split_at(offset_bytes);
                let files = Files::from([(name.clone(), kept.to_vec()), (kept_at, torn.to_vec())]);
                assert!(left == files, "{flip:?}, {proof:?}: cut at the line, and kept");
            }
        });
    }
}
