//! A log that ends too early, at any byte of it: the last segment or one in the middle, with and
//! without something that proves that there was more.
//!
//! The ordinary run cuts at every byte of the first segment, and in the other segments at each
//! byte around the end of a batch and at every 997th byte, with the four circumstances in turn.
//!
//! Those starts read the log from its beginning. With `LOCKSTREAM_MATRIX=all` every other byte is cut
//! at too, in all circumstances, for a start that goes on from a snapshot at the segment before: the
//! same code decides, and what lies before the snapshot is not what is damaged.

use lockstream::domain::record::Head;

use crate::matrix::layout::{Files, Layout, Scratch};
use crate::matrix::outcome::{Outcome, Proof, Torn, start_after};
use crate::matrix::{each, entirely};

/// In how many segments, from the first, the ordinary run tries each byte in all circumstances.
const WHOLLY: usize = 1;
/// Prime, so that it falls on every part of a line.
const STRIDE_BYTES: usize = 997;

/// What there is beside the segment that is cut.
#[derive(Debug, Clone, Copy)]
enum Circumstance {
    /// It is the last, and nothing else is known.
    Last,
    /// It is the last, and the service was stopped in order when it was whole.
    Stopped,
    /// It is the last, and the projection has seen half of it.
    Projected,
    /// Another segment follows.
    Followed,
}

const ALL: [Circumstance; 4] =
    [Circumstance::Last, Circumstance::Stopped, Circumstance::Projected, Circumstance::Followed];

#[derive(Debug)]
struct Cut {
    segment: usize,
    /// How many bytes of the segment are left.
    left: usize,
    circumstance: Circumstance,
    /// Whether the start reads what lies before this segment.
    from_the_beginning: bool,
}

impl Cut {
    /// What the start knows of the log.
    fn known(&self, layout: &Layout) -> Head {
        let before = layout.sequences(self.segment).start() - 1;
        if self.from_the_beginning { Head::default() } else { layout.heads[before] }
    }

    fn is_followed(&self) -> bool {
        matches!(self.circumstance, Circumstance::Followed)
    }

    fn proof(&self, layout: &Layout) -> Proof {
        let (first, last) = layout.sequences(self.segment).into_inner();
        match self.circumstance {
            Circumstance::Last | Circumstance::Followed => Proof::Nothing,
            Circumstance::Stopped => Proof::Mark(last),
            Circumstance::Projected => Proof::Checkpoint(usize::midpoint(first, last)),
        }
    }

    fn expected(&self, layout: &Layout) -> Outcome {
        let (first, last) = layout.sequences(self.segment).into_inner();
        let whole_lines = |sequence: &usize| layout.line(*sequence).end <= self.left;
        let kept = (first..=last).take_while(whole_lines).last().unwrap_or(first - 1);
        let end = if kept < first { 0 } else { layout.line(kept).end };
        let segment = layout.segments[self.segment].0.clone();
        let half_a_line = self.left > end;
        let line = (kept + 2 - first) as u64;
        let lost_here = Outcome::Lost { segment: segment.clone(), line, offset_bytes: end, sequence: kept + 1 };
        if self.is_followed() {
            if half_a_line {
                return lost_here;
            }
            // Whole lines and then no more: it is as if a segment were missing in between.
            return Outcome::Lost { segment: Layout::name(kept + 1), line: 1, offset_bytes: 0, sequence: kept + 1 };
        }
        let proven = self.proof(layout).sequence();
        if proven > kept {
            return if half_a_line { lost_here } else { Outcome::Shortened { end: kept, proven } };
        }
        let torn = half_a_line.then(|| Torn { segment, offset_bytes: end, bytes: self.left - end });
        Outcome::Starts { kept, torn }
    }

    fn check(&self, scratch: &Scratch, layout: &Layout) {
        scratch.lay(layout, self.segment);
        let (name, whole) = &layout.segments[self.segment];
        let cut = &whole[..self.left];
        let mut files = Files::from([(name.clone(), cut.to_vec())]);
        if self.is_followed() {
            files.extend([layout.segments[self.segment + 1].clone()]);
        }
        scratch.put(&files);

        let outcome = start_after(self.known(layout), &scratch.log(), &self.proof(layout).of(layout));

        assert_eq!(outcome, self.expected(layout), "{self:?}");
        let mut left = scratch.take_beside(layout, self.segment);
        if let Outcome::Starts { torn, .. } = outcome {
            let kept_bytes = torn.as_ref().map_or(self.left, |torn| torn.offset_bytes);
            // What was appended to see that the log goes on.
            left.get_mut(name).unwrap().truncate(kept_bytes);
            files = Files::from([(name.clone(), cut[..kept_bytes].to_vec())]);
            files.extend(torn.map(|torn| (format!("{name}.torn-{kept_bytes}-1"), cut[torn.offset_bytes..].to_vec())));
        }
        assert!(left == files, "{self:?}: only what is documented has changed");
    }
}

#[test]
fn cut_at_any_byte_the_log_starts_or_refuses_as_documented() {
    let layout = Layout::get();
    let mut cuts = Vec::new();
    let mut sampled = 0;
    for segment in 0..layout.segments.len() {
        let is_last = segment + 1 == layout.segments.len();
        let circumstances = if is_last { &ALL[..3] } else { &ALL[..] };
        for left in 0..layout.len(segment) {
            let cut = |circumstance: &Circumstance, from_the_beginning: bool| Cut {
                segment,
                left,
                circumstance: *circumstance,
                from_the_beginning,
            };
            if segment < WHOLLY {
                cuts.extend(circumstances.iter().map(|circumstance| cut(circumstance, true)));
            } else if left % STRIDE_BYTES == segment || ends_a_batch(layout, segment, left) {
                sampled += 1;
                cuts.push(cut(&circumstances[sampled % circumstances.len()], true));
            }
            if entirely() && segment >= WHOLLY {
                cuts.extend(circumstances.iter().map(|circumstance| cut(circumstance, false)));
            }
        }
    }
    each("logs cut at a byte", layout, &cuts, |scratch, cut| cut.check(scratch, layout));
}

/// Whether a batch ends at this byte, or one before or after it.
fn ends_a_batch(layout: &Layout, segment: usize, byte: usize) -> bool {
    let last_lines = layout.sequences(segment).filter(|sequence| layout.line(*sequence).batch.1 == *sequence);
    last_lines.map(|sequence| layout.line(sequence).end).chain([0]).any(|end| end.abs_diff(byte) <= 1)
}
