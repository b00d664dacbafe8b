//! Verified tokens of tonic's requests.

use tonic::{Code, Request, Status};

use crate::denial::Denial;
use crate::identity::{Guarded, Identity};
use crate::require::Require;
use crate::verified::Verified;

mod sealed {
    pub trait Sealed {}
    impl<T> Sealed for tonic::Request<T> {}
}

/// What [`JwtLayer`](crate::JwtLayer) has left on a request of tonic.
///
/// ```
/// use tonic::{Request, Response, Status};
/// use tower_keep_auth::{AuthRequest, Require};
///
/// async fn place(request: Request<String>) -> Result<Response<String>, Status> {
///     let identity = request.require(&Require::scope("orders:write"))?;
///     Ok(Response::new(format!("ordered by {:?}", identity.subject())))
/// }
/// # let _ = place;
/// ```
pub trait AuthRequest: sealed::Sealed {
    /// Who asks, if a token was verified.
    fn identity(&self) -> Option<&Identity>;

    /// The verified token, if there is one and its claims were read as that type.
    fn verified<C: Send + Sync + 'static>(&self) -> Option<Verified<C>>;

    /// Who asks, if the token says what is required.
    ///
    /// # Errors
    ///
    /// `UNAUTHENTICATED` without a token, `PERMISSION_DENIED` if it isn't enough, and `INTERNAL`, with
    /// an error in the log, where no [`JwtLayer`](crate::JwtLayer) is outside.
    fn require(&self, require: &Require) -> Result<&Identity, Status>;
}

impl<T> AuthRequest for Request<T> {
    fn identity(&self) -> Option<&Identity> {
        self.extensions().get::<Guarded>()?.identity.as_ref()
    }

    fn verified<C: Send + Sync + 'static>(&self) -> Option<Verified<C>> {
        self.identity()?.verified()
    }

    fn require(&self, require: &Require) -> Result<&Identity, Status> {
        let guarded = self.extensions().get::<Guarded>();
        let identity = guarded.and_then(|guarded| guarded.identity.as_ref());
        let denial = match (guarded, require.judge(identity)) {
            (Some(_), Ok(())) => match identity {
                Some(identity) => return Ok(identity),
                None => Denial::NoToken { scope: None },
            },
            (Some(_), Err(denial)) => denial,
            (None, _) => Denial::Unguarded,
        };
        match guarded {
            Some(guarded) => guarded.answers.note(&denial),
            None => crate::answer::unguarded(),
        }
        Err(Status::new(Code::from(i32::from(denial.grpc_code())), denial.description()))
    }
}
