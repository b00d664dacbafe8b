//! When a connection is to go before its client wants it to: with its listener, or since that has
//! come to ask for more than the connection came in with.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::entry::Entry;
use crate::face::Face;

/// What is expected of connections. It is told again, though it is the same, when the listener has
/// another face.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Serving,
    /// They finish what they have, and close.
    Draining,
    /// They close at once.
    Over,
}

/// What a connection is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// To finish what it has, and close.
    Finish,
    /// To close at once.
    End,
}

/// Of one connection.
pub(crate) struct Departure {
    phase: watch::Receiver<Phase>,
    face: Arc<ArcSwap<Face>>,
    entry: Entry,
    /// When it ends that has no place here any more, whatever it does.
    end: Option<Instant>,
}

impl Departure {
    pub(crate) fn new(
        phase: watch::Receiver<Phase>,
        face: Arc<ArcSwap<Face>>,
        entry: Entry,
    ) -> Self {
        Self { phase, face, entry, end: None }
    }

    /// What it is to do at its beginning, if not to serve: what is told from here on is heard.
    pub(crate) fn at_first(&mut self) -> Option<Order> {
        let phase = *self.phase.borrow_and_update();
        self.judge(phase)
    }

    /// Waits until there is something to do. It can be given up at any time.
    pub(crate) async fn order(&mut self) -> Order {
        loop {
            let end = self.end;
            tokio::select! {
                changed = self.phase.changed() => {
                    if changed.is_err() {
                        return Order::End;
                    }
                    let phase = *self.phase.borrow();
                    if let Some(order) = self.judge(phase) {
                        return order;
                    }
                }
                () = sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => {
                    return Order::End;
                }
            }
        }
    }

    fn judge(&mut self, phase: Phase) -> Option<Order> {
        match phase {
            Phase::Over => Some(Order::End),
            Phase::Draining => Some(Order::Finish),
            Phase::Serving if self.end.is_some() => None,
            Phase::Serving => {
                let face = self.face.load();
                if self.entry.is_welcome(&face.settings) {
                    return None;
                }
                let patience = face.state.config.server.drain_timeout;
                // One that can't be told is far enough.
                self.end = Instant::now().checked_add(patience);
                tracing::debug!(peer = %self.entry.peer, "a connection lacks what its listener asks for now");
                Some(Order::Finish)
            }
        }
    }
}
