//! The task behind a watch: asks when something is announced, and from time to time.

use std::sync::Arc;
use std::time::Duration;

use fred::interfaces::{EventInterface, PubsubInterface};
use fred::types::Message;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::super::error::RegistryError;
use super::super::watch::Publisher;
use super::Inner;
use super::known::{Asked, Known};
use super::link::Link;
use super::listeners::leave;
use super::record::Answer;
use crate::backoff::{Waits, jittered};

/// How long to wait between two questions at least, and in between four times as long as the answer
/// took, so that many announcements are no burden.
const LEAST: Duration = Duration::from_millis(2);

/// And at most, where something is announced.
const LONGEST: Duration = Duration::from_millis(100);

/// How long to wait between two questions at most.
const MOST: Duration = Duration::from_secs(5);

pub(super) struct Watcher {
    inner: Arc<Inner>,
    service: String,
    channel: String,
    publisher: Arc<Publisher>,
    known: Known,
    waits: Waits,
    skipped: usize,
}

/// What is heard of a link.
struct Ears {
    link: Arc<Link>,
    messages: Receiver<Message>,
    reconnections: Receiver<fred::prelude::Server>,
}

impl Ears {
    fn of(link: Arc<Link>) -> Self {
        let (messages, reconnections) =
            (link.subscriber.message_rx(), link.subscriber.reconnect_rx());
        Self { link, messages, reconnections }
    }
}

impl Watcher {
    pub(super) fn new(inner: Arc<Inner>, service: String, publisher: Publisher) -> Self {
        let channel = inner.channel(&service);
        let waits = Waits::new(Duration::from_millis(50), Duration::from_secs(2));
        let (publisher, known) = (Arc::new(publisher), Known::new(inner.reconnect));
        Self { inner, service, channel, publisher, known, waits, skipped: 0 }
    }

    pub(super) async fn run(mut self) {
        self.inner.listeners.enter(&self.channel);
        self.watch().await;
        let Self { inner, channel, .. } = self;
        leave(inner, channel).await;
    }

    /// Until nobody wants to know any more.
    async fn watch(&mut self) {
        let publisher = Arc::clone(&self.publisher);
        let mut ears = Ears::of(self.inner.link.get());
        loop {
            let newest = self.inner.link.get();
            if !Arc::ptr_eq(&newest, &ears.link) {
                ears = Ears::of(newest);
            }
            let began = Instant::now();
            let wait = tokio::select! {
                wait = Self::ask(&self.inner, &self.service, &self.channel, &ears) => wait,
                () = publisher.closed() => return,
            };
            let wait = self.take(wait, began);
            let gap = (began.elapsed() * 4).clamp(LEAST, LONGEST);
            tokio::select! {
                () = self.listen(&mut ears, Instant::now() + wait) => {}
                () = publisher.closed() => return,
            }
            // More may be announced meanwhile, which one question answers.
            tokio::select! {
                () = sleep_until(began + gap) => {}
                () = publisher.closed() => return,
            }
            self.drain(&mut ears);
        }
    }

    /// Makes sure of the announcements first, so that nothing falls between them and the answer.
    async fn ask(
        inner: &Inner,
        service: &str,
        channel: &str,
        ears: &Ears,
    ) -> Result<Answer, RegistryError> {
        let subscribed = ears.link.subscriber.subscribe(channel);
        if let Err(error) = inner.link.within(&ears.link, subscribed).await {
            // The next question will answer what isn't announced.
            tracing::debug!(%error, "announcements of the registry don't arrive");
        }
        inner.ask(service).await
    }

    /// Says when to ask again.
    fn take(&mut self, answer: Result<Answer, RegistryError>, began: Instant) -> Duration {
        match answer {
            Ok(answer) => {
                self.waits.reset();
                // The same ones at each answer: they count when there are more of them.
                self.publisher.skipped(answer.skipped.saturating_sub(self.skipped));
                self.skipped = answer.skipped;
                let believed = self.known.learn(answer, Asked { began, ended: Instant::now() });
                self.publisher.publish(believed);
                // A moment after one expires, not before.
                let next = self.known.next().map(|next| next + LEAST);
                next.unwrap_or(MOST).min(jittered(MOST))
            }
            Err(error) => {
                self.known.lost();
                self.publisher.failed(error);
                self.waits.next(fastrand::f64())
            }
        }
    }

    /// Waits until something is announced, or may have been missed, or it is time.
    async fn listen(&mut self, ears: &mut Ears, until: Instant) {
        let listening = async {
            loop {
                tokio::select! {
                    message = ears.messages.recv() => match message {
                        Ok(message) => if self.hear(&message) { return },
                        Err(RecvError::Lagged(_)) => return,
                        Err(RecvError::Closed) => std::future::pending().await,
                    },
                    _ = ears.reconnections.recv() => return,
                }
            }
        };
        // If it is time, there is nothing more to do than if it was announced.
        let _ = timeout_at(until, listening).await;
    }

    fn drain(&mut self, ears: &mut Ears) {
        loop {
            match ears.messages.try_recv() {
                Ok(message) => {
                    self.hear(&message);
                }
                Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    /// Says whether it is about this service.
    fn hear(&mut self, message: &Message) -> bool {
        if *message.channel != *self.channel {
            return false;
        }
        let bytes = message.value.as_bytes().unwrap_or_default();
        if let Some(id) = bytes.strip_prefix(b"-").and_then(|id| std::str::from_utf8(id).ok()) {
            self.known.leaves(id);
        }
        true
    }
}
