//! Which runs show what stops an attack.

use serde_json::Value;

use super::{Attack, Environment, Field, Layer, Reach};
use crate::failure::Result;

/// What came of an attack in an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// There is nothing to attack from: no port is published.
    Nowhere,
    /// The running kernel does not have what it takes, with or without us.
    NotInKernel,
    /// It gets through.
    Reached(Reach),
    /// It does not: each of these layers stops it alone.
    Stopped(Vec<Layer>),
    /// It does not: none of these layers stops it alone, all of them together do.
    StoppedTogether(Vec<Layer>),
    /// It does not, by what the kernel has for everybody.
    StoppedBy(&'static str),
    /// It does not, and neither does it with the layers off, as [its reason](field@Attack::never) explains.
    Never,
    /// It cannot be tried there: this call fails, whatever is switched off.
    NotTried(String),
    /// It does not, and neither does it with the layers off that are said to stop it: nothing is
    /// shown by this.
    NotShown(String),
}

/// How often a race is run that is to be won.
const TRIES: usize = 12;

/// Runs an attack as often as it takes.
///
/// # Errors
/// When a run is not possible.
pub fn judge(field: &Field<'_>, attack: &Attack, environment: Environment) -> Result<Verdict> {
    if attack.publishes && !environment.publishes() {
        return Ok(Verdict::Nowhere);
    }
    if let Some(reach) = field.run(attack, environment, &[])?.reach {
        return Ok(Verdict::Reached(reach));
    }
    let layers: Vec<Layer> = attack
        .layers
        .iter()
        .copied()
        .filter(|layer| field.has(attack, environment, *layer))
        .collect();
    let stopped_by = attack.kernel.filter(|_| layers.is_empty());
    let free = if stopped_by.is_some() { Environment::Host } else { environment };
    let mut run = field.run(attack, free, &layers)?;
    for _ in 1..TRIES {
        if !attack.races || run.reach.is_some() {
            break;
        }
        run = field.run(attack, free, &layers)?;
    }
    if run.reach.is_none() {
        let failed = run.said.iter().find_map(failed_call);
        return Ok(match failed {
            Some(call) if LACKS.iter().any(|errno| call.ends_with(errno)) => Verdict::NotInKernel,
            _ if attack.never.is_some() => Verdict::Never,
            Some(call) => Verdict::NotTried(call.to_owned()),
            None => Verdict::NotShown(run.excuse()),
        });
    }
    if let Some(what) = stopped_by {
        return Ok(Verdict::StoppedBy(what));
    }
    if layers.len() == 1 {
        return Ok(Verdict::Stopped(layers));
    }
    let mut alone = Vec::new();
    for layer in &layers {
        let others: Vec<Layer> = layers.iter().copied().filter(|other| other != layer).collect();
        if field.run(attack, environment, &others)?.reach.is_none() {
            alone.push(*layer);
        }
    }
    Ok(if alone.is_empty() { Verdict::StoppedTogether(layers) } else { Verdict::Stopped(alone) })
}

/// The call without which an attack cannot be tried.
fn failed_call(said: &Value) -> Option<&str> {
    let failed = said.get("outcome").is_some_and(|outcome| outcome == "could not try");
    said.get("why").and_then(Value::as_str).filter(|_| failed)
}

/// What calls that the kernel was built without fail with, where nothing of ours is in the way.
const LACKS: [&str; 4] = ["ENOENT", "ENOSYS", "ENOPROTOOPT", "EPROTONOSUPPORT"];
