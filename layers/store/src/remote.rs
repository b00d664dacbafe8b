//! What the store asks of a second tier.
//!
//! [`Redis`](crate::Redis) is the one that comes with the crate. Another can be written against
//! [`Remote`]; the store keeps to its deadline, its availability and its answers, and trusts none
//! of the bytes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

pub use crate::epoch::Epochs;
use crate::error::{Error, RemoteError};
pub use crate::event::{Announcement, Event};
use crate::tag::{Strength, Tag};

/// The answer of one operation of the second tier. Boxed: a network round trip hides what that
/// costs, and the store need not be generic over its tiers.
pub type RemoteFuture<'a, T> = BoxFuture<'a, Result<T, RemoteError>>;

/// A second tier, shared by all nodes.
///
/// It holds frames by key, epochs by tag and removal epochs by bucket, and passes announcements on.
/// Each operation ends within a deadline of the implementation's own.
///
/// A *bucket* is a part of all keys. Its removal epoch changes with every
/// [announced](Put::announce) frame under one of them, in one step with it, so that whatever loses or
/// restores the one does the same to the other. By it, a node that has missed an announcement finds
/// out what to ask for again.
pub trait Remote: fmt::Debug + Send + Sync + 'static {
    /// Whether operations have a chance now. While they don't, the store doesn't try any.
    fn is_available(&self) -> bool;

    /// How its circuit breaker stands, if it has one.
    fn health(&self) -> Health {
        Health::default()
    }

    /// What lies at `key`.
    fn get(&self, key: Bytes) -> RemoteFuture<'_, Option<Bytes>>;

    /// Stores a frame.
    fn put(&self, put: Put) -> RemoteFuture<'_, Stored>;

    /// Takes the lease of an entry: says to the other nodes that this one fetches it. One step, and
    /// fenced: whoever gets it changes the token of what lies there, so that a [`Put`] that expects an
    /// earlier one is refused.
    ///
    /// A frame has the token at its byte 20, and the lease, as the instant at which it ends, at 28; both
    /// are overwritten in place, and readers find the value as before. Where there is none, 18 bytes
    /// stand for it: `tl`, the token, the lease. All integers are little-endian and of 8 bytes.
    ///
    /// Default: there are no leases; everybody gets one, and nobody waits.
    fn lease(&self, claim: Claim) -> RemoteFuture<'_, Leased> {
        Box::pin(async move { Ok(Leased::Granted(claim.expected)) })
    }

    /// Says how a lease goes on that was taken with `token`; `false` if it is another's by now, or
    /// something else lies there.
    ///
    /// Default: as if it did.
    fn update_lease(&self, key: Bytes, token: u64, term: Term) -> RemoteFuture<'_, bool> {
        let _ = (key, token, term);
        Box::pin(async { Ok(true) })
    }

    /// The epochs of `tags`, in their order. A tag that has none is given a new one. `known` is
    /// the highest epoch the caller has seen; every epoch drawn is higher.
    fn resolve(&self, tags: Vec<Tag>, known: u64) -> RemoteFuture<'_, Vec<Epochs>>;

    /// The last epoch that was drawn, for a node that has just come: what it fetches from now on is
    /// no older. 0 if that can't be told; then its first value with a tag that was invalidated before it
    /// came is taken for what the invalidation was about, and isn't stored.
    ///
    /// Default: 0.
    fn last_epoch(&self) -> RemoteFuture<'_, u64> {
        Box::pin(async { Ok(0) })
    }

    /// Draws a new epoch, writes it as that of `tag`, and announces it to all nodes, `sender`
    /// included. Takes the same time whatever the number of entries.
    fn invalidate(
        &self,
        tag: Tag,
        strength: Strength,
        known: u64,
        sender: u64,
    ) -> RemoteFuture<'_, u64>;

    /// How many buckets the keys fall into. Each node has a table of them, at 8 bytes each; when
    /// something of one was missed, a node drops what its first tier holds of that one.
    fn buckets(&self) -> u16;

    /// The bucket of `key`, the same for all nodes: less than [`buckets`](Self::buckets).
    fn bucket(&self, key: &[u8]) -> u16;

    /// The removal epochs of `buckets`, in their order. One that has none is given a new one, unlike
    /// all it had before; none is 0.
    fn removals(&self, buckets: Vec<u16>) -> RemoteFuture<'_, Vec<u64>>;

    /// Begins to tell `listener` what happens. Called inside a Tokio runtime, when a store is built.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if this second tier can't serve that store, for example because it serves
    /// another one.
    fn listen(&self, listener: Arc<dyn Listener>) -> Result<(), Error>;
}

/// How the circuit breaker of a second tier stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Whether it is open, or half-open: operations are left out.
    pub resting: bool,
    /// How often it has opened.
    pub rests: u64,
}

/// A frame to be stored.
#[derive(Clone, Debug)]
pub struct Put {
    /// Where.
    pub key: Bytes,
    /// What.
    pub frame: Bytes,
    /// For how long.
    pub keep: Duration,
    /// Only if what lies there begins with these bytes; if they are empty, only if nothing does.
    pub only_if: Option<Bytes>,
    /// To be announced to all nodes, in one step with the storing.
    pub announce: Option<Removal>,
}

/// That a frame takes the place of another, or of what is being fetched: it is announced as
/// [`Event::Key`], with a new removal epoch for the bucket of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removal {
    /// The node that it comes from, which hears of it like all others.
    pub sender: u64,
    /// How strongly.
    pub strength: Strength,
}

/// What came of a [`Put`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is there.
    Yes,
    /// Something else lay there than [`only_if`](Put::only_if) says.
    Refused,
    /// It is larger than the second tier takes.
    TooLarge,
}

/// What it takes to take a lease.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Of which entry.
    pub key: Bytes,
    /// Only if what lies there begins with these bytes; if they are empty, only if nothing does.
    pub expected: Bytes,
    /// The token that is written: drawn at random, and so unlike any other.
    pub token: u64,
    /// For how long, unless it is renewed.
    pub span: Duration,
    /// How long what tells of it must stay, at the least: as long as a fill may take and still be
    /// stored, and no shorter than what lay there would have stayed.
    pub keep: Duration,
}

/// What came of a [`Claim`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leased {
    /// The caller has it. A [`Put`] of what it fetches is to be [`only_if`](Put::only_if) these bytes.
    Granted(Bytes),
    /// Another has it, for so long unless it is renewed. What lies there begins with these bytes.
    Held(Duration, Bytes),
    /// Another had it, and found that what it fetched is not for others: nobody need wait for them.
    /// What lies there begins with these bytes.
    Passes(Bytes),
    /// Something else lies there than was expected.
    Changed,
}

/// How a lease goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    /// For so long from now.
    Renewed(Duration),
    /// It ends: another may take it at once.
    Ended,
    /// It ends, and for so long nobody is to wait for another.
    Passes(Duration),
}

/// Who hears what happens at the second tier.
pub trait Listener: Send + Sync + 'static {
    /// A node has announced something. What is announced of one bucket arrives in its order, or else
    /// looks as if something had been lost.
    fn heard(&self, announcement: &[u8]);

    /// Announcements may have been missed from now on.
    fn lost(&self);

    /// What answers now may have lost some of what was acknowledged, as a replica that has taken over.
    /// Called before [`regained`](Self::regained).
    fn replaced(&self) {}

    /// The connection is there, and announcements arrive again. Until this returns `Ok`, the
    /// second tier isn't used for anything else. If it fails it is called again, and may go on where
    /// it was, unless [`lost`](Self::lost) was called in between.
    fn regained(&self) -> RemoteFuture<'_, ()>;

    /// All that was announced until `age` ago has arrived; and if nothing is wrong, this is said again
    /// within `span` of that. One that is never told takes silence for peace.
    ///
    /// A process that stood still for a while learns by it, before anything else, that it may have
    /// missed something.
    fn confirmed(&self, age: Duration, span: Duration) {
        let _ = (age, span);
    }

    /// Called now and then while announcements arrive: the listener may ask again for some of what it
    /// knows, since single ones can get lost on the way.
    fn check(&self) -> RemoteFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}
