//! How often which time was taken: counts in buckets that grow with the time, wrong by less than
//! two in a hundred.

/// Each power of two has this many bits' worth of buckets.
const BITS: u32 = 6;
const SHARE: u64 = 1 << BITS;
const BUCKETS: usize = (64 - BITS as usize + 1) << BITS;

/// Counts of whole numbers.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, max: 0 }
    }
}

impl Histogram {
    pub fn add(&mut self, value: u64) {
        self.counts[bucket(value)] += 1;
        self.total += 1;
        self.max = self.max.max(value);
    }

    #[must_use]
    pub const fn max(&self) -> u64 {
        self.max
    }

    /// What so many in a thousand do not exceed; nothing was counted, nothing is exceeded.
    #[must_use]
    pub fn permille(&self, share: u64) -> u64 {
        let wanted = (self.total * share).div_ceil(1_000);
        let mut seen = 0;
        let reached = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted && seen > 0
        });
        reached.map_or(0, |bucket| greatest(bucket).min(self.max))
    }

    /// What was counted since this one was like `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let counts = self.counts.iter().zip(&earlier.counts).map(|(now, then)| now - then).collect();
        Self { counts, total: self.total - earlier.total, max: self.max }
    }
}

fn bucket(value: u64) -> usize {
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(BITS + 1);
    let place = u64::from(shift) * SHARE + (value >> shift);
    usize::try_from(place).expect("there are some thousand buckets")
}

/// The greatest value that a bucket counts.
fn greatest(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket / SHARE).saturating_sub(1);
    let least = (bucket - shift * SHARE) << shift;
    least + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_differs_by_less_than_two_percent() {
        let mut previous = None;
        for value in (0..20_000).chain((1..60).map(|n| (1 << n) - 1)).chain([u64::MAX]) {
            let greatest = greatest(bucket(value));
            assert!(greatest >= value, "{value}");
            assert!(greatest - value <= value / 62, "{value} {greatest}");
            assert_eq!(bucket(greatest), bucket(value), "{value}");
            previous = previous.max(Some(bucket(value)));
        }
        assert_eq!(previous, Some(BUCKETS - 1), "no bucket is too many or too few");
    }

    #[test]
    fn the_share_is_what_so_many_do_not_exceed() {
        let mut histogram = Histogram::default();
        assert_eq!((histogram.permille(500), histogram.max()), (0, 0));
        (1..=1_000).for_each(|value| histogram.add(value));
        for (share, at_least) in [(1, 1), (500, 500), (990, 990), (999, 999), (1_000, 1_000)] {
            let reached = histogram.permille(share);
            assert!((at_least..=at_least + at_least / 60).contains(&reached), "{share}: {reached}");
        }
        assert_eq!(histogram.permille(1_000), 1_000, "never more than the greatest");
    }

    #[test]
    fn a_part_of_the_time_has_shares_of_its_own() {
        let mut histogram = Histogram::default();
        (0..100).for_each(|_| histogram.add(1_000));
        let earlier = histogram.clone();
        histogram.add(3);
        assert_eq!(histogram.since(&earlier).permille(990), 3);
        assert!(histogram.permille(990) >= 1_000);
    }
}
