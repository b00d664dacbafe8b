//! Whose tokens are accepted, of which all that a reload doesn't change stays: keys that were fetched
//! aren't fetched again, and tokens that were verified are remembered.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use tower_keep::auth::{JwtLayer, KeySource, RevocationList, Verifier, VerifierBuilder};

use crate::config::{Guard, Issuer, Jwt, Keys, Revocation, SystemClient, Trust};

type Error = Box<dyn std::error::Error + Send + Sync>;

#[derive(Default)]
pub(crate) struct Guards {
    sources: Vec<(Keys, Arc<dyn KeySource>)>,
    lists: Vec<(Revocation, RevocationList)>,
    verifiers: BTreeMap<String, (Trust, Verifier)>,
}

impl Guards {
    pub(crate) fn new(
        config: &BTreeMap<String, Jwt>,
        before: Option<&Self>,
    ) -> Result<Self, Error> {
        let (mut guards, system) = (Self::default(), SystemClient::default());
        for (name, jwt) in config {
            let known = before.and_then(|before| before.verifiers.get(name));
            let known = known.filter(|(trust, _)| *trust == jwt.trust);
            let verifier = guards.verifier(&jwt.trust, before, &system);
            let verifier = verifier.map_err(|error| format!("jwt.{name}: {error}"))?;
            let verifier = known.map_or(verifier, |(_, known)| known.clone());
            guards.verifiers.insert(name.clone(), (jwt.trust.clone(), verifier));
        }
        Ok(guards)
    }

    fn verifier(
        &mut self,
        trust: &Trust,
        before: Option<&Self>,
        system: &SystemClient,
    ) -> Result<Verifier, Error> {
        let verifier = Verifier::builder().max_len(trust.max_len).remember(trust.remember);
        let list = trust.revocation.as_ref().map(|it| self.list(it, before)).transpose()?;
        let verifier = list.into_iter().fold(verifier, VerifierBuilder::revocations);
        let issuers = trust.issuers.iter().map(|issuer| {
            Ok::<_, Error>(issuer.issuer(self.source(&issuer.keys, before, system)?))
        });
        let issuers = issuers.collect::<Result<Vec<_>, _>>()?;
        Ok(issuers.into_iter().fold(verifier, VerifierBuilder::issuer).build()?)
    }

    /// One for all who have the same keys.
    fn source(
        &mut self,
        keys: &Keys,
        before: Option<&Self>,
        system: &SystemClient,
    ) -> Result<Arc<dyn KeySource>, Error> {
        let before = before.into_iter().flat_map(|before| &before.sources);
        let known = self.sources.iter().chain(before).find(|(it, _)| it == keys);
        let source = match known {
            Some((_, source)) => Arc::clone(source),
            None => keys.open(system)?,
        };
        self.sources.push((keys.clone(), Arc::clone(&source)));
        Ok(source)
    }

    /// One for all who have the same. Where only other settings change, nothing is forgotten that was
    /// revoked, also if Redis doesn't know of it yet.
    fn list(
        &mut self,
        revocation: &Revocation,
        before: Option<&Self>,
    ) -> Result<RevocationList, Error> {
        let before = before.into_iter().flat_map(|before| &before.lists);
        let mut known = self.lists.iter().chain(before);
        let same = known.clone().find(|(it, _)| it == revocation);
        let list = if let Some((_, list)) = same {
            list.clone()
        } else {
            let after = known.find(|(it, _)| it.is_at_place_of(revocation));
            revocation.open(after.map(|(_, list)| list))?
        };
        self.lists.push((revocation.clone(), list.clone()));
        Ok(list)
    }

    /// What revokes tokens that [jwt.NAME] accepts, if it goes by revocations; and whose they are.
    pub(crate) fn revocations(&self, name: &str) -> Option<(&RevocationList, &[Issuer])> {
        let (trust, _) = self.verifiers.get(name)?;
        let revocation = trust.revocation.as_ref()?;
        let (_, list) = self.lists.iter().find(|(it, _)| it == revocation)?;
        Some((list, &trust.issuers))
    }

    /// The layer of a route.
    pub(crate) fn layer(&self, guard: &Guard, jwt: &Jwt) -> Result<JwtLayer, Error> {
        let (_, verifier) = self
            .verifiers
            .get(&guard.jwt)
            .ok_or_else(|| format!("there is no [jwt.{}]", guard.jwt))?;
        Ok(jwt.layer(verifier.clone(), guard)?)
    }

    /// All of them, by name.
    pub(crate) fn verifiers(&self) -> impl Iterator<Item = (&str, &Verifier)> {
        self.verifiers.iter().map(|(name, (_, verifier))| (name.as_str(), verifier))
    }
}

impl fmt::Debug for Guards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guards").field("verifiers", &self.verifiers).finish_non_exhaustive()
    }
}
