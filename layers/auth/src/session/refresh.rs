//! The use of a refresh token: rotation, the same answer once more, and what is done about a copy.

use super::record::Standing;
use super::token::{self, Secret, random};
use super::{ATTEMPTS, Record, RefreshError, Sessions, Tokens};
use crate::claims::Claims;
use crate::refusal::Refusal;
use crate::revocation::{Check, Revocable};

impl<C> Sessions<C> {
    /// Gives new tokens for a refresh token, which is used up by it. `client` is the client that asks,
    /// authenticated if it can be: it must be that of the grant (RFC 6749 §10.4), or none if the grant
    /// has none.
    ///
    /// # Errors
    ///
    /// [`RefreshError`]. After [`Store`](RefreshError::Store) and
    /// [`Contended`](RefreshError::Contended) the same token may be tried again, within the grace.
    pub async fn refresh(
        &self,
        refresh: &str,
        client: Option<&str>,
    ) -> Result<Tokens, RefreshError> {
        let (session, secret, seal) = token::parse(refresh).ok_or(RefreshError::Unknown)?;
        for _ in 0..ATTEMPTS {
            let (kept, record) = self.load(session).await?.ok_or(RefreshError::Unknown)?;
            let now = self.manager.now();
            if !record.issued(&secret, &seal) {
                return Err(RefreshError::Unknown);
            }
            if record.ended {
                return Err(RefreshError::Ended);
            }
            if now >= record.until {
                return Err(RefreshError::Expired);
            }
            match record.standing(&secret, now, self.terms) {
                // Whoever comes with it: there is a copy.
                Standing::Used => {
                    self.end_session(session).await?;
                    return Err(RefreshError::Reused);
                }
                _ if record.grant.client() != client => return Err(RefreshError::WrongClient),
                Standing::Again(nonce) => {
                    self.check(session, &record).await?;
                    return self.given(session, &record, &secret.next(&nonce));
                }
                Standing::Current => {
                    self.check(session, &record).await?;
                    let nonce = random()?;
                    let next = record.rotated(&secret, nonce, now, self.terms);
                    // What is to be given is made first: what can't be given uses nothing up.
                    let tokens = self.given(session, &next, &secret.next(&nonce))?;
                    if self.store.swap(session, Some(&kept), next.to_kept()?).await? {
                        return Ok(tokens);
                    }
                }
            }
        }
        Err(RefreshError::Contended)
    }

    /// Whether what the session is of was revoked since it began.
    async fn check(&self, session: &str, record: &Record) -> Result<(), RefreshError> {
        let Some(revocations) = self.manager.revocations() else { return Ok(()) };
        let checked = {
            let grant = &record.grant;
            let claims = Claims {
                iss: Some(self.manager.issuer().into()),
                sub: Some(grant.subject().into()),
                sid: Some(session.into()),
                client_id: grant.client().map(Into::into),
                iat: Some(record.began),
                ..Claims::default()
            };
            let others = |name: &str| grant.claim(name);
            revocations.check(&Revocable::session(&claims, &others))
        };
        let standing = match checked {
            Check::Done(standing) => standing,
            Check::Waits(checking) => checking.await,
        };
        match standing {
            Ok(_) => Ok(()),
            Err(Refusal::RevocationUnknown) => Err(RefreshError::RevocationUnknown),
            Err(_) => Err(RefreshError::Revoked),
        }
    }

    fn given(
        &self,
        session: &str,
        record: &Record,
        secret: &Secret,
    ) -> Result<Tokens, RefreshError> {
        let access = self.manager.issue(record.grant.clone().into_grant().session(session))?;
        let refresh = secret.token(session, &record.mark);
        let session = session.to_owned();
        Ok(Tokens { access, refresh, session, refresh_expires_at: record.until })
    }
}
