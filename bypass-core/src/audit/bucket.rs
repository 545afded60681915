//! A token bucket: so many a second in the long run, and ten seconds' worth at once.

use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct Bucket {
    per_second: u32,
    /// In thousandths, so that a short time adds something too.
    tokens: u64,
    filled: Instant,
    missed: u64,
}

const ONE: u64 = 1_000;
const SECONDS_AT_ONCE: u64 = 10;

impl Bucket {
    pub(super) fn new(per_second: u32, now: Instant) -> Self {
        let tokens = u64::from(per_second) * SECONDS_AT_ONCE * ONE;
        Self { per_second, tokens, filled: now, missed: 0 }
    }

    /// Takes one, and tells how many could not be had since the last; `None` if there is none.
    pub(super) fn take(&mut self, now: Instant) -> Option<u64> {
        let passed = now.saturating_duration_since(self.filled);
        let millis = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        if millis > 0 {
            // What is less than a millisecond counts the next time.
            self.filled += Duration::from_millis(millis);
            let full = u64::from(self.per_second) * SECONDS_AT_ONCE * ONE;
            let more = millis.saturating_mul(u64::from(self.per_second));
            self.tokens = self.tokens.saturating_add(more).min(full);
        }
        match self.tokens.checked_sub(ONE) {
            Some(left) => {
                self.tokens = left;
                Some(std::mem::take(&mut self.missed))
            }
            None => {
                self.missed = self.missed.saturating_add(1);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(bucket: &mut Bucket, tries: u32, now: Instant) -> usize {
        (0..tries).filter_map(|_| bucket.take(now)).count()
    }

    #[test]
    fn ten_seconds_worth_may_come_at_once() {
        let now = Instant::now();
        assert_eq!(taken(&mut Bucket::new(5, now), 1_000, now), 50);
    }

    #[test]
    fn time_fills_it_up_to_that_again() {
        let start = Instant::now();
        let mut bucket = Bucket::new(5, start);
        taken(&mut bucket, 1_000, start);
        assert_eq!(taken(&mut bucket, 1_000, start + Duration::from_secs(2)), 10);
        assert_eq!(taken(&mut bucket, 1_000, start + Duration::from_secs(2_000)), 50);
    }

    #[test]
    fn short_times_add_up() {
        let start = Instant::now();
        let mut bucket = Bucket::new(5, start);
        taken(&mut bucket, 1_000, start);
        let steps = (1..=10_000).map(|step| start + Duration::from_micros(100 * step));
        assert_eq!(steps.filter_map(|now| bucket.take(now)).count(), 5);
    }

    #[test]
    fn what_was_missed_is_told_once() {
        let start = Instant::now();
        let mut bucket = Bucket::new(1, start);
        taken(&mut bucket, 13, start);
        let later = start + Duration::from_secs(5);
        assert_eq!(bucket.take(later), Some(3));
        assert_eq!(bucket.take(later), Some(0));
    }

    #[test]
    fn a_rate_of_none_tells_nothing() {
        let now = Instant::now();
        assert_eq!(taken(&mut Bucket::new(0, now), 10, now + Duration::from_secs(60)), 0);
    }
}
