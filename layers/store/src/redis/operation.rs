//! One operation, and where on a Cluster it must be sent.
//!
//! A primary answers MOVED when a slot has another primary, and ASK while the slot is on its way and
//! a key of it isn't there any more. fred follows the former by reading the Cluster's state anew.
//! The latter it sends to the same primary again (10.1.0), and ends its own task if the command has
//! no attempts left. So we let it follow neither: on a MOVED it still reads the state, and says that
//! it was sent on; whether it was an ASK is what the primary knows.

use std::time::Duration;

use bytes::Bytes;
use fred::clients::Client;
use fred::error::{Error, ErrorKind};
use fred::interfaces::{ClientLike, ClusterInterface};
use fred::prelude::Server;
use fred::types::config::Options;
use fred::types::scripts::Script;
use fred::types::{ClusterHash, CustomCommand, Key, Value};
use fred::util::redis_keyslot;
use tokio::time::{Instant, sleep};

use super::link::Link;

/// How long to wait until a slot that is on its way may be further.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(5);

/// What is asked of a server.
pub(super) enum Operation<'a> {
    /// The bytes at a key, at most so many and one.
    Read { key: Key, most: usize },
    /// A script.
    Run { script: &'a Script, keys: Vec<Key>, args: Vec<Value> },
}

impl Operation<'_> {
    /// Does it on the server that is in charge. While its slot is on its way, that may be none yet:
    /// then it is tried again for so long.
    pub(super) async fn on(&self, link: &Link, patience: Duration) -> Result<Value, Error> {
        let (began, mut sent_on) = (Instant::now(), false);
        let client = link.pool.take();
        loop {
            let answer = match self.send(&*client).await {
                // Twice, so the Cluster's state, which has been read anew, isn't the reason.
                Err(error) if is_sent_on(&error) && sent_on => match self.target(&client).await? {
                    Some(target) => self.ask(&link.only(&target)?).await,
                    None => Err(error),
                },
                answer => answer,
            };
            match answer {
                Err(error) if is_sent_on(&error) && !sent_on => sent_on = true,
                Err(error) if is_elsewhere(&error) => {
                    if began.elapsed() >= patience {
                        return Err(error);
                    }
                    sleep(TRY_AGAIN_AFTER).await;
                }
                answer => return answer,
            }
        }
    }

    /// A script is sent as its digest, and in full if the server hasn't seen it.
    async fn send<C: ClientLike>(&self, client: &C) -> Result<Value, Error> {
        let mut answer = self.queue(client, false).await;
        if answer.as_ref().is_err_and(is_unknown_script) {
            answer = self.queue(client, true).await;
        }
        answer
    }

    /// The same on a server that a slot is on its way to.
    async fn ask(&self, target: &Client) -> Result<Value, Error> {
        target.wait_for_connect().await?;
        let mut answer = self.ask_once(target, false).await;
        if answer.as_ref().is_err_and(is_unknown_script) {
            answer = self.ask_once(target, true).await;
        }
        answer
    }

    async fn ask_once(&self, target: &Client, in_full: bool) -> Result<Value, Error> {
        // Both at once, since the one is about the very next command of the connection.
        let both = target.pipeline();
        let asking = CustomCommand::new_static("ASKING", None::<u16>, false);
        let _: Value = both.custom(asking, Vec::<Value>::new()).await?;
        self.queue(&both, in_full).await?;
        both.try_all::<Value>().await.pop().unwrap_or(Ok(Value::Null))
    }

    async fn queue<C: ClientLike>(&self, client: &C, in_full: bool) -> Result<Value, Error> {
        let slot = self.slot().map_or(ClusterHash::Random, ClusterHash::Custom);
        match self {
            Self::Read { key, most } => {
                let args: Vec<Value> = vec![key.clone().into(), 0.into(), (*most).try_into()?];
                client.custom(CustomCommand::new_static("GETRANGE", slot, false), args).await
            }
            Self::Run { script, keys, args } => {
                let (name, script) = if in_full {
                    ("EVAL", script.lua().cloned().unwrap_or_default())
                } else {
                    ("EVALSHA", script.sha1().clone())
                };
                let mut all: Vec<Value> = vec![script.into(), keys.len().try_into()?];
                all.extend(keys.iter().cloned().map(Value::from));
                all.extend(args.iter().cloned());
                client.custom(CustomCommand::new_static(name, slot, false), all).await
            }
        }
    }

    /// Does it at `server` of a Cluster, whatever it is in charge of.
    pub(super) async fn at(&self, client: &Client, server: Option<Server>) -> Result<Value, Error> {
        let there = Options { cluster_node: server, ..Options::default() };
        self.send(&client.with_options(&there)).await
    }

    fn slot(&self) -> Option<u16> {
        let key = match self {
            Self::Read { key, .. } => Some(key),
            Self::Run { keys, .. } => keys.first(),
        };
        key.map(|key| redis_keyslot(key.as_bytes()))
    }

    /// Where the slot is on its way to, as the primary that still has it says.
    async fn target(&self, client: &Client) -> Result<Option<Server>, Error> {
        let Some(slot) = self.slot() else { return Ok(None) };
        let owner = client.cached_cluster_state();
        let owner = owner.as_ref().and_then(|state| state.get_server(slot)).cloned();
        let Some(owner) = owner else { return Ok(None) };
        let there = Options { cluster_node: Some(owner.clone()), ..Options::default() };
        let nodes = CustomCommand::new_static("CLUSTER", None::<u16>, false);
        let view: Bytes = client.with_options(&there).custom(nodes, vec!["NODES"]).await?;
        Ok(target_in(&String::from_utf8_lossy(&view), slot, &owner))
    }
}

/// In the answer to CLUSTER NODES, a primary's own line ends with `[slot->-id]` for each slot that
/// is on its way; every line begins with an id and an address, `host:port@bus,name`.
fn target_in(view: &str, slot: u16, owner: &Server) -> Option<Server> {
    let own = view.lines().find(|line| {
        line.split(' ').nth(2).is_some_and(|flags| flags.split(',').any(|flag| flag == "myself"))
    })?;
    let begin = format!("[{slot}->-");
    let id = own.split(' ').find_map(|part| part.strip_prefix(&*begin)?.strip_suffix(']'))?;
    let line = view.lines().find(|line| line.split(' ').next() == Some(id))?;
    let (host, port) = line.split(' ').nth(1)?.split('@').next()?.rsplit_once(':')?;
    // A node that hasn't learned its own address is reached as the one that names it.
    let host = if host.is_empty() { owner.host.to_string() } else { host.to_owned() };
    Some(Server::new(host, port.parse().ok()?))
}

/// What fred says of an answer that leads elsewhere, when it may not follow.
fn is_sent_on(error: &Error) -> bool {
    *error.kind() == ErrorKind::Routing
}

/// Where the keys are is not known; or some of them are here and some there.
pub(super) fn is_elsewhere(error: &Error) -> bool {
    is_sent_on(error) || error.details().starts_with("TRYAGAIN")
}

fn is_unknown_script(error: &Error) -> bool {
    error.details().starts_with("NOSCRIPT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_of_a_slot_is_read_from_its_primarys_line() {
        let view = "a1 10.0.0.1:7000@17000 master - 0 0 1 connected 0-99\n\
            b2 10.0.0.2:7000@17000,name myself,master - 0 0 2 connected 100-199 [150->-a1] [7-<-a1]\n";
        let owner = Server::new("10.0.0.2", 7000);
        assert_eq!(target_in(view, 150, &owner), Some(Server::new("10.0.0.1", 7000)));
        assert_eq!(target_in(view, 7, &owner), None, "that is on its way here");
        assert_eq!(target_in(view, 15, &owner), None);
        assert_eq!(target_in("", 15, &owner), None);
        let v6 = view.replace("10.0.0.1", "::1");
        assert_eq!(target_in(&v6, 150, &owner), Some(Server::new("::1", 7000)));
        let unknown = view.replace("10.0.0.1", "");
        assert_eq!(target_in(&unknown, 150, &owner), Some(Server::new("10.0.0.2", 7000)));
    }
}
