//! `tower-oauth2-resource-server`: a layer over `jsonwebtoken`.

use std::error::Error;

use futures_util::FutureExt;
use tower::Layer;
use tower_oauth2_resource_server::server::OAuth2ResourceServer;
use tower_oauth2_resource_server::tenant::TenantConfiguration;
use tower_oauth2_resource_server::validation::ClaimsValidationSpec;

use super::issue::{AUDIENCE, ISSUER, Issuance};
use super::{Claims, Way, bare};

pub(super) fn way(issuance: &Issuance) -> Result<Way, Box<dyn Error>> {
    let audiences = vec![AUDIENCE.to_owned()];
    let tenant = TenantConfiguration::static_builder(&issuance.jwks)
        .audiences(&audiences)
        .claims_validation(ClaimsValidationSpec::new().iss(ISSUER).aud(&audiences).exp(true))
        .allowed_algorithms(&[issuance.algorithm.parse()?])
        .build()?;
    let server = OAuth2ResourceServer::<Claims>::builder().add_tenant(tenant).build();
    let server = server.now_or_never().ok_or("it waits for something")??;
    Ok(Way::steady("tower-oauth2-resource-server 0.12", server.into_layer().layer(bare())))
}
