//! Something scarce, divided so that whoever takes much leaves something for the others.
//!
//! Everybody has a few to begin with. Of the rest each may hold as many as are still free, so the first
//! may have half of all, two that take all they can get a third each, and so on. Nobody's part is
//! fixed, and nobody has to give anything back for somebody who comes later.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// All there is of it, but for what everybody has.
#[derive(Debug)]
pub(crate) struct Pool {
    free: AtomicUsize,
}

impl Pool {
    pub(crate) fn new(all: usize) -> Arc<Self> {
        Arc::new(Self { free: AtomicUsize::new(all) })
    }

    /// One more for somebody who holds so many.
    fn take(&self, held: usize) -> bool {
        let take = |free: usize| free.checked_sub(1).filter(|_| held < free);
        // Nothing else is told by it than how many there are.
        self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

/// What somebody holds. All of it comes back when this is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    pool: Arc<Pool>,
    own: usize,
    most: usize,
    held: usize,
}

impl Share {
    /// Nothing yet, and never more than `most`. The first `own` are not taken from the pool.
    pub(crate) fn new(pool: Arc<Pool>, own: usize, most: usize) -> Self {
        Self { pool, own, most, held: 0 }
    }

    /// One more; false if there is none for this one.
    #[must_use]
    pub(crate) fn take(&mut self) -> bool {
        let taken = self.held < self.most
            && (self.held < self.own || self.pool.take(self.held.saturating_sub(self.own)));
        self.held += usize::from(taken);
        taken
    }

    pub(crate) fn give_back(&mut self) {
        if self.held > self.own {
            self.pool.free.fetch_add(1, Ordering::Relaxed);
        }
        self.held = self.held.saturating_sub(1);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.pool.free.fetch_add(self.held.saturating_sub(self.own), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(share: &mut Share) -> usize {
        std::iter::repeat_with(|| share.take()).take_while(|taken| *taken).count()
    }

    #[test]
    fn the_first_gets_half_and_each_of_many_as_much_as_is_left() {
        let pool = Pool::new(120);
        let mut shares: Vec<Share> =
            (0..5).map(|_| Share::new(Arc::clone(&pool), 0, usize::MAX)).collect();
        assert_eq!(fill(&mut shares[0]), 60);
        let got: Vec<usize> = shares.iter_mut().skip(1).map(fill).collect();
        assert_eq!(got, [30, 15, 8, 4]);
        assert_eq!(pool.free.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn those_that_take_in_turn_get_the_same() {
        let pool = Pool::new(1_000);
        let mut shares: Vec<Share> =
            (0..4).map(|_| Share::new(Arc::clone(&pool), 0, usize::MAX)).collect();
        while shares.iter_mut().filter_map(|share| share.take().then_some(())).count() > 0 {}
        let held: Vec<usize> = shares.iter().map(|share| share.held).collect();
        assert_eq!(held, [200; 4]);
        assert_eq!(pool.free.load(Ordering::Relaxed), 200);
    }

    #[test]
    fn nobody_gets_more_than_the_most() {
        let mut share = Share::new(Pool::new(1_000), 0, 3);
        assert_eq!(fill(&mut share), 3);
        share.give_back();
        assert_eq!(fill(&mut share), 1);
    }

    #[test]
    fn everybody_has_a_few_however_much_others_took() {
        let pool = Pool::new(10);
        let mut shares: Vec<Share> = (0..9).map(|_| Share::new(Arc::clone(&pool), 4, 99)).collect();
        let got: Vec<usize> = shares.iter_mut().map(fill).collect();
        assert_eq!(got, [9, 7, 5, 5, 4, 4, 4, 4, 4]);
        for _ in 0..9 {
            shares[0].give_back();
        }
        assert_eq!(pool.free.load(Ordering::Relaxed), 5);
        drop(shares);
        assert_eq!(pool.free.load(Ordering::Relaxed), 10);
    }

    #[test]
    fn everything_comes_back() {
        let pool = Pool::new(10);
        let mut share = Share::new(Arc::clone(&pool), 0, usize::MAX);
        assert_eq!(fill(&mut share), 5);
        (0..9).for_each(|_| share.give_back());
        assert_eq!(fill(&mut share), 5);
        drop(share);
        assert_eq!(pool.free.load(Ordering::Relaxed), 10);
        assert!(!Share::new(Pool::new(0), 0, 1).take());
    }
}
