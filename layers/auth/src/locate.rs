//! Where a request carries its token, and how it is taken from there.

use std::borrow::Cow;

use http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use http::{Request, Uri};
use percent_encoding::percent_decode_str;

/// Two tokens, or one that is sent twice (RFC 6750 §2).
const SEVERAL: &str = "the request has more than one token";

const NO_TOKEN: &str = "the Authorization field has no token";

/// Where tokens are looked for beside `Authorization`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    pub(crate) cookie: Option<Box<str>>,
    pub(crate) query: Option<Box<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Authorization,
    Cookie,
    Query,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found<'r> {
    pub(crate) place: Place,
    pub(crate) token: Cow<'r, [u8]>,
}

impl Found<'_> {
    /// What is wrong with its form, if something is. Not looked at when it is found: it takes a while,
    /// and what was accepted has the form.
    pub(crate) fn malformed(&self) -> Option<&'static str> {
        let why = match self.place {
            Place::Authorization => NO_TOKEN,
            Place::Cookie | Place::Query => "the token has characters that no token has",
        };
        (!is_token68(&self.token)).then_some(why)
    }
}

impl Places {
    /// The token of a request, whatever its form; none where there is none, nor anything that was
    /// meant to be one.
    pub(crate) fn find<'r, B>(
        &self,
        request: &'r Request<B>,
    ) -> Result<Option<Found<'r>>, &'static str> {
        let mut found = bearer(request.headers())?
            .map(|token| Found { place: Place::Authorization, token: token.into() });
        let mut add = |place, token: Cow<'r, [u8]>| match found.replace(Found { place, token }) {
            None => Ok(()),
            Some(_) => Err(SEVERAL),
        };
        if let Some(name) = &self.cookie {
            for (_, value) in cookies(request.headers()).filter(|(it, _)| *it == name.as_bytes()) {
                // One that was emptied to log somebody out.
                if !value.is_empty() {
                    add(Place::Cookie, value.into())?;
                }
            }
        }
        if let Some(name) = &self.query {
            for pair in pairs(request.uri()).filter(|pair| is_named(pair, name)) {
                let value = pair.split_once('=').map_or("", |(_, value)| value);
                add(Place::Query, percent_decode_str(value).into())?;
            }
        }
        Ok(found)
    }

    /// Takes the token out of a request. None if it isn't there, or what is left is no request.
    pub(crate) fn take<B>(&self, request: &mut Request<B>, place: Place) -> Option<HeaderValue> {
        match place {
            Place::Authorization => request.headers_mut().remove(AUTHORIZATION),
            Place::Cookie => {
                let name = self.cookie.as_deref()?;
                let token = self.find_in(request, place)?;
                without_cookie(request.headers_mut(), name.as_bytes());
                Some(token)
            }
            Place::Query => {
                let name = self.query.as_deref()?;
                let token = self.find_in(request, place)?;
                let uri = without_pair(request.uri(), name)?;
                *request.uri_mut() = uri;
                #[cfg(feature = "axum")]
                if let Some(sent) = request.extensions_mut().get_mut::<axum::extract::OriginalUri>()
                {
                    sent.0 = without_pair(&sent.0, name)?;
                }
                Some(token)
            }
        }
    }

    /// As it would stand in `Authorization`.
    fn find_in<B>(&self, request: &Request<B>, place: Place) -> Option<HeaderValue> {
        let found = self.find(request).ok()??;
        let field = [b"Bearer ", &*found.token].concat();
        let mut field = HeaderValue::try_from(field).ok().filter(|_| found.place == place)?;
        field.set_sensitive(true);
        Some(field)
    }
}

/// RFC 6750 §2.1. Other schemes are somebody else's.
fn bearer(headers: &HeaderMap) -> Result<Option<&[u8]>, &'static str> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let Some(field) = fields.next() else { return Ok(None) };
    if fields.next().is_some() {
        return Err("the request has more than one Authorization field");
    }
    // HTTP/2 leaves white space there.
    let field = field.as_bytes().trim_ascii();
    // Whatever ends the scheme: what somebody inside could take for a token isn't another scheme's.
    let end = field.iter().position(|byte| !is_tchar(*byte)).unwrap_or(field.len());
    let (scheme, rest) = field.split_at_checked(end).unwrap_or((field, b""));
    if !scheme.eq_ignore_ascii_case(b"Bearer") {
        return Ok(None);
    }
    let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
    if spaces == 0 {
        return Err(NO_TOKEN);
    }
    Ok(Some(rest.get(spaces..).unwrap_or_default()))
}

/// RFC 9110 §5.6.2: what a scheme is made of.
fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// RFC 9110 §11.2, which is `b64token` of RFC 6750 §2.1.
fn is_token68(token: &[u8]) -> bool {
    let padded = token.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
    let (letters, _) = token.split_at_checked(padded).unwrap_or_default();
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(byte);
    !letters.is_empty() && letters.iter().all(is_letter)
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers.get_all(COOKIE).into_iter().flat_map(|line| cookies_of(line.as_bytes()))
}

fn cookies_of(line: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    line.split(|byte| *byte == b';').map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        let (name, value) = pair.split_at_checked(at).unwrap_or((pair, b""));
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        // RFC 6265 §4.1.1: the quotes are no part of what the server set.
        let bare = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        (name.trim_ascii(), bare.unwrap_or(value))
    })
}

fn without_cookie(headers: &mut HeaderMap, name: &[u8]) {
    let mut kept = Vec::new();
    for line in headers.get_all(COOKIE) {
        for pair in line.as_bytes().split(|byte| *byte == b';') {
            if cookies_of(pair).any(|(it, _)| it == name) || pair.trim_ascii().is_empty() {
                continue;
            }
            if !kept.is_empty() {
                kept.extend_from_slice(b"; ");
            }
            kept.extend_from_slice(pair.trim_ascii());
        }
    }
    headers.remove(COOKIE);
    if let Some(kept) = Some(kept).filter(|kept| !kept.is_empty())
        && let Ok(kept) = HeaderValue::try_from(kept)
    {
        headers.insert(COOKIE, kept);
    }
}

fn pairs(uri: &Uri) -> impl Iterator<Item = &str> {
    uri.query().unwrap_or_default().split('&')
}

/// The name counts however it is encoded, or a token could be sent past this and reach logs.
fn is_named(pair: &str, name: &str) -> bool {
    let found = pair.split_once('=').map_or(pair, |(name, _)| name);
    percent_decode_str(found).eq(name.bytes())
}

fn without_pair(uri: &Uri, name: &str) -> Option<Uri> {
    let mut target = uri.path().to_owned();
    let mut mark = '?';
    for pair in pairs(uri).filter(|pair| !is_named(pair, name) && !pair.is_empty()) {
        target.push(mark);
        target.push_str(pair);
        mark = '&';
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(target).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        Places { cookie: Some("t".into()), query: Some("access_token".into()) }
    }

    fn request(uri: &str, fields: &[(&'static str, &str)]) -> Request<()> {
        let mut request = Request::get(uri).body(()).unwrap();
        for (name, value) in fields {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        request
    }

    fn found(uri: &str, fields: &[(&'static str, &str)]) -> Option<(Place, String)> {
        let request = request(uri, fields);
        let found = places().find(&request).unwrap()?;
        Some((found.place, String::from_utf8(found.token.to_vec()).unwrap()))
    }

    #[test]
    fn finds_a_token_wherever_it_may_be() {
        for field in ["Bearer a.b", "bearer a.b", "BEARER   a.b "] {
            let expected = Some((Place::Authorization, "a.b".to_owned()));
            assert_eq!(found("/", &[("authorization", field)]), expected, "{field}");
        }
        for field in ["t=a.b", "x=y; t=a.b", "t=\"a.b\";z"] {
            let expected = Some((Place::Cookie, "a.b".to_owned()));
            assert_eq!(found("/", &[("cookie", field)]), expected, "{field}");
        }
        for uri in ["/?access_token=a.b", "/?x&access%5Ftoken=a%2Eb"] {
            assert_eq!(found(uri, &[]), Some((Place::Query, "a.b".to_owned())), "{uri}");
        }
        for field in ["Basic YTpi", "Bearerish a", ""] {
            assert_eq!(found("/?token=a", &[("authorization", field)]), None, "{field}");
        }
        assert_eq!(found("/", &[("cookie", "t=; T=a; tt=b")]), None);
    }

    #[test]
    fn refuses_what_can_be_read_in_two_ways() {
        let is_refused = |uri: &str, fields: &[(&'static str, &str)]| {
            let request = request(uri, fields);
            let found = places().find(&request);
            let found =
                found.and_then(|found| found.and_then(|it| it.malformed()).map_or(Ok(()), Err));
            assert!(found.is_err(), "{uri} {fields:?}");
        };
        let bearer = ("authorization", "Bearer a");
        is_refused("/", &[bearer, bearer]);
        is_refused("/", &[bearer, ("authorization", "Basic YTpi")]);
        is_refused("/", &[bearer, ("cookie", "t=a")]);
        is_refused("/?access_token=a", &[bearer]);
        is_refused("/?access_token=a", &[("cookie", "t=a")]);
        is_refused("/?access_token=a&access_token=a", &[]);
        is_refused("/", &[("cookie", "t=a; t=b")]);
        is_refused("/", &[("cookie", "t=a"), ("cookie", "t=a")]);
        for field in [
            "Bearer",
            "Bearer ",
            "Bearer a b",
            "Bearer a, Bearer b",
            "Bearer =",
            "Bearer a=b",
            "Bearer\ta",
            "Bearer \ta",
            "Bearer,a",
        ] {
            is_refused("/", &[("authorization", field)]);
        }
        is_refused("/?access_token=a%20b", &[]);
        is_refused("/?access_token", &[]);
    }

    #[test]
    fn takes_the_token_and_nothing_else() {
        let mut request =
            request("http://h/p?a=1&access%5Ftoken=x.y&b", &[("cookie", "a=b"), ("cookie", "c")]);
        assert_eq!(places().take(&mut request, Place::Query).unwrap(), "Bearer x.y");
        assert_eq!(request.uri(), "http://h/p?a=1&b");
        request.headers_mut().append(COOKIE, "d=e;t=x.y ; f".parse().unwrap());
        assert_eq!(places().take(&mut request, Place::Cookie).unwrap(), "Bearer x.y");
        assert_eq!(request.headers()[COOKIE], "a=b; c; d=e; f");
    }

    #[cfg(feature = "axum")]
    #[test]
    fn takes_it_also_from_what_axum_remembers() {
        let mut request = request("/p?access_token=x", &[]);
        let sent = axum::extract::OriginalUri("/n/p?access_token=x&y".parse().unwrap());
        request.extensions_mut().insert(sent);
        places().take(&mut request, Place::Query).unwrap();
        let sent = request.extensions().get::<axum::extract::OriginalUri>().unwrap();
        assert_eq!(sent.0, "/n/p?y");
    }
}
