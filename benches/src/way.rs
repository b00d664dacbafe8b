//! A way of doing something, as often as one likes, to be measured.

use std::time::Duration;

use tokio::time::Instant;

/// A way of doing something.
pub trait Way {
    /// Does it `times` times, and says how long that took, preparations left out.
    fn time(&mut self, times: u32) -> Duration;

    /// Does it `times` times within [`counted`], preparations left out.
    fn count(&mut self, times: u32);

    /// Does it `times` times, and says how many allocations that took, preparations left out.
    #[cfg(feature = "allocations")]
    fn allocations(&mut self, times: u32) -> u64;
}

/// A way of which each operation consumes an input that takes time to make.
#[derive(Debug)]
pub struct With<P, R> {
    /// Makes an input.
    pub prepare: P,
    /// Consumes one.
    pub run: R,
}

impl<I, P: FnMut() -> I, R: FnMut(I)> With<P, R> {
    fn inputs(&mut self, times: u32) -> Vec<I> {
        (0..times).map(|_| (self.prepare)()).collect()
    }
}

impl<I, P: FnMut() -> I, R: FnMut(I)> Way for With<P, R> {
    fn time(&mut self, times: u32) -> Duration {
        let inputs = self.inputs(times);
        let start = Instant::now();
        inputs.into_iter().for_each(&mut self.run);
        start.elapsed()
    }

    fn count(&mut self, times: u32) {
        let mut inputs = self.inputs(times);
        counted(&mut || inputs.drain(..).for_each(&mut self.run));
    }

    #[cfg(feature = "allocations")]
    fn allocations(&mut self, times: u32) -> u64 {
        let inputs = self.inputs(times);
        allocation_counter::measure(|| inputs.into_iter().for_each(&mut self.run)).count_total
    }
}

/// Does it. A tool that counts instructions finds by the name of this function what it shall count.
#[inline(never)]
pub fn counted(operations: &mut dyn FnMut()) {
    operations();
}
