//! A process that belongs to a test, and the clock that processes share.

use std::process::Child;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use rustix::time::{ClockId, clock_gettime};

/// A child that doesn't outlive its owner, not even when it is stopped or its start is cancelled.
#[derive(Debug)]
pub(crate) struct Process(pub(crate) Child);

impl Process {
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    /// Freezes it, and waits until it is.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
        // A signal is only on its way when `kill_process` returns. `NOWAIT` leaves the news to be
        // read again, so that a second pause doesn't wait for ever.
        let stopped = WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(self.pid()), stopped).expect("the process stops");
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the process takes signals");
    }
}

impl Process {
    /// Ends it, also if it is frozen.
    pub(crate) fn kill(&mut self) {
        // Both fail only when the process is gone already. Waiting takes a few milliseconds, and
        // makes sure that the ports are free when this returns.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The machine's monotonic clock: unlike an `Instant`, what one process reads can be compared with
/// what another reads.
pub fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    let (secs, nanos) = (u64::try_from(now.tv_sec), u32::try_from(now.tv_nsec));
    Duration::new(secs.unwrap_or_default(), nanos.unwrap_or_default())
}
