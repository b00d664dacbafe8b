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
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{MissedTickBehavior, interval};

use super::Connection;
use crate::error::RemoteError;
use crate::remote::Listener;

/// How long to wait before trying again to follow.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(200);

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
            beats: format!("{channel}:{:016x}", fastrand::u64(..)),
            channel,
            beat_every: connection.heartbeat,
        }
    }

    /// Subscribes, lets the listener catch up, hands on what arrives, and begins again when the
    /// connection was lost; for as long as it is in use.
    pub(super) async fn run(self) {
        let mut messages = self.subscriber.message_rx();
        loop {
            let Ok(()) = self.subscriber.wait_for_connect().await else { return };
            let Ok(()) = self.client.wait_for_connect().await else { return };
            let Some(connection) = self.connection.upgrade() else { return };
            let mut errors = self.subscriber.error_rx();
            let caught_up = match self.subscribe(&connection).await {
                Ok(()) => self.listener.regained().await,
                Err(error) => Err(error),
            };
            if let Err(error) = caught_up {
                tracing::debug!(%error, "not yet in step with the second tier");
                drop(connection);
                tokio::time::sleep(TRY_AGAIN_AFTER).await;
                continue;
            }
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
        let subscribed = connection.within_deadline(self.subscriber.subscribe(channels)).await;
        if let Err(RemoteError::Deadline) = subscribed {
            self.reconnect(connection).await;
        }
        subscribed
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

    /// Gives up the subscriber's connection, which looks alive and isn't.
    async fn reconnect(&self, connection: &Connection) {
        tracing::debug!("the announcements' connection doesn't answer");
        // What comes of it shows in the next round.
        let _ =
            tokio::time::timeout(connection.deadline, self.subscriber.force_reconnection()).await;
    }
}
