//! Says on standard error why the origin doesn't answer.

use std::fmt::Write as _;

use http::Response;
use tower_keep_balance::proxy::Failure;

/// Leaves the response as it is.
pub(crate) fn report<B>(response: Response<B>) -> Response<B> {
    if let Some(error) = response.extensions().get::<Failure>().and_then(Failure::error) {
        let mut reasons = String::new();
        let mut source = error.source();
        while let Some(reason) = source {
            // Writing to memory doesn't fail.
            let _ = write!(reasons, ": {reason}");
            source = reason.source();
        }
        eprintln!("edge: the origin does not answer: {error}{reasons}");
    }
    response
}
