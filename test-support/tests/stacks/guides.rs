//! The guides in docs/, as written.

use test_support::harness::Group;

pub(crate) const SCENARIOS: Group = ("guide", &[]);
