//! Conditions on arguments as sets, to cut one out of another.
//!
//! libseccomp takes one comparison of each argument in a rule, and rules of one call are to be
//! disjoint, since which of two prevails differs between its versions. So what remains of a set is
//! said by several disjoint rules, each of which fixes some bits (`SCMP_CMP_MASKED_EQ`):
//!
//! ```text
//! all but 0b10:   ..0x  and  ..11
//! ```
//!
//! Only the lower halves of arguments are cut, which is all that the kernel reads of an `int`, and
//! all that a 32-bit architecture has: there libseccomp drops the upper half of a mask, and what
//! it would leave matches everything.

use super::model::{Arg, ArgIndex, Op};
use crate::filter::When;

/// Calls whose arguments fulfil all of this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Region([Limit; 6]);

/// What one argument may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Limit {
    #[default]
    Any,
    /// The bits under the mask are these.
    Bits {
        mask: u64,
        value: u64,
    },
    Not(u64),
    /// An ordering, which is carried along and cannot be cut.
    Ordered(Arg),
}

/// Conditions of the base and of ours on the same argument that no rule can say together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inexpressible;

const LOWER: u64 = u32::MAX as u64;

impl Region {
    /// The sets that an entry's conditions stand for. All of them must hold, but where an argument is
    /// named twice, runtimes make each condition a rule of its own.
    pub(super) fn of(args: &[Arg]) -> Vec<Self> {
        let twice = args
            .iter()
            .enumerate()
            .any(|(at, arg)| args.iter().skip(at + 1).any(|b| b.index == arg.index));
        let one = |args: &[Arg]| {
            let mut region = Self::default();
            for arg in args {
                if let Some(limit) = region.0.get_mut(position(arg.index.get())) {
                    *limit = Limit::of(arg);
                }
            }
            region
        };
        if twice { args.chunks(1).map(one).collect() } else { vec![one(args)] }
    }

    /// That part of it where all of these hold.
    pub(super) fn within(self, when: &[When]) -> Result<Vec<Self>, Inexpressible> {
        when.iter().try_fold(vec![self], |regions, when| {
            let parts = regions.into_iter().map(|region| region.each(*when, Limit::within));
            Ok(parts.collect::<Result<Vec<_>, _>>()?.concat())
        })
    }

    /// That part of it where any of these does not hold.
    pub(super) fn without(self, when: &[When]) -> Result<Vec<Self>, Inexpressible> {
        let mut rest = vec![self];
        let mut out = Vec::new();
        for when in when {
            let mut inside = Vec::new();
            for region in rest {
                out.extend(region.each(*when, Limit::without)?);
                inside.extend(region.each(*when, Limit::within)?);
            }
            rest = inside;
        }
        Ok(out)
    }

    /// Whether some call may be in both. An ordering may be fulfilled by anything.
    pub(super) fn may_meet(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(a, b)| a.may_meet(*b))
    }

    /// That part of it that is not in the other, where the other fixes bits only.
    pub(super) fn minus(self, other: &Self) -> Result<Vec<Self>, Inexpressible> {
        if !self.may_meet(other) {
            return Ok(vec![self]);
        }
        let mut conditions = Vec::new();
        for (arg, limit) in (0..).zip(&other.0) {
            match *limit {
                Limit::Any => {}
                Limit::Bits { mask, value } if mask <= LOWER => {
                    conditions.push(When::Masked { arg, mask, value });
                }
                Limit::Bits { .. } | Limit::Not(_) | Limit::Ordered(_) => {
                    return Err(Inexpressible);
                }
            }
        }
        self.without(&conditions)
    }

    pub(super) fn args(&self) -> Vec<Arg> {
        (0..).zip(&self.0).filter_map(|(index, limit)| limit.arg(index)).collect()
    }

    fn each(
        self,
        when: When,
        of: fn(Limit, When) -> Result<Vec<Limit>, Inexpressible>,
    ) -> Result<Vec<Self>, Inexpressible> {
        let at = match when {
            When::Masked { arg, .. } | When::NonZero { arg } => position(arg),
        };
        let limit = self.0.get(at).copied().ok_or(Inexpressible)?;
        let with = |limit| {
            let mut region = self;
            if let Some(place) = region.0.get_mut(at) {
                *place = limit;
            }
            region
        };
        Ok(of(limit, when)?.into_iter().map(with).collect())
    }
}

impl Limit {
    fn of(arg: &Arg) -> Self {
        match arg.op {
            Op::Eq => Self::Bits { mask: u64::MAX, value: arg.value },
            Op::Ne => Self::Not(arg.value),
            Op::MaskedEq => Self::Bits { mask: arg.value, value: arg.value_two },
            Op::Lt | Op::Le | Op::Ge | Op::Gt => Self::Ordered(*arg),
        }
    }

    fn within(self, when: When) -> Result<Vec<Self>, Inexpressible> {
        match (self, when) {
            (Self::Any, When::NonZero { .. }) => Ok(vec![Self::Not(0)]),
            (Self::Any, When::Masked { mask, value, .. }) => Ok(vec![Self::Bits { mask, value }]),
            (Self::Bits { mask, value }, When::Masked { mask: m, value: v, .. }) => {
                let meets = (value ^ v) & mask & m == 0;
                Ok(if meets {
                    vec![Self::Bits { mask: mask | m, value: value | v }]
                } else {
                    vec![]
                })
            }
            (Self::Not(not), When::Masked { mask, value, .. }) if not & mask != value => {
                Ok(vec![Self::Bits { mask, value }])
            }
            (Self::Not(not), When::Masked { .. }) => Self::all_but(not, when, Self::within),
            _ => Err(Inexpressible),
        }
    }

    fn without(self, when: When) -> Result<Vec<Self>, Inexpressible> {
        match (self, when) {
            (Self::Any, When::NonZero { .. }) => Ok(vec![Self::Bits { mask: u64::MAX, value: 0 }]),
            (Self::Any, When::Masked { .. }) => Self::Bits { mask: 0, value: 0 }.without(when),
            (Self::Bits { mask, value }, When::Masked { mask: m, value: v, .. }) => {
                if (value ^ v) & mask & m != 0 {
                    return Ok(vec![self]);
                }
                // What differs first, from the highest bit that this one leaves open.
                let mut parts = Vec::new();
                let (mut mask, mut value) = (mask, value);
                let open = m & !mask;
                for bit in (0..32).rev().map(|at| 1_u64 << at).filter(|bit| open & bit != 0) {
                    parts.push(Self::Bits { mask: mask | bit, value: value | (!v & bit) });
                    (mask, value) = (mask | bit, value | (v & bit));
                }
                Ok(parts)
            }
            (Self::Not(not), When::Masked { .. }) => Self::all_but(not, when, Self::without),
            _ => Err(Inexpressible),
        }
    }

    /// A part of all values but one, whose lower half is taken for the whole.
    fn all_but(
        not: u64,
        when: When,
        part: fn(Self, When) -> Result<Vec<Self>, Inexpressible>,
    ) -> Result<Vec<Self>, Inexpressible> {
        if not > LOWER {
            return Err(Inexpressible);
        }
        let all = Self::Any.without(When::Masked { arg: 0, mask: LOWER, value: not })?;
        let parts = all.into_iter().map(|limit| part(limit, when));
        Ok(parts.collect::<Result<Vec<_>, _>>()?.concat())
    }

    fn may_meet(self, other: Self) -> bool {
        match (self, other) {
            (Self::Bits { mask, value }, Self::Bits { mask: m, value: v }) => {
                (value ^ v) & mask & m == 0
            }
            (Self::Bits { mask, value }, Self::Not(not))
            | (Self::Not(not), Self::Bits { mask, value }) => mask != u64::MAX || value != not,
            _ => true,
        }
    }

    fn arg(self, index: u32) -> Option<Arg> {
        let index = ArgIndex::try_from(index).ok()?;
        let arg = |op, value, value_two| Some(Arg { index, value, value_two, op });
        match self {
            Self::Any | Self::Bits { mask: 0, .. } => None,
            Self::Bits { mask: u64::MAX, value } => arg(Op::Eq, value, 0),
            Self::Bits { mask, value } => arg(Op::MaskedEq, mask, value),
            Self::Not(value) => arg(Op::Ne, value, 0),
            Self::Ordered(arg) => Some(arg),
        }
    }
}

fn position(index: u32) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}
