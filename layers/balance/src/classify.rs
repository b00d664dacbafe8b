//! What of an answer speaks for or against its backend.

/// What an answer says of the backend that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It did what it was asked, even if the answer is an error of the one who asked.
    Success,
    /// It didn't.
    Failure,
    /// Nothing, as when it was the request that was broken.
    Unknown,
    /// The end will tell, such as the trailers of gRPC. Where there is no end to come, as
    /// [`Unknown`](Self::Unknown).
    AtEnd,
}

/// Says what an answer tells of its backend, for health and for the strategies.
///
/// A closure `Fn(Result<&Response, &Error>) -> Verdict` is one.
pub trait Classify<Response, Error> {
    /// What `result` says.
    fn classify(&self, result: Result<&Response, &Error>) -> Verdict;
}

impl<F, Response, Error> Classify<Response, Error> for F
where
    F: Fn(Result<&Response, &Error>) -> Verdict,
{
    fn classify(&self, result: Result<&Response, &Error>) -> Verdict {
        self(result)
    }
}

/// Errors are failures, and responses aren't.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ErrorsFail;

impl<Response, Error> Classify<Response, Error> for ErrorsFail {
    fn classify(&self, result: Result<&Response, &Error>) -> Verdict {
        if result.is_ok() { Verdict::Success } else { Verdict::Failure }
    }
}
