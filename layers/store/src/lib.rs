//! The store behind tower-keep: two tiers, tags, single flight.
//!
//! - **L1** is in the process: decoded values, bounded in bytes, read without a lock, and evicted by
//!   CLOCK-Pro.
//! - **L2** is Redis or Valkey (feature `redis`), shared by all nodes. Either tier works alone.
//! - **Tags are epochs.** An entry records the epochs of its tags; to invalidate a tag is to write a
//!   new epoch, whatever the number of entries, and checking one is a few atomic loads.
//! - **Single flight.** Concurrent misses of one key share one fill, which no caller's cancellation
//!   reaches; across nodes, too, if [`StoreBuilder::lease`] says so.
//! - **Stale when that is better**: while a value is refreshed, or when its origin fails.
//! - **Nobody waits for a hot value**: it is refreshed shortly before it stops being fresh, and an
//!   origin that has just failed is asked again in the background only.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use tower_keep_store::{L1, Store, Ttl};
//!
//! let keep = Store::builder().l1(L1::bytes(64 * 1024 * 1024)).build()?;
//! let prices = keep.typed::<(&str, u32), f64>("price");
//!
//! let ttl = Ttl::secs(30).stale_if_error(Duration::from_secs(600)).tags(["prices"]);
//! let price = prices
//!     .get_or_try_set(&("EUR", 7), ttl, || async { Ok::<_, std::io::Error>(9.99) })
//!     .await?;
//! assert_eq!(*price, 9.99);
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! | feature | what it adds |
//! | --- | --- |
//! | `redis` | the second tier on Redis or Valkey: standalone, Cluster, Sentinel |
//! | `tls` | `rediss://` addresses, with rustls |
//! | `postcard`, `json` | codecs beside the default |
//! | `zstd` | compression of large values in the second tier |
#![doc = ""]
#![doc = include_str!("../docs/promises.md")]
#![doc = include_str!("../docs/trouble.md")]
#![doc = include_str!("../docs/measured.md")]

mod backlog;
mod codec;
#[cfg(feature = "zstd")]
mod compression;
#[cfg(not(feature = "zstd"))]
#[path = "compression/absent.rs"]
mod compression;
mod early;
mod epoch;
mod error;
mod event;
mod fence;
mod flight;
mod frame;
mod hit;
mod key;
mod l1;
mod lease;
mod payload;
mod pending;
mod proof;
mod recent;
#[cfg(feature = "redis")]
mod redis;
pub mod remote;
mod removals;
mod slot;
mod space;
mod stats;
mod store;
mod tag;
mod tag_table;
mod throttle;
mod time;
mod ttl;
mod typed;

#[cfg(feature = "json")]
pub use codec::Json;
#[cfg(feature = "postcard")]
pub use codec::Postcard;
pub use codec::{Bincode, Codec, Encoded, MAX_HEAD_LEN};
#[cfg(feature = "zstd")]
pub use compression::Compression;
pub use error::{BoxError, Error, FillError, RemoteError};
pub use fence::Ticket;
pub use flight::{Flights, Follow, Join, Lead};
pub use hit::{Found, Held, Hit, Trail};
pub use key::{Key, KeyBuf, KeyRef, MAX_KEY_LEN, ToKey};
pub use l1::L1;
pub use lease::{Attempt, Turn};
pub use proof::{Asking, Proof};
#[cfg(feature = "redis")]
pub use redis::{Redis, RedisBuilder};
pub use space::{Seen, Space};
pub use stats::{Count, Stats};
pub use store::{Store, StoreBuilder, Watch};
pub use tag::{MAX_TAG_LEN, MAX_TAGS, Reach, Strength, Tag};
pub use throttle::Retry;
pub use time::Timestamp;
pub use ttl::{Lifetime, State, Ttl};
pub use typed::{Fill, Typed};
