//! `JwtLayer`, when it sees a token for the first time and when it has seen it before.

use std::error::Error;

use tower::Layer;
use tower_keep_auth::{BuildError, JwtLayer, Require, RequireLayer, Verifier};

use super::issue::{Issuance, SCOPE};
use super::{Claims, Way, bare, sender};

pub(super) fn ways(issuance: &Issuance) -> Result<[Way; 3], Box<dyn Error>> {
    let seen = verifier(issuance)?;
    for token in &issuance.tokens {
        seen.verify_now(token)?;
    }
    let seen = JwtLayer::builder(seen).build()?;
    let scope = RequireLayer::new(Require::scope(SCOPE))?;
    let issuance = issuance.clone();
    let first = move || {
        let layer = JwtLayer::builder(verifier(&issuance)?).build()?;
        Ok(sender(layer.layer(bare())))
    };
    Ok([
        Way { name: "ours, a token that is new", begin: Box::new(first) },
        Way::steady("ours, a token that was seen before", seen.layer(bare())),
        Way::steady("the same, and `RequireLayer`", seen.layer(scope.layer(bare()))),
    ])
}

fn verifier(issuance: &Issuance) -> Result<Verifier<Claims>, BuildError> {
    Verifier::builder().issuer(issuance.issuer()).typed().build()
}
