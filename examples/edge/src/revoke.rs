//! What operators revoke: `POST /revoke/NAME?subject=…`, of the tokens that `[jwt.NAME]` accepts.

use std::borrow::Cow;

use http::{Response, StatusCode};
use percent_encoding::percent_decode_str;
use tower_keep::auth::{Reach, Revocations as _, Target};

use crate::body::Content;
use crate::config::Issuer;
use crate::front::own;
use crate::guards::Guards;

const USAGE: &str = "expected one of token (jti), session (sid), subject (sub) and client \
    (client_id), and the issuer if there are several, as in ?issuer=https://id.example.com&subject=ada";

pub(crate) async fn answer(guards: &Guards, name: &str, query: &str) -> Response<Content> {
    let name = percent_decode_str(name).decode_utf8_lossy();
    let Some((list, issuers)) = guards.revocations(&name) else {
        return own(StatusCode::NOT_FOUND, format!("There is no [jwt.{name}.revocation].\n"));
    };
    let target = match target(issuers, query) {
        Ok(target) => target,
        Err(why) => return own(StatusCode::BAD_REQUEST, format!("{why}\n")),
    };
    match list.revoke(target).await {
        Ok(Reach::Everywhere) => own(StatusCode::OK, "It is revoked everywhere.\n"),
        Ok(Reach::ThisNode) => {
            own(StatusCode::ACCEPTED, "It is revoked here, and elsewhere when Redis is back.\n")
        }
        Err(error) => own(StatusCode::INSUFFICIENT_STORAGE, format!("{error}\n")),
    }
}

/// One kind of target, by its issuer and its name.
type Kind = fn(&str, &str) -> Target;

/// What a query says is to be revoked.
fn target(issuers: &[Issuer], query: &str) -> Result<Target, String> {
    let mut issuer: Option<Cow<'_, str>> = None;
    let mut found: Option<(Kind, Cow<'_, str>)> = None;
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').ok_or(USAGE)?;
        let value = percent_decode_str(value).decode_utf8().map_err(|_| USAGE)?;
        let kind: Kind = match key {
            "issuer" if issuer.is_none() => {
                issuer = Some(value);
                continue;
            }
            "token" => Target::token,
            "session" => Target::session,
            "subject" => Target::subject,
            "client" => Target::client,
            _ => return Err(USAGE.to_owned()),
        };
        if value.is_empty() || found.replace((kind, value)).is_some() {
            return Err(USAGE.to_owned());
        }
    }
    let (kind, value) = found.ok_or(USAGE)?;
    let issuer = match (&issuer, issuers) {
        (Some(name), _) if issuers.iter().any(|it| it.name == **name) => &**name,
        (Some(name), _) => return Err(format!("nobody's tokens are accepted who is {name}")),
        (None, [only]) => &only.name,
        (None, _) => return Err(USAGE.to_owned()),
    };
    Ok(kind(issuer, &value))
}
