//! `jsonwebtoken` without a layer: a service that reads the field and calls `decode`.

use std::error::Error;
use std::future::ready;

use http::StatusCode;
use http::header::AUTHORIZATION;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use tower::service_fn;

use super::issue::{AUDIENCE, ISSUER, Issuance};
use super::{Asked, Claims, Way, answer, body};

pub(super) fn way(issuance: &Issuance) -> Result<Way, Box<dyn Error>> {
    let algorithm: Algorithm = issuance.algorithm.parse()?;
    let jwk: Jwk = serde_json::from_value(issuance.jwk()?)?;
    let key = DecodingKey::try_from(&jwk)?;
    let mut validation = Validation::new(algorithm);
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    validation.set_required_spec_claims(&["iss", "aud", "exp"]);
    let body = body();
    let service = service_fn(move |mut request: Asked| {
        let field = request.headers().get(AUTHORIZATION).map(http::HeaderValue::as_bytes);
        let token = field.and_then(|field| field.strip_prefix(b"Bearer ")).unwrap_or_default();
        let mut response = answer(&body);
        match decode::<Claims>(token, &key, &validation) {
            Ok(data) => drop(request.extensions_mut().insert(data.claims)),
            Err(_) => *response.status_mut() = StatusCode::UNAUTHORIZED,
        }
        ready(Ok(response))
    });
    Ok(Way::steady("jsonwebtoken 12, called in the service", service))
}
