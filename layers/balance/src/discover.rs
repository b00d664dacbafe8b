//! Pools that follow a `tower::discover::Discover`.

use std::fmt::Display;
use std::future::poll_fn;

use tower::discover::{Change, Discover};

use crate::backend::Backend;
use crate::pool::Pool;

/// Makes `pool` what `discover` says, as long as that says something: a service that it inserts is a
/// backend named by its key.
///
/// Spawned as a task of its own, it follows whether or not there are requests; who drops it or ends
/// the task leaves the pool as it is then. A pool isn't a `Discover` itself: its backends are to be
/// shared by all who pick, with one count of what is in flight.
///
/// A [registry](crate::registry), which knows weights and addresses rather than services, is followed
/// by [`Pool::follow`].
///
/// ```
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use tower::discover::ServiceList;
/// use tower_keep_balance::{Pool, follow_discover};
///
/// let service = tower::service_fn(async |(): ()| Ok::<_, std::io::Error>(()));
/// let pool = Pool::builder().build()?;
/// tokio::spawn(follow_discover(pool.clone(), ServiceList::new::<()>([service])));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// That of `discover`. The pool stays as it is.
pub async fn follow_discover<T, D>(pool: Pool<T>, discover: D) -> Result<(), D::Error>
where
    D: Discover<Service = T>,
    D::Key: Display,
{
    follow_discover_with(pool, discover, |key, service| Backend::new(key.to_string(), service))
        .await
}

/// As [`follow_discover`], with what `backend` makes of a key and what was found there: its weight, its
/// priority, or a client for its address. It is named by its key, whatever `backend` calls it.
///
/// # Errors
///
/// That of `discover`. The pool stays as it is.
pub async fn follow_discover_with<T, D>(
    pool: Pool<T>,
    discover: D,
    mut backend: impl FnMut(&D::Key, D::Service) -> Backend<T>,
) -> Result<(), D::Error>
where
    D: Discover,
    D::Key: Display,
{
    let mut discover = std::pin::pin!(discover);
    while let Some(change) = poll_fn(|cx| discover.as_mut().poll_discover(cx)).await {
        match change? {
            Change::Insert(key, service) => {
                let backend = backend(&key, service);
                pool.insert(Backend { name: key.to_string().into(), ..backend });
            }
            Change::Remove(key) => {
                pool.remove(&key.to_string());
            }
        }
    }
    Ok(())
}
