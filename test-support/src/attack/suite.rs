//! Which runs show what stops an attack.

use super::{Attack, Environment, Field, Layer, Reach};
use crate::failure::Result;

/// What came of an attack in an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It cannot be tried there, for this reason.
    NotApplicable(String),
    /// It gets through.
    Reached(Reach),
    /// It does not: each of these layers stops it alone.
    Stopped(Vec<Layer>),
    /// It does not: none of these layers stops it alone, all of them together do.
    StoppedTogether(Vec<Layer>),
    /// It does not, by what the kernel has for everybody.
    StoppedBy(&'static str),
    /// It does not, and neither does it with the layers off that are said to stop it: nothing is
    /// shown by this.
    NotShown(String),
}

/// Runs an attack as often as it takes.
///
/// # Errors
/// When a run is not possible.
pub fn judge(field: &Field<'_>, attack: &Attack, environment: Environment) -> Result<Verdict> {
    if attack.publishes && !environment.publishes() {
        return Ok(Verdict::NotApplicable("nothing is published".to_owned()));
    }
    let run = |off: &[Layer]| field.run(attack, environment, off);
    if let Some(reach) = run(&[])?.reach {
        return Ok(Verdict::Reached(reach));
    }
    if let Some(what) = attack.kernel {
        let free = field.run(attack, Environment::Host, &[])?;
        return Ok(match free.reach {
            Some(_) => Verdict::StoppedBy(what),
            None => Verdict::NotShown(free.excuse()),
        });
    }
    let layers: Vec<Layer> =
        attack.layers.iter().copied().filter(|layer| environment.has(*layer)).collect();
    let free = run(&layers)?;
    if free.reach.is_none() {
        return Ok(Verdict::NotShown(free.excuse()));
    }
    if layers.len() == 1 {
        return Ok(Verdict::Stopped(layers));
    }
    let mut alone = Vec::new();
    for layer in &layers {
        let others: Vec<Layer> = layers.iter().copied().filter(|other| other != layer).collect();
        if run(&others)?.reach.is_none() {
            alone.push(*layer);
        }
    }
    Ok(if alone.is_empty() { Verdict::StoppedTogether(layers) } else { Verdict::Stopped(alone) })
}
