//! Figures of one kind, taken in turns with others.

use std::fmt;

/// One figure per turn, in the order of the turns.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Adds the figure of the next turn.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The figure in the middle, or the mean of the two there; NaN without any.
    #[must_use]
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        f64::midpoint(at(sorted.len().saturating_sub(1) / 2), at(sorted.len() / 2))
    }

    /// The smallest and the largest figure; infinite without any.
    #[must_use]
    pub fn spread(&self) -> (f64, f64) {
        let min = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        let max = self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        (min, max)
    }

    /// Turn by turn, this figure divided by that of `base`.
    ///
    /// What disturbs the machine for longer than a turn meets both, and cancels out.
    #[must_use]
    pub fn relative_to(&self, base: &Self) -> Self {
        self.0.iter().zip(&base.0).map(|(value, base)| value / base).collect()
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<T: IntoIterator<Item = f64>>(values: T) -> Self {
        Self(values.into_iter().collect())
    }
}

/// `median (min–max)`, with the precision that the formatter asks for.
impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        let (min, max) = self.spread();
        write!(f, "{:.digits$} ({min:.digits$}–{max:.digits$})", self.median())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f64]) -> Samples {
        values.iter().copied().collect()
    }

    #[test]
    fn median_of_odd_and_even_numbers() {
        assert!(samples(&[]).median().is_nan());
        assert_eq!(samples(&[3.0]).median(), 3.0);
        assert_eq!(samples(&[9.0, 1.0, 2.0]).median(), 2.0);
        assert_eq!(samples(&[4.0, 1.0, 9.0, 2.0]).median(), 3.0);
    }

    #[test]
    fn ratios_are_taken_turn_by_turn() {
        let (base, other) = (samples(&[1.0, 10.0, 2.0]), samples(&[2.0, 20.0, 4.0]));
        assert_eq!(other.relative_to(&base), samples(&[2.0, 2.0, 2.0]));
    }

    #[test]
    fn shows_median_and_spread() {
        assert_eq!(format!("{:.1}", samples(&[1.04, 3.0, 2.0])), "2.0 (1.0–3.0)");
    }
}
