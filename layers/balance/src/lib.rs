//! Weighted pools of backends, picked from without a lock.
//!
//! A [`Pool`] holds targets of any kind: addresses, services, connection pools of a database. It
//! picks one by its [`Strategy`], weights, priorities and limits, and can be changed at any time: a
//! target that is replaced or removed gets nothing new, and finishes what it has.
//!
//! ```
//! use tower_keep_balance::{Backend, Pool, Strategy};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = Pool::builder()
//!     .strategy(Strategy::RoundRobin)
//!     .backend(Backend::new("big", "http://10.0.0.1:3000").weight(2))
//!     .backend(Backend::new("small", "http://10.0.0.2:3000"))
//!     .build()?;
//! let picks: Vec<_> = (0..3).map(|_| pool.pick()).collect::<Result<_, _>>()?;
//! let names: Vec<_> = picks.iter().map(|pick| pick.name()).collect();
//! assert_eq!(names, ["big", "small", "big"]);
//! # Ok(())
//! # }
//! ```

mod backend;
mod error;
mod member;
mod pick;
mod pool;
mod strategy;
mod table;

pub use backend::Backend;
pub use error::{BuildError, PickError};
pub use member::BackendId;
pub use pick::{Outcome, Pick, Wish};
pub use pool::{Pool, PoolBuilder, Removed, Status, WhenNoneHealthy};
pub use strategy::{Hash, PeakEwma, Strategy};
