//! `WWW-Authenticate` (RFC 6750 §3, RFC 9728 §5.1).

use http::HeaderValue;

use crate::denial::Denial;
use crate::error::BuildError;

/// What each challenge says, made once.
#[derive(Clone, Debug)]
pub(crate) struct Challenge {
    /// Scheme and realm: RFC 6750 §3 wants one parameter at the least.
    begin: String,
    /// `resource_metadata`.
    end: String,
}

impl Challenge {
    pub(crate) fn new(realm: &str, metadata: Option<&str>) -> Result<Self, BuildError> {
        let begin = format!(
            "Bearer realm={}",
            quoted(realm).ok_or(BuildError::Setting(
                "`realm` must be visible ASCII characters and spaces",
            ))?
        );
        let end = match metadata {
            None => String::new(),
            Some(url) => {
                let is_url = url.parse::<http::Uri>().is_ok_and(|uri| {
                    uri.host().is_some() && matches!(uri.scheme_str(), Some("https" | "http"))
                });
                let url = quoted(url).filter(|_| is_url).ok_or(BuildError::Setting(
                    "`resource_metadata` must be a whole URL, such as \
                     https://api.example.com/.well-known/oauth-protected-resource",
                ))?;
                format!(", resource_metadata={url}")
            }
        };
        Ok(Self { begin, end })
    }

    /// To a request that was refused, if the RFC has something to tell it.
    pub(crate) fn field(&self, denial: &Denial) -> Option<HeaderValue> {
        if matches!(denial, Denial::Unavailable(_) | Denial::Unguarded) {
            return None;
        }
        let mut field = self.begin.clone();
        let mut add = |name: &str, value: &str| {
            if let Some(value) = quoted(value) {
                field.extend([", ", name, "=", &value]);
            }
        };
        if let Some(error) = denial.error() {
            add("error", error);
            add("error_description", denial.description());
        }
        if let Some(scope) = denial.scope() {
            add("scope", scope);
        }
        field.push_str(&self.end);
        HeaderValue::try_from(field).ok()
    }
}

/// A quoted-string (RFC 9110 §5.6.4). None for what can't be in one without doubt.
fn quoted(text: &str) -> Option<String> {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            ' '..='~' => quoted.push(letter),
            _ => return None,
        }
    }
    quoted.push('"');
    Some(quoted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Refusal;

    #[test]
    fn says_what_the_rfc_lets_it_say_and_nothing_without_credentials() {
        let challenge = Challenge::new("a \"b\" \\", Some("https://a.example/m")).unwrap();
        let begin = r#"Bearer realm="a \"b\" \\""#;
        let end = r#", resource_metadata="https://a.example/m""#;
        let field = |denial| challenge.field(&denial).unwrap();
        assert_eq!(field(Denial::NoToken { scope: None }), format!("{begin}{end}"));
        let why = r#", error="invalid_token", error_description="the token is invalid""#;
        assert_eq!(field(Denial::Invalid(Refusal::WrongSignature)), format!("{begin}{why}{end}"));
        let scope = Some("a b".into());
        let why = r#", error="insufficient_scope", error_description="the token doesn't permit this", scope="a b""#;
        assert_eq!(field(Denial::Insufficient { scope }), format!("{begin}{why}{end}"));
        assert_eq!(challenge.field(&Denial::Unavailable(Refusal::KeysUnavailable)), None);
    }

    #[test]
    fn refuses_what_would_break_the_field() {
        for realm in ["a\r\nb", "gr\u{fc}n", "\u{7f}"] {
            assert!(Challenge::new(realm, None).is_err(), "{realm:?}");
        }
        for url in ["/relative", "ftp://a.example/", "a b", ""] {
            assert!(Challenge::new("a", Some(url)).is_err(), "{url:?}");
        }
    }
}
