//! Rise and fall: how many answers in a row it takes to believe them.

/// The answers of one backend so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tally {
    rise: u32,
    fall: u32,
    is_healthy: bool,
    /// Whether it was put down before it was asked, so that its first answer decides.
    is_unchecked: bool,
    /// Answers in a row that say otherwise.
    contrary: u32,
}

impl Tally {
    /// After `rise` and `fall` in a row; at first it `is_healthy` or isn't.
    pub(crate) fn new(rise: u32, fall: u32, is_healthy: bool) -> Self {
        Self { rise, fall, is_healthy, is_unchecked: !is_healthy, contrary: 0 }
    }

    /// Takes an answer into account. Says whether something is to be made of it.
    pub(crate) fn take(&mut self, passed: bool) -> bool {
        let is_first = std::mem::take(&mut self.is_unchecked);
        if passed == self.is_healthy {
            self.contrary = 0;
            // One that was down untried is down for a reason now.
            return is_first;
        }
        self.contrary += 1;
        let needed = if passed { self.rise } else { self.fall };
        if !is_first && self.contrary < needed {
            return false;
        }
        self.is_healthy = passed;
        self.contrary = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_answer_of_one_that_was_unchecked_decides() {
        let mut tally = Tally::new(3, 3, false);
        assert!(tally.take(true) && tally.is_healthy);
        let mut tally = Tally::new(3, 3, false);
        assert!(tally.take(false) && !tally.is_healthy);
        assert_eq!([true, true, true].map(|it| tally.take(it)), [false, false, true]);
    }

    proptest! {
        #[test]
        fn it_changes_after_as_many_in_a_row_and_never_sooner(
            (rise, fall) in (1u32..5, 1u32..5),
            answers in prop::collection::vec(any::<bool>(), 0..200),
        ) {
            let mut tally = Tally::new(rise, fall, true);
            for (at, answer) in answers.iter().enumerate() {
                let before = tally.is_healthy;
                let changed = tally.take(*answer);
                prop_assert_eq!(changed, before != tally.is_healthy);
                let run = answers[..=at].iter().rev().take_while(|it| *it == answer).count();
                let needed = if *answer { rise } else { fall } as usize;
                if run >= needed {
                    prop_assert_eq!(tally.is_healthy, *answer);
                }
                if changed {
                    prop_assert_eq!(run, needed);
                }
            }
        }
    }
}
