//! What was measured again and again: its median, and how far it spreads.

/// Figures of one thing, measured many times.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// None yet.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// One more.
    pub fn push(&mut self, sample: f64) {
        self.0.push(sample);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The median; NaN if there is none.
    pub fn median(&self) -> f64 {
        self.at(0.5)
    }

    /// What so large a share of them, 0.0 to 1.0, doesn't exceed; NaN if there is none.
    pub fn at(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "there are few"
        )]
        let at = (sorted.len() as f64 * share) as usize;
        sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    }

    /// Each without its counterpart in `others`, which was measured in the same round.
    #[must_use]
    pub fn minus(&self, others: &Self) -> Self {
        Self(self.0.iter().zip(&others.0).map(|(one, other)| one - other).collect())
    }

    /// Each as a multiple of its counterpart in `others`, which was measured in the same round.
    #[must_use]
    pub fn relative_to(&self, others: &Self) -> Self {
        Self(self.0.iter().zip(&others.0).map(|(one, other)| one / other).collect())
    }

    /// The median, and the quartiles in brackets.
    pub fn show(&self, digits: usize) -> String {
        let [low, middle, high] = [0.25, 0.5, 0.75].map(|share| self.at(share));
        format!("{middle:.digits$} ({low:.digits$}–{high:.digits$})")
    }
}
