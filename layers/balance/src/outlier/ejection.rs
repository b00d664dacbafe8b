//! How long an ejection lasts: the longer, the more there were; the shorter, the longer it went well.

use std::time::Duration;

use tokio::time::Instant;

use super::rate::Window;
use super::{Ejection, OutlierDetection};
use crate::span::after;

/// The ejections of one backend.
#[derive(Debug)]
pub(crate) struct Ejections {
    pub(crate) window: Window,
    /// How many count for the length of the next.
    times: u32,
    /// Since when it has gone well, but for what was made up for.
    well_since: Instant,
    current: Option<(Instant, Ejection)>,
}

impl Ejections {
    pub(crate) fn new(now: Instant) -> Self {
        Self { window: Window::default(), times: 0, well_since: now, current: None }
    }

    /// Until when, and why, if it is ejected.
    pub(crate) fn current(&self) -> Option<(Instant, Ejection)> {
        self.current
    }

    /// Ejects it. Says until when.
    pub(crate) fn eject(
        &mut self,
        why: Ejection,
        now: Instant,
        settings: &OutlierDetection,
    ) -> Instant {
        let well = now.saturating_duration_since(self.well_since);
        let windows = well.as_nanos() / settings.window.as_nanos().max(1);
        self.times = self.times.saturating_sub(u32::try_from(windows).unwrap_or(u32::MAX));
        // More would only have to be made up for, without having made it longer.
        let most = settings.longest.as_nanos().div_ceil(settings.base.as_nanos().max(1));
        self.times = (self.times + 1).min(u32::try_from(most).unwrap_or(u32::MAX));
        let until = after(now, self.length(settings));
        self.current = Some((until, why));
        until
    }

    fn length(&self, settings: &OutlierDetection) -> Duration {
        settings.base.saturating_mul(self.times).min(settings.longest)
    }

    /// Ends it, and forgets by what it was earned.
    pub(crate) fn end(&mut self, now: Instant) {
        self.current = None;
        self.well_since = now;
        self.window = Window::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Ejects after it has gone well for so many seconds, and says for how many.
    fn lengths(well: &[u32]) -> Vec<u64> {
        let settings = OutlierDetection::new();
        let mut now = Instant::now();
        let mut ejections = Ejections::new(now);
        let eject = |well: &u32| {
            now += SECOND * *well;
            let until = ejections.eject(Ejection::SuccessRate, now, &settings);
            let length = until - now;
            now = until;
            ejections.end(now);
            length.as_secs()
        };
        well.iter().map(eject).collect()
    }

    #[test]
    fn ejections_grow_to_their_maximum_and_shrink_with_good_conduct() {
        assert_eq!(lengths(&[0, 1, 9, 1]), [30, 60, 90, 120]);
        let grown = lengths(&[0; 15]);
        assert_eq!(grown[8..], [270, 300, 300, 300, 300, 300, 300]);
        assert_eq!(lengths(&[0, 0, 0, 10]), [30, 60, 90, 90], "one window was good");
        assert_eq!(lengths(&[0, 0, 0, 25]), [30, 60, 90, 60], "two were");
        assert_eq!(lengths(&[0, 0, 0, 3_600, 0]), [30, 60, 90, 30, 60]);
    }

    proptest! {
        #[test]
        fn an_ejection_lasts_at_least_the_base_and_at_most_the_maximum(
            well in prop::collection::vec(0u32..120, 1..40),
        ) {
            prop_assert!(lengths(&well).iter().all(|length| (30..=300).contains(length)));
        }
    }
}
