//! What the command line and the environment say.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use http::uri::{Authority, Uri};
use tower_keep::cache::{Credentials, Heuristic, SetCookie};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "usage: edge ORIGIN_URL [LISTEN_ADDRESS]";

/// All there is to set.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) origin: Authority,
    pub(crate) listen: SocketAddr,
    pub(crate) heuristic: Heuristic,
    pub(crate) set_cookie: SetCookie,
    pub(crate) credentials: Credentials,
    pub(crate) redis: Option<String>,
}

impl Config {
    /// From the arguments behind the program's name, and a way to look up the environment.
    pub(crate) fn read(
        mut arguments: impl Iterator<Item = String>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self> {
        let url = arguments.next().ok_or(USAGE)?;
        let listen = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
        if let Some(more) = arguments.next() {
            return Err(format!("{more:?} is one argument too many; {USAGE}").into());
        }
        Ok(Self {
            origin: origin(&url)?,
            listen: listen.parse().map_err(|_| {
                format!("LISTEN_ADDRESS: {listen:?} is not an IP address and a port, such as 127.0.0.1:8080")
            })?,
            heuristic: heuristic(environment("CACHE_HEURISTIC").as_deref())?,
            set_cookie: set_cookie(environment("CACHE_SET_COOKIE").as_deref())?,
            credentials: credentials(environment("CACHE_CREDENTIALS").as_deref())?,
            redis: environment("REDIS_URL"),
        })
    }
}

/// The host and port of an origin's URL.
fn origin(url: &str) -> Result<Authority> {
    let refused = |why: &str| format!("ORIGIN_URL: {url:?} {why}");
    let uri: Uri = url.parse().map_err(|error| refused(&format!("is not a URL: {error}")))?;
    if uri.scheme_str() != Some("http") {
        return Err(refused("is not of the form http://host:port").into());
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(refused("has a path or a query; requests bring their own").into());
    }
    let authority = uri.into_parts().authority.filter(|authority| !authority.host().is_empty());
    let authority = authority.ok_or_else(|| refused("names no host"))?;
    if authority.as_str().contains('@') {
        return Err(refused("holds credentials, which would not be sent").into());
    }
    let port = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
    if !port.is_empty() && authority.port_u16().is_none_or(|port| port == 0) {
        return Err(refused("has a port that is none").into());
    }
    Ok(authority)
}

fn heuristic(percent: Option<&str>) -> Result<Heuristic> {
    let Some(percent) = percent else { return Ok(Heuristic::Off) };
    let percent = percent
        .parse()
        .map_err(|_| format!("CACHE_HEURISTIC: {percent:?} is not a whole number of percent"))?;
    Ok(Heuristic::Fraction { percent, cap: Duration::from_secs(24 * 3600) })
}

fn credentials(policy: Option<&str>) -> Result<Credentials> {
    match policy {
        None | Some("cautious") => Ok(Credentials::Cautious),
        Some("rfc9111") => Ok(Credentials::Rfc9111),
        Some(other) => {
            Err(format!("CACHE_CREDENTIALS: {other:?} is not cautious or rfc9111").into())
        }
    }
}

fn set_cookie(policy: Option<&str>) -> Result<SetCookie> {
    match policy {
        None | Some("refuse") => Ok(SetCookie::Refuse),
        Some("strip") => Ok(SetCookie::Strip),
        Some("store") => Ok(SetCookie::Store),
        Some(other) => {
            Err(format!("CACHE_SET_COOKIE: {other:?} is not refuse, strip or store").into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Config> {
        let look_up = |name: &str| {
            let entry = environment.iter().find(|(key, _)| *key == name);
            entry.map(|(_, value)| (*value).to_owned())
        };
        Config::read(arguments.iter().map(|argument| (*argument).to_owned()), look_up)
    }

    #[test]
    fn a_url_is_enough() {
        let config = read(&["http://example.com"], &[]).unwrap();
        assert_eq!(config.origin, "example.com");
        assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
        let config = read(&["http://[::1]:8000/", "[::]:80"], &[]).unwrap();
        assert_eq!((config.origin.as_str(), config.listen.port()), ("[::1]:8000", 80));
    }

    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str);

    #[test]
    fn each_mistake_is_named() {
        let ok = "http://a";
        let cases: &[Case<'_>] = &[
            (&[], &[], "usage: "),
            (&["http://a", "127.0.0.1:1", "x"], &[], "too many"),
            (&["https://a"], &[], "http://host:port"),
            (&["a:80"], &[], "http://host:port"),
            (&["http://a/b"], &[], "path"),
            (&["http://a?b"], &[], "query"),
            (&["http://u:p@a"], &[], "credentials"),
            (&["http://a:0"], &[], "port"),
            (&["http://a:99999"], &[], "ORIGIN_URL"),
            (&["http://"], &[], "ORIGIN_URL"),
            (&["http://a b"], &[], "ORIGIN_URL"),
            (&[ok, "localhost:80"], &[], "LISTEN_ADDRESS"),
            (&[ok, "80"], &[], "LISTEN_ADDRESS"),
            (&[ok], &[("CACHE_HEURISTIC", "ten")], "CACHE_HEURISTIC"),
            (&[ok], &[("CACHE_SET_COOKIE", "keep")], "CACHE_SET_COOKIE"),
            (&[ok], &[("CACHE_CREDENTIALS", "any")], "CACHE_CREDENTIALS"),
        ];
        for (arguments, environment, named) in cases {
            let error = read(arguments, environment).unwrap_err().to_string();
            assert!(error.contains(named), "{arguments:?} {environment:?}: {error}");
        }
    }
}
