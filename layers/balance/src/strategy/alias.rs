//! A weighted choice at random in constant time: the alias method of Walker (1977), as Vose (1991)
//! builds it.
//!
//! Each backend has a column of equal height. What is light leaves room in its column, which is
//! filled with the excess of one that is heavy. So a draw is a column, and a height in it.

/// The columns.
#[derive(Debug)]
pub(crate) struct Alias(Box<[Column]>);

#[derive(Clone, Copy, Debug)]
struct Column {
    /// Below this height it is the column's own backend, above it the other.
    limit: u32,
    other: u32,
}

impl Alias {
    /// Of weights, none of which is 0.
    pub(crate) fn new(weights: &[u16]) -> Self {
        let total: f64 = weights.iter().copied().map(f64::from).sum();
        #[allow(clippy::cast_precision_loss, reason = "there are no 2^52 backends")]
        let count = weights.len() as f64;
        let heights = weights.iter().map(|weight| f64::from(*weight) * count / total);
        let mut heights: Vec<f64> = heights.collect();
        let mut columns: Vec<Column> = (0..heights.len())
            .map(|own| Column { limit: u32::MAX, other: u32::try_from(own).unwrap_or_default() })
            .collect();
        let (mut low, mut high): (Vec<usize>, Vec<usize>) =
            (0..heights.len()).partition(|own| heights[*own] < 1.0);
        while let (Some(light), Some(heavy)) = (low.pop(), high.last().copied()) {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0.0..1.0")]
            let limit = (heights[light] * f64::from(u32::MAX)) as u32;
            columns[light] = Column { limit, other: u32::try_from(heavy).unwrap_or_default() };
            heights[heavy] -= 1.0 - heights[light];
            if heights[heavy] < 1.0 {
                high.pop();
                low.push(heavy);
            }
        }
        Self(columns.into())
    }

    /// One of them, by 64 random bits.
    pub(crate) fn draw(&self, dice: u64) -> usize {
        let column = ((dice >> 32) * self.0.len() as u64) >> 32;
        #[allow(clippy::cast_possible_truncation, reason = "the lower half")]
        let height = dice as u32;
        let column = usize::try_from(column).unwrap_or_default();
        match self.0.get(column) {
            Some(Column { limit, other }) if height > *limit => *other as usize,
            _ => column,
        }
    }
}

#[cfg(test)]
#[allow(clippy::cast_precision_loss, reason = "small numbers")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_columns_hold_what_the_weights_say(weights in prop::collection::vec(1u16.., 1..50)) {
            let alias = Alias::new(&weights);
            let mut shares = vec![0f64; weights.len()];
            for (own, column) in alias.0.iter().enumerate() {
                let height = f64::from(column.limit) / f64::from(u32::MAX);
                shares[own] += height;
                shares[column.other as usize] += 1.0 - height;
            }
            let total: f64 = weights.iter().copied().map(f64::from).sum();
            for (share, weight) in shares.iter().zip(&weights) {
                let due = f64::from(*weight) / total * weights.len() as f64;
                prop_assert!((share - due).abs() < 1e-6, "{share} {due}");
            }
        }

        #[test]
        fn a_draw_is_one_of_them(weights in prop::collection::vec(1u16.., 1..50), dice: u64) {
            prop_assert!(Alias::new(&weights).draw(dice) < weights.len());
        }
    }
}
