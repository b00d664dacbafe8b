//! Beats: what a node sends itself through the servers, by the ways that announcements take.
//!
//! A connection that has died without a word (a firewall that forgot it, a server that hangs) looks
//! like one on which nobody announces anything. On a Cluster, an announcement is made at the primary
//! that has the key, and passed on to the one that this node listens to; each such way may be cut
//! while the others work. So a beat is sent by way of every primary.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;
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
    /// How many have been sent by each way since one came back.
    unanswered: HashMap<String, u32>,
    /// When the last that came back was sent, by way.
    confirmed: HashMap<String, Instant>,
    /// What beats tell their time by.
    start: Instant,
}

impl Beats {
    pub(super) fn new(channel: String) -> Self {
        let (unanswered, confirmed) = (HashMap::new(), HashMap::new());
        Self { channel, unanswered, confirmed, start: Instant::now() }
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
        self.confirmed.clear();
        connection.clocks.begin(link.routing());
        let ways = link.primaries();
        let beats = ways.iter().flat_map(|way| {
            link.pool.clients().map(async |client| {
                let beat = self.beat(connection, client, way.clone());
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

    /// Sends the next ones, unless too many have been missed by one of the ways: then says by which.
    /// Not waited for: what arrives must be handed on meanwhile.
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
        for way in ways {
            let (connection, link) = (Arc::clone(connection), Arc::clone(link));
            let (channel, since) = (self.channel.clone(), self.start.elapsed());
            tokio::spawn(
                async move { beat(&connection, &link.pool.take(), channel, since, way).await },
            );
        }
        Ok(())
    }

    /// One has come back. Says for how long everything has arrived that was announced before, by
    /// whatever way; nothing if that isn't known yet.
    pub(super) fn heard(&mut self, beat: &str) -> Option<Duration> {
        let (sent, way) = beat.split_once(' ')?;
        let sent = self.start.checked_add(Duration::from_micros(sent.parse().ok()?))?;
        *self.unanswered.get_mut(way)? = 0;
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

    fn beat(
        &self,
        connection: &Connection,
        client: &Client,
        way: Option<Server>,
    ) -> impl Future<Output = Result<String, Error>> {
        beat(connection, client, self.channel.clone(), self.start.elapsed(), way)
    }
}

/// Sends one, `since` the start of its sender's clock, and says what the data there descend from; nothing
/// if the server doesn't tell.
async fn beat(
    connection: &Connection,
    client: &Client,
    channel: String,
    since: Duration,
    way: Option<Server>,
) -> Result<String, Error> {
    let name = name(way.as_ref());
    let args = vec![channel.into(), format!("{} {name}", since.as_micros()).into()];
    let beat = Operation::Run { script: &connection.scripts.beat, keys: Vec::new(), args };
    let (seconds, micros, history): (u64, u64, String) = beat.at(client, way).await?.convert()?;
    connection.clocks.hear(name, seconds.saturating_mul(1_000_000).saturating_add(micros));
    Ok(history)
}

/// What a beat says of the way it takes.
pub(super) fn name(way: Option<&Server>) -> String {
    way.map(ToString::to_string).unwrap_or_default()
}
