//! Following the announcements, and knowing when some may have been missed.
//!
//! A connection that has died without a word (a firewall that forgot it, a server that hangs) looks
//! like one on which nobody announces anything. So each node sends itself a beat now and then,
//! through the server, by the way that announcements take.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use fred::clients::{Client, SubscriberClient};
use fred::interfaces::{ClientLike, EventInterface, PubsubInterface};
use fred::types::Message;
use futures_util::{FutureExt, join};
use tokio::sync::Notify;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Connection;
use crate::error::RemoteError;
use crate::remote::Listener;

/// How long to wait before trying again to follow.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// After how many failures to catch up the connections are made anew: they may look alive and not be,
/// or lead to a server that has become a replica.
const FAILURES: u32 = 5;

/// How often to see whether the store is still there, while there is no connection.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How many beats in a row may be missed.
const MISSED_BEATS: u32 = 2;

/// Follows the announcements of one connection for one listener.
pub(super) struct Follower {
    /// Weak, so that dropping the store ends the task.
    connection: Weak<Connection>,
    client: Client,
    subscriber: SubscriberClient,
    listener: Arc<dyn Listener>,
    channel: String,
    /// Told when the server turns out to be none that can be written to.
    demoted: Arc<Notify>,
    /// The channel of this node's beats.
    beats: String,
    beat_every: Duration,
}

impl Follower {
    pub(super) fn new(connection: &Arc<Connection>, listener: Arc<dyn Listener>) -> Self {
        let channel = connection.channel();
        Self {
            connection: Arc::downgrade(connection),
            client: connection.client.clone(),
            subscriber: connection.subscriber.clone(),
            listener,
            demoted: Arc::clone(&connection.demoted),
            beats: format!("{channel}:{:016x}", fastrand::u64(..)),
            channel,
            beat_every: connection.heartbeat,
        }
    }

    /// Subscribes, lets the listener catch up, hands on what arrives, and begins again when the
    /// connection was lost; for as long as it is in use.
    pub(super) async fn run(self) {
        let _ended = Ended(Weak::clone(&self.connection));
        let mut messages = self.subscriber.message_rx();
        let mut failures = 0;
        loop {
            let Some(connection) = self.connected().await else { return };
            let mut errors = self.subscriber.error_rx();
            let caught_up = match self.subscribe(&connection).await {
                Ok(()) => self.listener.regained().await,
                Err(error) => Err(error),
            };
            if let Err(error) = caught_up {
                tracing::debug!(%error, "not yet in step with the second tier");
                failures += 1;
                if failures % FAILURES == 0 {
                    self.reconnect(&connection).await;
                }
                drop(connection);
                tokio::time::sleep(TRY_AGAIN_AFTER).await;
                continue;
            }
            failures = 0;
            // What was told before is dealt with.
            let _ = self.demoted.notified().now_or_never();
            connection.synced.store(true, Ordering::Release);
            drop(connection);
            tracing::debug!("in step with the second tier");
            let ended = self.hand_on(&mut messages, &mut errors).await;
            let Some(connection) = self.connection.upgrade() else { return };
            connection.synced.store(false, Ordering::Release);
            if ended.is_break() {
                return;
            }
            tracing::warn!("out of step with the second tier: announcements may be missed");
            self.listener.lost();
        }
    }

    async fn subscribe(&self, connection: &Connection) -> Result<(), RemoteError> {
        let channels = vec![self.channel.clone(), self.beats.clone()];
        connection.within_deadline(self.subscriber.subscribe(channels)).await
    }

    /// Waits for both connections; `None` once the store is gone.
    async fn connected(&self) -> Option<Arc<Connection>> {
        loop {
            let both = async {
                self.subscriber.wait_for_connect().await.is_ok()
                    && self.client.wait_for_connect().await.is_ok()
            };
            // Not for ever: a client that is told to quit while it isn't connected says no more.
            let connected = timeout(LOOK_EVERY, both).await;
            let connection = self.connection.upgrade()?;
            match connected {
                Ok(true) => return Some(connection),
                Ok(false) => return None,
                Err(_) => {}
            }
        }
    }

    /// Hands on what arrives, until some may have been missed; or for good, if there is nothing to
    /// follow any more.
    async fn hand_on(
        &self,
        messages: &mut Receiver<Message>,
        errors: &mut Receiver<impl Clone>,
    ) -> ControlFlow<()> {
        let mut beats = interval(self.beat_every);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut unanswered = 0;
        loop {
            tokio::select! {
                message = messages.recv() => match message {
                    Ok(message) => {
                        // Whatever it is, it came by this connection.
                        unanswered = 0;
                        if *message.channel == *self.channel
                            && let Some(bytes) = message.value.as_bytes()
                        {
                            self.listener.heard(bytes);
                        }
                    }
                    Err(RecvError::Lagged(_)) => return ControlFlow::Continue(()),
                    Err(RecvError::Closed) => return ControlFlow::Break(()),
                },
                error = errors.recv() => return match error {
                    Err(RecvError::Closed) => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                },
                () = self.demoted.notified() => {
                    let Some(connection) = self.connection.upgrade() else {
                        return ControlFlow::Break(());
                    };
                    self.reconnect(&connection).await;
                    return ControlFlow::Continue(());
                }
                _ = beats.tick() => {
                    let Some(connection) = self.connection.upgrade() else {
                        return ControlFlow::Break(());
                    };
                    if unanswered > MISSED_BEATS {
                        connection.synced.store(false, Ordering::Release);
                        self.reconnect(&connection).await;
                        return ControlFlow::Continue(());
                    }
                    unanswered += 1;
                    self.beat();
                }
            }
        }
    }

    /// Sends a beat. Not waited for: what arrives must be handed on meanwhile.
    fn beat(&self) {
        let (client, channel) = (self.client.clone(), self.beats.clone());
        tokio::spawn(async move { client.publish::<(), _, _>(channel, "").await });
    }

    /// Gives up both connections: one of them looks alive and isn't, and by a beat that gets lost
    /// nobody can tell which.
    async fn reconnect(&self, connection: &Connection) {
        tracing::debug!("the connections are made anew");
        // What comes of it shows in the next round.
        let both =
            async { join!(self.subscriber.force_reconnection(), self.client.force_reconnection()) };
        let _ = timeout(connection.deadline, both).await;
    }
}

/// Whatever ends a follower, a panic of the listener among it: nobody follows any more.
struct Ended(Weak<Connection>);

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some(connection) = self.0.upgrade() {
            connection.synced.store(false, Ordering::Release);
        }
    }
}
