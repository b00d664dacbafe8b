//! Beats: what a node sends itself through the servers, by the ways that announcements take.
//!
//! A connection that has died without a word (a firewall that forgot it, a server that hangs) looks
//! like one on which nobody announces anything. On a Cluster, an announcement is made at the primary
//! that has the key, and passed on to the one that this node listens to; each such way may be cut
//! while the others work. So a beat is sent by way of every primary, and by each connection to it. (fred
//! notices a silent connection only while little is written to it.)

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use fred::clients::Client;
use fred::error::Error;
use fred::prelude::Server;
use futures_util::future::try_join_all;
use tokio::time::Instant;

use super::connection::Connection;
use super::link::Link;
use super::operation::Operation;
use crate::error::RemoteError;

/// How many beats in a row may be missed.
const MISSED: u32 = 2;

/// Within how many beats it is noticed that they don't come back.
pub(super) const NOTICED: u32 = MISSED + 2;

/// The beats of one follower.
pub(super) struct Beats {
    /// Where they are published.
    channel: String,
    /// How many have been sent by each way since something came by it.
    unanswered: HashMap<String, u32>,
    /// The same of each connection, by its number, to each way; its answer will do, too: that isn't held
    /// up by what others announce.
    by_connection: HashMap<(usize, String), Arc<AtomicU32>>,
    /// When the last that came back was sent, by way.
    confirmed: HashMap<String, Instant>,
    /// What beats tell their time by.
    start: Instant,
}

impl Beats {
    pub(super) fn new(channel: String) -> Self {
        Self {
            channel,
            unanswered: HashMap::new(),
            by_connection: HashMap::new(),
            confirmed: HashMap::new(),
            start: Instant::now(),
        }
    }

    pub(super) fn channel(&self) -> &str {
        &self.channel
    }

    /// Sends the first ones, by all connections, and waits until the servers have them. Says whose data
    /// they hold, by way.
    pub(super) async fn begin(
        &mut self,
        connection: &Connection,
        link: &Link,
    ) -> Result<HashMap<String, String>, RemoteError> {
        self.unanswered.clear();
        self.by_connection.clear();
        self.confirmed.clear();
        connection.clocks.begin(link.routing());
        let ways = link.primaries();
        let beats = ways.iter().flat_map(|way| {
            link.pool.clients().enumerate().map(async |(number, client)| {
                let beat = Beat { channel: &self.channel, since: self.start.elapsed(), number };
                let beat = beat.send(connection, client, way.clone());
                Ok((name(way.as_ref()), connection.within_deadline(beat).await?))
            })
        });
        let mut histories = HashMap::new();
        for (way, history) in try_join_all(beats).await? {
            if histories.entry(way).or_insert_with(|| history.clone()) != &history {
                // As when an address has just begun to lead elsewhere.
                let text = "the connections to one server lead to different ones";
                return Err(RemoteError::Protocol(text.into()));
            }
        }
        Ok(histories)
    }

    /// Sends the next ones, unless too many have been missed by one of the ways, or one of the connections
    /// to it: then says by which. Not waited for: what arrives must be handed on meanwhile.
    pub(super) fn send(
        &mut self,
        connection: &Arc<Connection>,
        link: &Arc<Link>,
    ) -> Result<(), String> {
        let ways = link.primaries();
        let before = mem::take(&mut self.unanswered);
        for way in &ways {
            let name = name(way.as_ref());
            let unanswered = before.get(&name).copied().unwrap_or_default();
            if unanswered > MISSED {
                return Err(name);
            }
            self.unanswered.insert(name, unanswered + 1);
        }
        connection.clocks.route(link.routing());
        let mut before = mem::take(&mut self.by_connection);
        for (number, way) in
            (0..link.pool.len()).flat_map(|it| ways.iter().map(move |way| (it, way)))
        {
            let by = (number, name(way.as_ref()));
            let unanswered = before.remove(&by).unwrap_or_default();
            if unanswered.fetch_add(1, Relaxed) > MISSED {
                return Err(by.1);
            }
            self.by_connection.insert(by, Arc::clone(&unanswered));
            let (connection, link, way) = (Arc::clone(connection), Arc::clone(link), way.clone());
            let (channel, since) = (self.channel.clone(), self.start.elapsed());
            tokio::spawn(async move {
                let beat = Beat { channel: &channel, since, number };
                if beat.send(&connection, link.pool.client(number), way).await.is_ok() {
                    unanswered.store(0, Relaxed);
                }
            });
        }
        Ok(())
    }

    /// One has come back. Says for how long everything has arrived that was announced before, by
    /// whatever way; nothing if that isn't known yet.
    pub(super) fn heard(&mut self, beat: &str) -> Option<Duration> {
        let (sent, rest) = beat.split_once(' ')?;
        let (number, way) = rest.split_once(' ')?;
        let sent = self.start.checked_add(Duration::from_micros(sent.parse().ok()?))?;
        *self.unanswered.get_mut(way)? = 0;
        if let Some(unanswered) = self.by_connection.get(&(number.parse().ok()?, way.to_owned())) {
            unanswered.store(0, Relaxed);
        }
        let confirmed = self.confirmed.entry(way.to_owned()).or_insert(sent);
        *confirmed = sent.max(*confirmed);
        let ways = self.unanswered.keys().map(|way| self.confirmed.get(way).copied());
        ways.collect::<Option<Vec<Instant>>>()?.into_iter().min().map(|sent| sent.elapsed())
    }

    /// Something else has arrived. Where there is one way only, it came by that.
    pub(super) fn heard_other(&mut self) {
        if let Some(unanswered) = self.unanswered.get_mut("") {
            *unanswered = 0;
        }
    }
}

/// A beat: where it is published, when it is sent by the clock of its sender, and by which connection.
struct Beat<'a> {
    channel: &'a str,
    since: Duration,
    number: usize,
}

impl Beat<'_> {
    /// Sends it, and says what the data there descend from; nothing if the server doesn't tell.
    async fn send(
        &self,
        connection: &Connection,
        client: &Client,
        way: Option<Server>,
    ) -> Result<String, Error> {
        let name = name(way.as_ref());
        let text = format!("{} {} {name}", self.since.as_micros(), self.number);
        let args = vec![self.channel.into(), text.into()];
        let beat = Operation::Run { script: &connection.scripts.beat, keys: Vec::new(), args };
        let (seconds, micros, history): (u64, u64, String) =
            beat.at(client, way).await?.convert()?;
        connection.clocks.hear(name, seconds.saturating_mul(1_000_000).saturating_add(micros));
        Ok(history)
    }
}

/// What a beat says of the way it takes.
pub(super) fn name(way: Option<&Server>) -> String {
    way.map(ToString::to_string).unwrap_or_default()
}
