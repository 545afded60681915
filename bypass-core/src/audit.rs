//! Who tried to reach what, and what was said: for whoever has to answer for it.
//!
//! Every judged destination makes one [`AuditRecord`]: each `connect` on an IP socket, and each
//! send that was denied. A container decides how often that is, so no more than a
//! [rate](AuditLimits) of them is told; how many were not stands in the next one. What is denied
//! counts apart, so that nobody hides it behind a flood of what is not.

use std::cell::RefCell;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::bucket::TokenBucket;
use crate::policy::{Decision, Rule, Verdict};
use crate::publish::Protocol;
use crate::{Outcome, Policy, Reason};

/// Where records go. It is called on the container's thread, which must not be made to wait.
pub trait AuditSink: fmt::Debug + Send + Sync {
    /// One judged destination: a `connect`, or a send from a UDP socket of the host that is trapped.
    fn record(&self, record: &AuditRecord<'_>);
}

/// One judged destination.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AuditRecord<'a> {
    /// When it was judged.
    pub time: SystemTime,
    /// The container, by the name it was attached with.
    pub container: &'a str,
    /// Who called. `None` if that could not be read in time.
    pub process: Option<&'a AuditedProcess>,
    /// What was called.
    pub call: AuditedCall,
    /// The socket's protocol; `None` for one that is never bypassed.
    pub protocol: Option<Protocol>,
    /// The destination in normal form, as it was judged.
    pub destination: SocketAddr,
    /// What the policy says.
    pub verdict: Verdict,
    /// The rule of the policy that matched.
    pub rule: Option<&'a Rule>,
    /// How the call ended. `None` for a connection that is still on its way.
    pub outcome: Option<Outcome>,
    /// Why it ended so.
    pub reason: Reason,
    /// Records of this container before this one that were more than the rate allows.
    pub suppressed: u64,
}

/// A process of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditedProcess {
    /// Its id, as the supervisor's process namespace has it.
    pub pid: i32,
    /// The name of the calling thread (`comm` in proc_pid_comm(5)), which it chooses itself.
    pub comm: String,
}

/// Calls that are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuditedCall {
    /// connect(2)
    Connect,
    /// sendto(2), sendmsg(2) or sendmmsg(2)
    Send,
}

impl AuditedCall {
    /// The name that logs use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Send => "send",
        }
    }
}

/// How many records a container may cause. Ten times as many as in a second may come at once; what is
/// beyond is left out, and counted in [`AuditRecord::suppressed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditLimits {
    /// In the long run, each second: of denied destinations, and again of all others.
    pub per_second: u32,
}

impl Default for AuditLimits {
    fn default() -> Self {
        Self { per_second: 100 }
    }
}

/// The records of one container.
#[derive(Debug)]
pub(crate) struct Auditor {
    container: String,
    sink: Arc<dyn AuditSink>,
    denied: RefCell<TokenBucket>,
    others: RefCell<TokenBucket>,
}

/// A record whose call has not ended.
#[derive(Debug)]
pub(crate) struct Pending {
    time: SystemTime,
    call: AuditedCall,
    protocol: Option<Protocol>,
    destination: SocketAddr,
    decision: Decision,
    suppressed: u64,
    process: Option<AuditedProcess>,
}

impl Auditor {
    pub(crate) fn new(container: String, sink: Arc<dyn AuditSink>, limits: AuditLimits) -> Self {
        let bucket = || RefCell::new(TokenBucket::per_second(limits.per_second, Instant::now()));
        Self { container, sink, denied: bucket(), others: bucket() }
    }

    /// `None` if there are too many.
    pub(crate) fn begin(
        &self,
        call: AuditedCall,
        protocol: Option<Protocol>,
        destination: SocketAddr,
        decision: Decision,
        process: impl FnOnce() -> Option<AuditedProcess>,
    ) -> Option<Pending> {
        let denied = matches!(decision.verdict, Verdict::Deny(_));
        let bucket = if denied { &self.denied } else { &self.others };
        let suppressed = bucket.borrow_mut().take(Instant::now())?;
        let time = SystemTime::now();
        let process = process();
        Some(Pending { time, call, protocol, destination, decision, suppressed, process })
    }

    pub(crate) fn end(&self, pending: &Pending, policy: &Policy, ended: Option<(Outcome, Reason)>) {
        let said = match pending.decision.verdict {
            Verdict::Bypass => Reason::Allowed,
            Verdict::Leave(reason) | Verdict::Deny(reason) => reason,
        };
        self.sink.record(&AuditRecord {
            time: pending.time,
            container: &self.container,
            process: pending.process.as_ref(),
            call: pending.call,
            protocol: pending.protocol,
            destination: pending.destination,
            verdict: pending.decision.verdict,
            rule: pending.decision.rule.and_then(|index| policy.rule(index)),
            outcome: ended.map(|(outcome, _)| outcome),
            reason: ended.map_or(said, |(_, reason)| reason),
            suppressed: pending.suppressed,
        });
    }
}
