//! Beats: what a node sends itself through the servers, by the ways that announcements take.
//!
//! A connection that has died without a word (a firewall that forgot it, a server that hangs) looks
//! like one on which nobody announces anything. On a Cluster, an announcement is made at the primary
//! that has the key, and passed on to the one that this node listens to; each such way may be cut
//! while the others work. So a beat is sent by way of every primary.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;

use fred::clients::Client;
use fred::error::Error;
use fred::prelude::Server;
use futures_util::future::try_join_all;

use super::connection::Connection;
use super::link::Link;
use super::operation::Operation;
use crate::error::RemoteError;

/// How many beats in a row may be missed.
const MISSED: u32 = 2;

/// The beats of one follower.
pub(super) struct Beats {
    /// Where they are published.
    channel: String,
    /// How many have been sent by each way since one came back.
    unanswered: HashMap<String, u32>,
}

impl Beats {
    pub(super) fn new(channel: String) -> Self {
        Self { channel, unanswered: HashMap::new() }
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
        connection.clocks.begin(link.routing());
        let ways = link.primaries();
        let beats = ways.iter().flat_map(|way| {
            link.pool.clients().map(async |client| {
                let beat = beat(connection, client, self.channel.clone(), way.clone());
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
            let channel = self.channel.clone();
            tokio::spawn(async move { beat(&connection, &link.pool.take(), channel, way).await });
        }
        Ok(())
    }

    /// One has come back, by the way that it names.
    pub(super) fn heard(&mut self, way: &str) {
        if let Some(unanswered) = self.unanswered.get_mut(way) {
            *unanswered = 0;
        }
    }

    /// Something else has arrived. Where there is one way only, it came by that.
    pub(super) fn heard_other(&mut self) {
        self.heard("");
    }
}

/// Sends one, and says what the data there descend from; nothing if the server doesn't tell.
async fn beat(
    connection: &Connection,
    client: &Client,
    channel: String,
    way: Option<Server>,
) -> Result<String, Error> {
    let name = name(way.as_ref());
    let args = vec![channel.into(), name.as_str().into()];
    let beat = Operation::Run { script: &connection.scripts.beat, keys: Vec::new(), args };
    let (seconds, micros, history): (u64, u64, String) = beat.at(client, way).await?.convert()?;
    connection.clocks.hear(name, seconds.saturating_mul(1_000_000).saturating_add(micros));
    Ok(history)
}

/// What a beat says of the way it takes.
pub(super) fn name(way: Option<&Server>) -> String {
    way.map(ToString::to_string).unwrap_or_default()
}
