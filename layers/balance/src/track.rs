//! How requests and responses of one kind are followed, from the pick to the end.

use tower_service::Service;

use crate::attempt::Attempt;
use crate::classify::{Classify, ErrorsFail};
use crate::error::{BalanceError, PickError};
use crate::in_use::InUse;

/// A kind of requests and responses: [`Plain`], or `Http`. What they have in common is how they are
/// given to backends; they differ in when a response is complete, and in how a refusal is said.
pub trait Track<Request, S: Service<Request>>: sealed::Sealed {
    /// What callers get.
    type Response;
    /// How calls fail.
    type Error;
    /// What is remembered of a request.
    #[doc(hidden)]
    type Memo;

    #[doc(hidden)]
    fn memo(&self, request: &Request) -> Self::Memo;

    #[doc(hidden)]
    fn attempt(memo: &Self::Memo) -> Option<&Attempt>;

    /// A backend has answered.
    #[doc(hidden)]
    fn answered(
        &self,
        memo: &Self::Memo,
        result: Result<S::Response, S::Error>,
        in_use: InUse<S>,
    ) -> Result<Self::Response, Self::Error>;

    /// No backend could be made ready, for one reason or another.
    #[doc(hidden)]
    fn unready(&self, error: S::Error) -> Self::Error;

    /// No backend was picked.
    #[doc(hidden)]
    fn refuse(&self, memo: &Self::Memo, why: PickError) -> Result<Self::Response, Self::Error>;
}

pub(crate) mod sealed {
    /// A kind that this crate knows.
    #[allow(unreachable_pub, reason = "sealed")]
    pub trait Sealed {}
}

/// Requests and responses of any kind. A response is complete when it is there, and a refusal is a
/// [`BalanceError`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plain<C = ErrorsFail> {
    pub(crate) classify: C,
}

impl<C> sealed::Sealed for Plain<C> {}

impl<C, Request, S> Track<Request, S> for Plain<C>
where
    S: Service<Request>,
    C: Classify<S::Response, S::Error>,
{
    type Response = S::Response;
    type Error = BalanceError<S::Error>;
    type Memo = ();

    fn memo(&self, _: &Request) {}

    fn attempt((): &()) -> Option<&Attempt> {
        None
    }

    fn answered(
        &self,
        (): &(),
        result: Result<S::Response, S::Error>,
        in_use: InUse<S>,
    ) -> Result<S::Response, Self::Error> {
        let verdict = self.classify.classify(result.as_ref());
        in_use.finish(verdict);
        result.map_err(BalanceError::Backend)
    }

    fn unready(&self, error: S::Error) -> Self::Error {
        BalanceError::Backend(error)
    }

    fn refuse(&self, (): &(), why: PickError) -> Result<S::Response, Self::Error> {
        Err(BalanceError::Pick(why))
    }
}
