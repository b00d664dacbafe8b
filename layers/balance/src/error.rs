//! What can go wrong.

/// Settings that can't work, and what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Two backends have the same name.
    #[error("two backends are named {0:?}; a name stands for one backend")]
    DuplicateName(String),
    /// A setting is out of its range.
    #[error("{0}")]
    Setting(&'static str),
    /// A proxy's name can't stand in `Via`.
    #[error("{0:?} can't stand in Via; a name has letters, digits and !#$%&'*+-.^_`|~ only")]
    Name(String),
    /// A protocol can't stand in `Upgrade`.
    #[error("{0:?} is no protocol to upgrade to, such as websocket; h2c is spoken without upgrade")]
    Upgrade(String),
}

/// Why no backend was picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PickError {
    /// The pool has no backend, or none whose weight isn't 0.
    #[error("the pool has no backend")]
    Empty,
    /// None is healthy, and the pool is set not to use those that aren't.
    #[error("no backend is healthy")]
    Unhealthy,
    /// Each is at work on as many requests as it may.
    #[error("every backend is at its limit")]
    Saturated,
}

/// Why a call through a [`Balance`](crate::Balance) of [`Plain`](crate::Plain) requests failed.
///
/// It is an `Error` if the backends' own is one, which a boxed error isn't: layers that need one,
/// such as `Buffer`, then want a `map_err` between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BalanceError<E> {
    /// No backend could take it.
    #[error(transparent)]
    Pick(#[from] PickError),
    /// The backend's error; if none could be made ready, that of the last one that was tried.
    #[error("the backend failed")]
    Backend(#[source] E),
}
