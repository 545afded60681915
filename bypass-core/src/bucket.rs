//! How often something may happen that a container can cause as often as it likes.

use std::time::{Duration, Instant};

/// A token bucket: so many at once, and one more every so often.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    at_once: u32,
    every: Duration,
    left: u32,
    filled: Instant,
    missed: u64,
}

impl TokenBucket {
    /// Full at `now`: `at_once` tokens, and one more `every` so long up to that many. A zero `every` refills
    /// it at once.
    #[must_use]
    pub fn new(at_once: u32, every: Duration, now: Instant) -> Self {
        Self { at_once, every, left: at_once, filled: now, missed: 0 }
    }

    /// As many a second in the long run, and ten seconds' worth at once; none for 0.
    #[must_use]
    pub fn per_second(rate: u32, now: Instant) -> Self {
        let every = Duration::from_secs(1).checked_div(rate).unwrap_or(Duration::MAX);
        Self::new(rate.saturating_mul(10), every, now)
    }

    /// Takes one, and tells how many could not be had since the last; `None` if there is none.
    pub fn take(&mut self, now: Instant) -> Option<u64> {
        let passed = now.saturating_duration_since(self.filled);
        let more = passed.as_nanos().checked_div(self.every.as_nanos()).unwrap_or(u128::MAX);
        match u32::try_from(more) {
            // The rest of the time counts the next time.
            Ok(more) if more < self.at_once.saturating_sub(self.left) => {
                self.left += more;
                self.filled += self.every.saturating_mul(more);
            }
            _ => {
                self.left = self.at_once;
                self.filled = now;
            }
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
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

    fn taken(bucket: &mut TokenBucket, tries: u32, now: Instant) -> usize {
        (0..tries).filter_map(|_| bucket.take(now)).count()
    }

    #[test]
    fn ten_seconds_worth_may_come_at_once() {
        let now = Instant::now();
        assert_eq!(taken(&mut TokenBucket::per_second(5, now), 1_000, now), 50);
    }

    #[test]
    fn time_fills_it_up_to_that_again() {
        let start = Instant::now();
        let mut bucket = TokenBucket::per_second(5, start);
        taken(&mut bucket, 1_000, start);
        assert_eq!(taken(&mut bucket, 1_000, start + Duration::from_secs(2)), 10);
        assert_eq!(taken(&mut bucket, 1_000, start + Duration::from_secs(2_000)), 50);
    }

    #[test]
    fn short_times_add_up() {
        let start = Instant::now();
        let mut bucket = TokenBucket::per_second(5, start);
        taken(&mut bucket, 1_000, start);
        let steps = (1..=10_000).map(|step| start + Duration::from_micros(100 * step));
        assert_eq!(steps.filter_map(|now| bucket.take(now)).count(), 5);
    }

    #[test]
    fn so_many_come_at_once_and_then_one_now_and_then() {
        const EVERY: Duration = Duration::from_secs(10);

        let start = Instant::now();
        let mut bucket = TokenBucket::new(50, EVERY, start);
        for (at, expected) in [
            (Duration::ZERO, 50),
            (EVERY / 2, 0),
            (EVERY, 1),
            (3 * EVERY, 2),
            // However long nothing came.
            (1_000 * EVERY, 50),
        ] {
            assert_eq!(taken(&mut bucket, 1_000, start + at), expected, "{at:?}");
        }
    }

    #[test]
    fn what_was_missed_is_told_once() {
        let start = Instant::now();
        let mut bucket = TokenBucket::per_second(1, start);
        taken(&mut bucket, 13, start);
        let later = start + Duration::from_secs(5);
        assert_eq!(bucket.take(later), Some(3));
        assert_eq!(bucket.take(later), Some(0));
    }

    #[test]
    fn a_rate_of_none_tells_nothing() {
        let now = Instant::now();
        let mut bucket = TokenBucket::per_second(0, now);
        assert_eq!(taken(&mut bucket, 10, now + Duration::from_secs(60)), 0);
    }
}
