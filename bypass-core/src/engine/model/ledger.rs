//! Notifications: each is answered once, or waits, or is let go since nobody waits any more.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::engine::Answer;
use crate::engine::fake::{Fake, FakeNote};

pub(super) struct Ledger {
    next: u32,
    max_waiting: usize,
    /// Of calls that wait: whose they are.
    waiting: BTreeMap<u32, i32>,
    /// The answer that was given last.
    last: Option<(u32, Answer)>,
    /// The thread that made another call.
    forgotten: Option<i32>,
    dropped: Rc<RefCell<Vec<u32>>>,
}

impl Ledger {
    pub(super) fn new(max_waiting: usize) -> Self {
        Self {
            next: 0,
            max_waiting,
            waiting: BTreeMap::new(),
            last: None,
            forgotten: None,
            dropped: Rc::default(),
        }
    }

    /// A thread is in a call.
    pub(super) fn note(&mut self, tid: i32) -> FakeNote {
        let id = self.next;
        self.next += 1;
        self.forgotten = Some(tid);
        FakeNote { id, dropped: Rc::clone(&self.dropped) }
    }

    pub(super) fn answer_of(&self, id: u32) -> Option<Answer> {
        self.last.filter(|(of, _)| *of == id).map(|(_, answer)| answer)
    }

    /// The engine has been told of this one.
    pub(super) fn handled(&mut self, id: u32, tid: i32, k: &mut Fake) {
        let answers = std::mem::take(&mut k.answers);
        let mut own = answers.iter().filter(|(of, _)| *of == id);
        self.last = own.next().copied();
        assert!(own.next().is_none(), "answered twice");
        let others = answers.iter().filter(|(of, _)| *of != id).count();
        assert_eq!(others, 0, "a call answered another");
        let mut dropped = self.dropped.borrow_mut();
        let let_go = dropped.iter().position(|other| *other == id).map(|at| dropped.remove(at));
        match (self.last, let_go) {
            (Some(_), None) => {}
            (Some(_), Some(_)) => unreachable!("an answered one is not dropped"),
            (None, Some(_)) => assert!(k.strict.gone > 0, "{id}: let go, though its caller waits"),
            (None, None) => {
                // A thread is in one call at a time.
                self.waiting.retain(|other, of| *of != tid || dropped.contains(other));
                self.waiting.insert(id, tid);
            }
        }
    }

    /// After everything that the engine was told. `waiting` is how many it says that wait.
    pub(super) fn settle(&mut self, k: &mut Fake, waiting: usize, exited: bool) {
        for (id, _) in std::mem::take(&mut k.answers) {
            assert!(self.waiting.remove(&id).is_some(), "{id} is answered twice");
        }
        let mut exits = usize::from(exited);
        for id in self.dropped.borrow_mut().drain(..) {
            let tid = self.waiting.remove(&id);
            assert!(tid.is_some(), "{id} is let go after its answer");
            if tid != self.forgotten {
                assert!(exits > 0, "{id}: let go, though its caller waits");
                exits -= 1;
            }
        }
        self.forgotten = None;
        assert_eq!(self.waiting.len(), waiting, "neither answered nor waiting");
        assert!(waiting <= self.max_waiting, "more wait than may");
        assert_eq!(k.watched.len(), waiting, "each wait has its watch");
    }
}
