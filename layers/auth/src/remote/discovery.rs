//! What an issuer says of itself: OpenID Connect Discovery 1.0, RFC 8414.

use std::borrow::Cow;

use http::Uri;
use serde::Deserialize;

use super::error::FetchError;
use crate::error::BuildError;
use crate::key::checked;

/// Where an issuer's metadata is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Convention {
    /// OpenID Connect Discovery §4.1: after the issuer's own path.
    OpenId,
    /// RFC 8414 §3.1: before it.
    OAuth,
}

impl Convention {
    pub(super) fn url_of(self, issuer: &str) -> Result<Uri, BuildError> {
        let wrong = |what| BuildError::Url { url: issuer.to_owned(), what };
        if issuer.contains(['?', '#']) {
            return Err(wrong("an issuer has no query and no fragment (RFC 8414 §2)"));
        }
        let no_url = "this is no URL; give one as in https://id.example.com";
        let parsed: Uri = issuer.parse().map_err(|_| wrong(no_url))?;
        parsed.authority().ok_or_else(|| wrong(no_url))?;
        let issuer = issuer.strip_suffix('/').unwrap_or(issuer);
        let url = match self {
            Self::OpenId => format!("{issuer}/.well-known/openid-configuration"),
            Self::OAuth => {
                let authority = issuer.find("://").map_or(0, |at| at + 3);
                let path = issuer[authority..].find('/').map_or(issuer.len(), |at| authority + at);
                let (host, path) = issuer.split_at(path);
                format!("{host}/.well-known/oauth-authorization-server{path}")
            }
        };
        url.parse().map_err(|_| wrong(no_url))
    }
}

/// Makes sure that keys can be trusted because of where they come from.
pub(super) fn check(url: &Uri, allow_http: bool) -> Result<(), &'static str> {
    let Some(authority) = url.authority() else {
        return Err("this is no absolute URL; give one as in https://id.example.com/jwks.json");
    };
    if authority.as_str().contains('@') {
        return Err("the URL has a user's name in it, which ends up in logs; leave it out");
    }
    match url.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if allow_http => Ok(()),
        Some("http") => Err(
            "keys that come over http can be anybody's; give an https URL, or say `allow_http` if the way there is safe",
        ),
        _ => Err("keys are fetched by https; give such a URL"),
    }
}

/// The members that count.
#[derive(Debug, Deserialize)]
struct Metadata<'a> {
    #[serde(borrow)]
    issuer: Cow<'a, str>,
    #[serde(borrow)]
    jwks_uri: Option<Cow<'a, str>>,
}

/// Where the keys of `issuer` are, as `document` says. Both names must be the same to the letter.
pub(super) fn jwks_uri(document: &[u8], issuer: &str, allow_http: bool) -> Result<Uri, FetchError> {
    let text = checked(document)
        .map_err(|_| FetchError::Metadata("not JSON, or of two meanings, or too deep"))?;
    let metadata: Metadata<'_> = serde_json::from_str(text)
        .map_err(|_| FetchError::Metadata("it has no `issuer`, or members of wrong types"))?;
    if metadata.issuer != issuer {
        return Err(FetchError::IssuerMismatch);
    }
    let uri = metadata.jwks_uri.ok_or(FetchError::Metadata("it has no `jwks_uri`"))?;
    let uri = uri.parse().map_err(|_| FetchError::Metadata("its `jwks_uri` is no URL"))?;
    check(&uri, allow_http).map_err(|_| {
        FetchError::Metadata("its `jwks_uri` is no absolute https URL without a user's name")
    })?;
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn metadata_is_where_either_standard_puts_it() {
        let url = |convention: Convention, issuer| convention.url_of(issuer).unwrap().to_string();
        for (issuer, openid, oauth) in [
            (
                "https://id.example.com",
                "https://id.example.com/.well-known/openid-configuration",
                "https://id.example.com/.well-known/oauth-authorization-server",
            ),
            (
                "https://id.example.com/",
                "https://id.example.com/.well-known/openid-configuration",
                "https://id.example.com/.well-known/oauth-authorization-server",
            ),
            (
                "https://id.example.com:8443/realms/shop/",
                "https://id.example.com:8443/realms/shop/.well-known/openid-configuration",
                "https://id.example.com:8443/.well-known/oauth-authorization-server/realms/shop",
            ),
        ] {
            assert_eq!(url(Convention::OpenId, issuer), openid);
            assert_eq!(url(Convention::OAuth, issuer), oauth);
        }
        for issuer in [
            "https://id.example.com/?a",
            "https://id.example.com/#a",
            "https://",
            "no url",
            "id.example.com",
            "/shop",
        ] {
            assert!(Convention::OpenId.url_of(issuer).is_err(), "{issuer}");
            assert!(Convention::OAuth.url_of(issuer).is_err(), "{issuer}");
        }
    }

    #[test]
    fn only_safe_urls_are_fetched() {
        let check = |url: &str, allow| check(&url.parse().unwrap(), allow);
        assert_eq!(check("https://id.example.com/jwks", false), Ok(()));
        assert_eq!(check("http://id.example.com/jwks", true), Ok(()));
        assert!(check("http://id.example.com/jwks", false).unwrap_err().contains("allow_http"));
        assert!(check("https://me@id.example.com/", true).unwrap_err().contains("leave it out"));
        assert!(check("ftp://id.example.com/jwks", true).is_err());
        assert!(check("/jwks", true).is_err());
    }

    #[test]
    fn metadata_must_be_the_issuers_own() {
        const ISSUER: &str = "https://id.example.com";
        let read = |text: &str| jwks_uri(text.as_bytes(), ISSUER, false).map(|uri| uri.to_string());
        let whole = r#"{"issuer":"https://id.example.com","jwks_uri":"https://keys.example.com/a","x":[1]}"#;
        assert_eq!(read(whole).unwrap(), "https://keys.example.com/a");
        for (text, why) in [
            ("<html>", "JSON"),
            ("{}", "`issuer`"),
            (r#"{"issuer":"https://id.example.com"}"#, "no `jwks_uri`"),
            (r#"{"issuer":"https://id.example.com/","jwks_uri":"https://a.example/"}"#, "another"),
            (r#"{"issuer":"https://ID.example.com","jwks_uri":"https://a.example/"}"#, "another"),
            (r#"{"issuer":"https://id.example.com","jwks_uri":"http://a.example/"}"#, "https"),
            (r#"{"issuer":"https://id.example.com","jwks_uri":"file:///etc/passwd"}"#, "no URL"),
            (r#"{"issuer":"https://id.example.com","jwks_uri":" "}"#, "no URL"),
            (r#"{"issuer":"a","issuer":"https://id.example.com"}"#, "two meanings"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn reads_anything_or_refuses_it(document: Vec<u8>, issuer: String) {
            let _ = jwks_uri(&document, &issuer, true);
            let _ = Convention::OpenId.url_of(&issuer);
            let _ = Convention::OAuth.url_of(&issuer);
        }
    }
}
