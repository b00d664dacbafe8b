//! Following the announcements, and knowing when some may have been missed.

use std::collections::HashMap;
use std::future::pending;
use std::iter;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use fred::error::Error;
use fred::interfaces::{ClientLike, EventInterface, PubsubInterface};
use fred::prelude::Server;
use fred::types::{ClusterStateChange, Message};
use futures_util::FutureExt;
use futures_util::future::select_all;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::beats::{Beats, NOTICED};
use super::connection::Connection;
use super::link::Link;
use crate::error::RemoteError;
use crate::remote::Listener;

/// How long to wait before trying again to follow.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// After how many failures to catch up the connections are made anew: they may look alive and not be,
/// or lead to a server that has become a replica.
const FAILURES: u32 = 5;

/// How often to see whether the store is still there, while there is no connection.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Follows the announcements of one connection for one listener.
pub(super) struct Follower {
    /// Weak, so that dropping the store ends the task.
    connection: Weak<Connection>,
    listener: Arc<dyn Listener>,
    channel: String,
    beats: Beats,
    beat_every: Duration,
    /// What the data of the servers descended from, when they were heard last.
    histories: HashMap<String, String>,
}

/// What became of an attempt to follow.
struct Followed {
    in_step: bool,
    /// Breaks if the link isn't to be used any more.
    ended: ControlFlow<()>,
}

/// What is heard of a link.
struct Ears {
    messages: Receiver<Message>,
    troubles: Troubles,
}

/// What is heard of its connections, those for operations in their order: also there, the server may
/// have been replaced by one that knows less.
struct Troubles {
    errors: Vec<Receiver<(Error, Option<Server>)>>,
    changes: Vec<Receiver<Vec<ClusterStateChange>>>,
}

impl Ears {
    fn of(link: &Link) -> Self {
        Self {
            messages: link.subscriber.message_rx(),
            troubles: Troubles {
                errors: iter::once(link.subscriber.error_rx())
                    .chain(link.pool.clients().map(EventInterface::error_rx))
                    .collect(),
                changes: link.pool.clients().map(EventInterface::cluster_change_rx).collect(),
            },
        }
    }
}

impl Troubles {
    /// Waits until something may have been missed. Breaks if the link isn't to be used any more.
    async fn next(&mut self, link: &Link) -> ControlFlow<()> {
        let errors = self.errors.iter_mut().map(|errors| {
            let next = async { of_error(&errors.recv().await) };
            next.boxed()
        });
        let changes = self.changes.iter_mut().enumerate().map(|(number, changes)| {
            let next = async move {
                loop {
                    let change = changes.recv().await;
                    link.pool.inform(number);
                    match change {
                        // Slots that move from one primary to another take nothing along but their
                        // keys.
                        Ok(changes) if changes.iter().all(is_rebalance) => {}
                        _ => return ControlFlow::Continue(()),
                    }
                }
            };
            next.boxed()
        });
        select_all(errors.chain(changes)).await.0
    }
}

impl Follower {
    pub(super) fn new(connection: &Arc<Connection>, listener: Arc<dyn Listener>) -> Self {
        let channel = connection.channel();
        Self {
            connection: Arc::downgrade(connection),
            listener,
            beats: Beats::new(format!("{channel}:{:016x}", fastrand::u64(..))),
            channel,
            beat_every: connection.heartbeat,
            histories: HashMap::new(),
        }
    }

    /// Subscribes, lets the listener catch up, hands on what arrives, and begins again when the
    /// connection was lost; for as long as it is in use.
    pub(super) async fn run(mut self) {
        let _ended = Ended(Weak::clone(&self.connection));
        let mut failures = 0;
        loop {
            let Some((connection, link)) = self.connected().await else { return };
            let mut ears = Ears::of(&link);
            let begun = self.begin(&connection, &link).await;
            drop(connection);
            let followed = match begun {
                Ok(()) => self.follow(&link, &mut ears).await,
                Err(error) => {
                    tracing::debug!(%error, "not yet in touch with the second tier");
                    Followed { in_step: false, ended: ControlFlow::Continue(()) }
                }
            };
            failures = if followed.in_step { 0 } else { failures + 1 };
            let Some(connection) = self.connection.upgrade() else { return };
            if followed.ended.is_break() || failures > 0 && failures % FAILURES == 0 {
                connection.link.renew(&link);
            }
            drop((connection, link, ears));
            if !followed.in_step {
                sleep(soon()).await;
            }
        }
    }

    /// Subscribes, and finds out whether the servers are those that they were.
    async fn begin(&mut self, connection: &Connection, link: &Link) -> Result<(), RemoteError> {
        // What was told before is dealt with.
        let _ = connection.demoted.notified().now_or_never();
        let channels = vec![self.channel.clone(), self.beats.channel().to_owned()];
        connection.within_deadline(link.subscriber.subscribe(channels)).await?;
        let histories = self.beats.begin(connection, link).await?;
        if histories != self.histories || histories.values().any(String::is_empty) {
            self.listener.replaced();
            self.histories = histories;
        }
        Ok(())
    }

    /// Lets the listener catch up, and hands on what arrives, meanwhile and from then on.
    async fn follow(&mut self, link: &Arc<Link>, ears: &mut Ears) -> Followed {
        let (begun, caught_up) = (Instant::now(), catch_up(Arc::clone(&self.listener)));
        let mut followed = Followed { in_step: false, ended: ControlFlow::Break(()) };
        match self.hand_on(link, ears, caught_up).await {
            Ok(true) => {
                let Some(connection) = self.connection.upgrade() else { return followed };
                // The listener has asked since for what may have been missed.
                self.confirm(begun.elapsed());
                connection.synced.store(true, Ordering::Release);
                drop(connection);
                followed.in_step = true;
                let (Err(ended) | Ok(ended)) = self.hand_on(link, ears, pending()).await;
                followed.ended = ended;
            }
            Ok(false) => {}
            Err(ended) => followed.ended = ended,
        }
        if let Some(connection) = self.connection.upgrade() {
            connection.synced.store(false, Ordering::Release);
            self.listener.lost();
        }
        followed
    }

    /// Waits for all connections of the link; `None` once the store is gone.
    async fn connected(&self) -> Option<(Arc<Connection>, Arc<Link>)> {
        loop {
            let link = self.connection.upgrade()?.link.get();
            let all = async {
                link.subscriber.wait_for_connect().await.is_ok()
                    && link.pool.wait_for_connect().await.is_ok()
            };
            // Not for ever: one that has been given up says no more.
            let connected = timeout(LOOK_EVERY, all).await;
            let connection = self.connection.upgrade()?;
            if connected == Ok(true) {
                return Some((connection, link));
            }
            if link.is_over() {
                sleep(TRY_AGAIN_AFTER).await;
                connection.link.renew(&link);
            }
        }
    }

    /// Hands on what arrives, until `meanwhile` is done, or some may have been missed. Breaks if the
    /// link isn't to be used any more.
    async fn hand_on<T>(
        &mut self,
        link: &Arc<Link>,
        ears: &mut Ears,
        meanwhile: impl Future<Output = T>,
    ) -> Result<T, ControlFlow<()>> {
        let mut meanwhile = pin!(meanwhile);
        let mut ticks = interval(self.beat_every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let Some(demoted) = self.connection.upgrade().map(|it| Arc::clone(&it.demoted)) else {
            return Err(ControlFlow::Break(()));
        };
        let Ears { messages, troubles } = ears;
        let mut trouble = pin!(troubles.next(link));
        let mut check: Option<JoinHandle<()>> = None;
        loop {
            tokio::select! {
                done = &mut meanwhile => return Ok(done),
                message = messages.recv() => match message {
                    Ok(message) => self.hear(&message),
                    Err(RecvError::Lagged(_)) => return Err(ControlFlow::Continue(())),
                    Err(RecvError::Closed) => return Err(ControlFlow::Break(())),
                },
                ended = &mut trouble => return Err(ended),
                () = demoted.notified() => return Err(ControlFlow::Break(())),
                _ = ticks.tick() => {
                    let Some(connection) = self.connection.upgrade() else {
                        return Err(ControlFlow::Break(()));
                    };
                    if let Err(way) = self.beats.send(&connection, link) {
                        tracing::debug!(way, "beats don't come back");
                        return Err(ControlFlow::Break(()));
                    }
                    if check.as_ref().is_none_or(JoinHandle::is_finished) {
                        check = Some(tokio::spawn(check_some(Arc::clone(&self.listener))));
                    }
                }
            }
        }
    }

    /// What was announced until `age` ago has arrived.
    fn confirm(&self, age: Duration) {
        self.listener.confirmed(age, self.beat_every.saturating_mul(NOTICED));
    }

    fn hear(&mut self, message: &Message) {
        let Some(bytes) = message.value.as_bytes() else { return };
        if *message.channel == *self.channel {
            self.beats.heard_other();
            self.listener.heard(bytes);
        } else if *message.channel == *self.beats.channel()
            && let Some(age) = self.beats.heard(&String::from_utf8_lossy(bytes))
        {
            self.confirm(age);
        }
    }
}

async fn check_some(listener: Arc<dyn Listener>) {
    if let Err(error) = listener.check().await {
        tracing::debug!(%error, "what is known here couldn't be checked");
    }
}

/// Whether the listener has caught up. Where one attempt fails, the next goes on: what is announced
/// in between is handed on.
async fn catch_up(listener: Arc<dyn Listener>) -> bool {
    for _ in 0..FAILURES {
        match listener.regained().await {
            Ok(()) => return true,
            Err(error) => tracing::debug!(%error, "not yet in step with the second tier"),
        }
        sleep(soon()).await;
    }
    false
}

/// Not all nodes at once.
fn soon() -> Duration {
    TRY_AGAIN_AFTER.mul_f64(0.5 + fastrand::f64())
}

/// fred mends what it reports. What was said meanwhile is lost.
fn of_error<T>(error: &Result<T, RecvError>) -> ControlFlow<()> {
    match error {
        Err(RecvError::Closed) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    }
}

fn is_rebalance(change: &ClusterStateChange) -> bool {
    *change == ClusterStateChange::Rebalance
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
