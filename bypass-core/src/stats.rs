//! Counters of one container: who may read them does not slow who writes them.
//!
//! Writers only touch relaxed atomics, so a snapshot taken meanwhile may hold a
//! verdict whose time is not yet counted; no count is ever lost.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::Serialize;

use crate::Reason;

/// How a trapped `connect`, `bind` or `listen` ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A host socket took the place of the container socket.
    Switched,
    /// The call acted on a socket that was a host socket already.
    Host,
    /// The call acted in the container's network namespace.
    Left,
    /// The call was refused.
    Denied,
    /// The host answered with an error (refused, unreachable, timed out).
    Failed,
    /// The target was gone before it could be answered.
    Gone,
}

impl Outcome {
    /// Every outcome, in the order of the reports.
    pub const ALL: [Self; 6] =
        [Self::Switched, Self::Host, Self::Left, Self::Denied, Self::Failed, Self::Gone];

    /// The name that logs and reports use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Switched => "switched",
            Self::Host => "host",
            Self::Left => "left",
            Self::Denied => "denied",
            Self::Failed => "failed",
            Self::Gone => "gone",
        }
    }
}

/// Live counters of one container: atomic numbers without a lock, so that counting waits for
/// nobody. [`snapshot`](Self::snapshot) reads them.
#[derive(Debug)]
pub struct Stats {
    counts: [[AtomicU64; Reason::ALL.len()]; Outcome::ALL.len()],
    continued: AtomicU64,
    parted: AtomicU64,
    waiting: AtomicU64,
    connect: Histogram,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            counts: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))),
            continued: AtomicU64::new(0),
            parted: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            connect: Histogram::default(),
        }
    }
}

impl Stats {
    /// A call has ended.
    pub fn count(&self, outcome: Outcome, reason: Reason) {
        if let Some(cell) =
            self.counts.get(outcome as usize).and_then(|row| row.get(reason as usize))
        {
            cell.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn count_continued(&self) {
        self.continued.fetch_add(1, Relaxed);
    }

    pub(crate) fn count_parted(&self) {
        self.parted.fetch_add(1, Relaxed);
    }

    /// A `connect` was handled in so much time.
    pub fn time_connect(&self, took: Duration) {
        self.connect.record(took);
    }

    pub(crate) fn set_waiting(&self, calls: usize) {
        self.waiting.store(calls as u64, Relaxed);
    }

    /// How many calls wait for the network at the moment.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Relaxed)
    }

    /// Adds what another one has counted up to now, as when its container has ended. Calls that wait
    /// are not counted, so they are not added.
    pub fn absorb(&self, other: &Self) {
        let (ours, theirs) = (self.counts.iter().flatten(), other.counts.iter().flatten());
        ours.zip(theirs).for_each(|(cell, more)| add(cell, more));
        add(&self.continued, &other.continued);
        add(&self.parted, &other.parted);
        self.connect.absorb(&other.connect);
    }

    /// How long `connect` took, as [`Snapshot::connect_us`] has it, in numbers that can be added to
    /// those of other containers.
    #[must_use]
    pub fn connect_times(&self) -> Distribution {
        self.connect.distribution()
    }

    /// What has been counted up to now. Each number is exact; numbers of one snapshot may be a few calls
    /// apart.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut verdicts: BTreeMap<&'static str, u64> = BTreeMap::new();
        let mut reasons: BTreeMap<&'static str, BTreeMap<&'static str, u64>> = BTreeMap::new();
        for (outcome, row) in Outcome::ALL.iter().zip(&self.counts) {
            let total = verdicts.entry(outcome.name()).or_default();
            for (reason, cell) in Reason::ALL.iter().zip(row) {
                let count = cell.load(Relaxed);
                if count > 0 {
                    *total += count;
                    reasons.entry(outcome.name()).or_default().insert(reason.name(), count);
                }
            }
        }
        Snapshot {
            verdicts,
            reasons,
            continued: self.continued.load(Relaxed),
            parted: self.parted.load(Relaxed),
            connect_us: self.connect.snapshot(),
        }
    }
}

/// What [`Stats`] held at one moment. It serialises as in `bypass-cli run --report`; the keys are
/// [`Outcome::name`] and [`Reason::name`], which keep their meaning from version to version.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// Ended calls by outcome.
    pub verdicts: BTreeMap<&'static str, u64>,
    /// Ended calls by outcome and reason; zeros are left out.
    pub reasons: BTreeMap<&'static str, BTreeMap<&'static str, u64>>,
    /// Calls that were let through untouched (other families, other system calls).
    pub continued: u64,
    /// Sockets that were one and are two: somebody who could not be given the new one has the old
    /// one as well.
    pub parted: u64,
    /// Time from receiving a `connect` to answering it, without those that had to
    /// wait for the network, in microseconds.
    pub connect_us: Times,
}

/// A distribution of durations, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Times {
    /// How many were measured.
    pub count: u64,
    /// Median, at most 6 % too high.
    pub p50: f64,
    /// 99th percentile, at most 6 % too high.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

/// A distribution of durations, in nanoseconds: who has two of them can add them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Distribution {
    /// How many were measured.
    pub count: u64,
    /// All of them together.
    pub sum: u64,
    /// For each of [`Distribution::BOUNDS`], how many were shorter.
    pub shorter: Vec<u64>,
}

impl Distribution {
    /// Powers of two, from 4 µs to 34 ms.
    pub const BOUNDS: [u64; 14] = [
        1 << 12,
        1 << 13,
        1 << 14,
        1 << 15,
        1 << 16,
        1 << 17,
        1 << 18,
        1 << 19,
        1 << 20,
        1 << 21,
        1 << 22,
        1 << 23,
        1 << 24,
        1 << 25,
    ];
}

fn add(cell: &AtomicU64, more: &AtomicU64) {
    cell.fetch_add(more.load(Relaxed), Relaxed);
}

/// Sub-divisions of each power of two: the width of a bucket is 1/16 of its value.
const STEPS: usize = 16;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// Durations of 2^36 ns (68 s) and more share the last bucket.
const OCTAVES: usize = 36;
const BUCKETS: usize = (OCTAVES - STEP_BITS as usize + 1) * STEPS;

/// Logarithmic histogram of nanoseconds that any thread may read while one writes.
struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum: AtomicU64,
    max: AtomicU64,
}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.snapshot().fmt(f)
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
            sum: AtomicU64::new(0),
            max: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    fn record(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get(bucket_of(nanos)) {
            bucket.fetch_add(1, Relaxed);
        }
        self.sum.fetch_add(nanos, Relaxed);
        self.max.fetch_max(nanos, Relaxed);
    }

    fn absorb(&self, other: &Self) {
        self.buckets.iter().zip(&other.buckets).for_each(|(cell, more)| add(cell, more));
        add(&self.sum, &other.sum);
        self.max.fetch_max(other.max.load(Relaxed), Relaxed);
    }

    fn distribution(&self) -> Distribution {
        let mut count = 0;
        let mut shorter = vec![0; Distribution::BOUNDS.len()];
        for (index, bucket) in self.buckets.iter().enumerate() {
            let here = bucket.load(Relaxed);
            count += here;
            let below = Distribution::BOUNDS.iter().map(|bound| upper_bound(index) < *bound);
            shorter.iter_mut().zip(below).filter(|(_, below)| *below).for_each(|(n, _)| *n += here);
        }
        Distribution { count, sum: self.sum.load(Relaxed), shorter }
    }

    fn snapshot(&self) -> Times {
        let counts: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect();
        let count: u64 = counts.iter().sum();
        let max = micros(self.max.load(Relaxed));
        let quantile = |percent: u64| {
            let rank = (count * percent).div_ceil(100);
            let mut seen = 0;
            counts
                .iter()
                .position(|n| {
                    seen += n;
                    seen >= rank && rank > 0
                })
                .map_or(0.0, |index| micros(upper_bound(index)).min(max))
        };
        Times { count, p50: quantile(50), p99: quantile(99), max }
    }
}

fn bucket_of(nanos: u64) -> usize {
    let log = nanos.max(1).ilog2();
    if log < STEP_BITS {
        return usize::try_from(nanos).unwrap_or(0);
    }
    let shift = log - STEP_BITS;
    let step = usize::try_from(nanos >> shift).unwrap_or(0) - STEPS;
    ((shift as usize + 1) * STEPS + step).min(BUCKETS - 1)
}

/// The largest value of a bucket, so that a quantile is never under-stated.
fn upper_bound(bucket: usize) -> u64 {
    if bucket < STEPS {
        return bucket as u64;
    }
    let shift = bucket / STEPS - 1;
    let step = (bucket % STEPS + STEPS + 1) as u64;
    (step << shift) - 1
}

#[expect(clippy::cast_precision_loss, reason = "2^53 ns are 104 days")]
fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn counts_come_back_by_outcome_and_reason() {
        let stats = Stats::default();
        stats.count(Outcome::Switched, Reason::Allowed);
        stats.count(Outcome::Left, Reason::Ignored);
        stats.count(Outcome::Left, Reason::Ignored);
        stats.count(Outcome::Left, Reason::Option);
        let snapshot = stats.snapshot();
        assert_eq!(snapshot.verdicts["switched"], 1);
        assert_eq!(snapshot.verdicts["left"], 3);
        assert_eq!(snapshot.verdicts["denied"], 0);
        assert_eq!(snapshot.reasons["left"]["ignored"], 2);
        assert!(!snapshot.reasons.contains_key("denied"));
    }

    #[test]
    fn quantiles_of_a_known_distribution() {
        let histogram = Histogram::default();
        assert_eq!(histogram.snapshot(), Times::default());
        for micro in 1..=1000 {
            histogram.record(Duration::from_micros(micro));
        }
        let times = histogram.snapshot();
        assert_eq!(times.count, 1000);
        assert!((500.0..=532.0).contains(&times.p50), "{times:?}");
        assert!((990.0..=1000.0).contains(&times.p99), "{times:?}");
        assert_eq!(times.max, 1000.0);
    }

    #[test]
    fn what_ended_is_added_to_what_was_before() {
        let (past, ended) = (Stats::default(), Stats::default());
        past.count(Outcome::Left, Reason::Ignored);
        ended.count(Outcome::Left, Reason::Ignored);
        ended.count(Outcome::Denied, Reason::DenyRule);
        ended.count_continued();
        ended.count_parted();
        ended.set_waiting(3);
        ended.time_connect(Duration::from_micros(20));
        past.absorb(&ended);
        let snapshot = past.snapshot();
        assert_eq!(snapshot.reasons["left"]["ignored"], 2);
        assert_eq!(snapshot.reasons["denied"]["deny_rule"], 1);
        assert_eq!((snapshot.continued, snapshot.parted, past.waiting()), (1, 1, 0));
        assert_eq!((snapshot.connect_us.count, snapshot.connect_us.max), (1, 20.0));
        assert_eq!(past.connect_times(), ended.connect_times());
    }

    #[test]
    fn a_distribution_counts_what_is_shorter_than_each_bound() {
        let stats = Stats::default();
        for nanos in [1, 4095, 4096, 8191, 8192, 1 << 40] {
            stats.time_connect(Duration::from_nanos(nanos));
        }
        let times = stats.connect_times();
        assert_eq!(times.count, 6);
        assert_eq!(times.sum, 1 + 4095 + 4096 + 8191 + 8192 + (1 << 40));
        assert_eq!(&times.shorter[..4], [2, 4, 5, 5]);
        assert_eq!(Distribution::BOUNDS[..2], [4096, 8192]);
        assert_eq!(Distribution::BOUNDS[13], 1 << 25);
    }

    proptest! {
        #[test]
        fn a_value_lies_in_its_bucket(nanos in 0u64..(1 << 36)) {
            let bucket = bucket_of(nanos);
            prop_assert!(bucket < BUCKETS);
            prop_assert!(upper_bound(bucket) >= nanos);
            prop_assert!(bucket == 0 || upper_bound(bucket - 1) < nanos);
        }

        #[test]
        fn any_duration_is_counted(nanos in any::<u64>()) {
            let histogram = Histogram::default();
            histogram.record(Duration::from_nanos(nanos));
            prop_assert_eq!(histogram.snapshot().count, 1);
        }
    }
}
