//! What became of a request whose attempt ended in an error.

use std::error::Error;

/// How far an attempt came that ended in an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fate {
    /// Nothing of it has reached the backend: no connection could be made.
    Unsent,
    /// The backend has said that it didn't work on it.
    Refused,
    /// The backend may have worked on it.
    Sent,
}

/// Says what became of a request by the error that its attempt ended in.
///
/// [`ByCause`] does so for all errors, [`ByBoxedCause`] for boxed ones, and a closure
/// `Fn(&Error) -> Fate` is one. An attempt that no backend's service was called for, or that was
/// [marked](crate::Attempt::mark_unsent), is unsent whatever is said here.
pub trait ErrorFate<E> {
    /// What became of the request.
    fn fate(&self, error: &E) -> Fate;
}

impl<F, E> ErrorFate<E> for F
where
    F: Fn(&E) -> Fate,
{
    fn fate(&self, error: &E) -> Fate {
        self(error)
    }
}

/// By the error and its causes: with the feature `hyper`, what clients of hyper and h2 say of
/// connections that couldn't be made and requests that no backend has worked on; with `tonic`, what
/// its channels say of connections; with `proxy`, what its `UpstreamError` says. Whatever isn't known counts as sent: that a connection was
/// refused alone may also be said of one that a backend in this process has made for its work.
///
/// For the same reason, backends in this process whose errors are those of clients that they use
/// need an [`error_fate`](crate::retry::RetryBuilder::error_fate) of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByCause;

impl<E: Error + 'static> ErrorFate<E> for ByCause {
    fn fate(&self, error: &E) -> Fate {
        by_cause(error)
    }
}

/// As [`ByCause`], for services whose errors are boxed, such as tower's `Buffer`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByBoxedCause;

impl ErrorFate<Box<dyn Error + Send + Sync>> for ByBoxedCause {
    fn fate(&self, error: &Box<dyn Error + Send + Sync>) -> Fate {
        by_cause(&**error)
    }
}

pub(crate) fn by_cause(error: &(dyn Error + 'static)) -> Fate {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let fate = one(error);
        if fate != Fate::Sent {
            return fate;
        }
        cause = error.source();
    }
    Fate::Sent
}

#[cfg_attr(not(any(feature = "hyper", feature = "tonic")), allow(unused_variables))]
fn one(error: &(dyn Error + 'static)) -> Fate {
    #[cfg(feature = "proxy")]
    if let Some(error) = error.downcast_ref::<crate::proxy::UpstreamError>() {
        return error.fate();
    }
    #[cfg(feature = "hyper")]
    if let Some(fate) = of_hyper(error) {
        return fate;
    }
    #[cfg(feature = "tonic")]
    if error.is::<tonic::ConnectError>() {
        return Fate::Unsent;
    }
    Fate::Sent
}

#[cfg(feature = "hyper")]
fn of_hyper(error: &(dyn Error + 'static)) -> Option<Fate> {
    if let Some(error) = error.downcast_ref::<hyper_util::client::legacy::Error>() {
        return error.is_connect().then_some(Fate::Unsent);
    }
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        // The connection ended before it took the request.
        return error.is_canceled().then_some(Fate::Refused);
    }
    let error = error.downcast_ref::<h2::Error>()?;
    // RFC 9113, section 8.7: both say that the stream was not processed; and h2 gives the GOAWAY
    // only to streams beyond the last one that it names (section 6.8).
    let is_refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    let is_unprocessed = error.is_remote() && (is_refused || error.is_go_away());
    is_unprocessed.then_some(Fate::Refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "tonic")]
    #[test]
    fn looks_through_the_causes_for_a_connection_that_was_never_made() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] tonic::ConnectError);

        let unmade = || Outer(tonic::ConnectError("refused".into()));
        assert_eq!(ByCause.fate(&unmade()), Fate::Unsent);
        assert_eq!(ByBoxedCause.fate(&unmade().into()), Fate::Unsent);
    }

    #[test]
    fn a_connection_that_a_backend_has_tried_to_make_says_nothing_of_the_request() {
        let refused = || std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert_eq!(ByCause.fate(&refused()), Fate::Sent);
        assert_eq!(ByBoxedCause.fate(&refused().into()), Fate::Sent);
    }

    #[cfg(feature = "hyper")]
    #[test]
    fn what_we_reset_ourselves_may_have_been_worked_on() {
        let ours = h2::Error::from(h2::Reason::REFUSED_STREAM);
        assert_eq!(ByCause.fate(&ours), Fate::Sent);
    }
}
