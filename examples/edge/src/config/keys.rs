//! Where an issuer's keys come from: what it publishes, or a file.

use std::cell::OnceCell;
use std::ffi::OsStr;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::Bytes;
use tower::service_fn;
use tower_keep::auth::{
    Algorithm, BuildError, FileKeys, FileKeysBuilder, HttpsClient, KeySource, RemoteKeys,
    RemoteKeysBuilder,
};

use super::certificate::read_path;
use super::issuer::reason;
use super::listener::{positive, positive_or_none, size};
use super::table::Table;

/// Two that are equal have the same keys, which are read or fetched once for both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    File(File),
    Remote(Remote),
}

/// The client that trusts whom the system does. Who that is is read once for all issuers, which takes
/// a while.
#[derive(Default)]
pub(crate) struct SystemClient(OnceCell<Option<HttpsClient>>);

impl SystemClient {
    fn get(&self) -> Option<HttpsClient> {
        self.0.get_or_init(|| HttpsClient::new().ok()).clone()
    }
}

/// A file, which is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    path: PathBuf,
    format: Format,
    kid: Option<String>,
    interval: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Jwks,
    SecretJwks,
    Jwk,
    Pem(Algorithm),
    Der(Algorithm),
}

/// What the issuer publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remote {
    place: Place,
    /// Whom to trust in place of the system's authorities: the content of the file.
    authority: Option<Vec<u8>>,
    allow_http: bool,
    refresh: Duration,
    refresh_between: (Duration, Duration),
    retry: (Duration, Duration),
    max_stale: Option<Duration>,
    timeout: Duration,
    max_size: usize,
    look_interval: Duration,
    max_wait: Duration,
    max_waiting: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Jwks(String),
    OpenId(String),
    OAuth(String),
}

/// What is for keys in a file, and what is for those that are fetched.
const OF_FILES: [&str; 3] = ["format", "kid", "interval"];
const OF_REMOTE: [&str; 11] = [
    "authority",
    "allow_http",
    "refresh",
    "refresh_between",
    "retry",
    "max_stale",
    "timeout",
    "max_size",
    "look_interval",
    "max_wait",
    "max_waiting",
];

impl Keys {
    /// By discovery from `issuer`, where nothing else is said.
    pub(super) fn read(
        table: &Table<'_>,
        near: &Path,
        issuer: &str,
        algorithms: &[Algorithm],
    ) -> Option<Self> {
        let places = ["file", "jwks", "discovery"];
        let mut given = places.into_iter().filter(|key| table.value(key).is_some());
        if let (Some(first), Some(second)) = (given.next(), given.next()) {
            table.refuse(second, format!("`{first}` is given as well; expected one of them"));
        }
        // All are known keys, whichever of them it has.
        let (file, remote) =
            (File::read(table, near, algorithms), Remote::read(table, near, issuer));
        let is_file = table.value("file").is_some();
        let others = if is_file { &OF_REMOTE[..] } else { &OF_FILES };
        for key in others.iter().filter(|key| table.value(key).is_some()) {
            let what = if is_file { "that are fetched" } else { "in a `file`" };
            table.refuse(key, format!("it is for keys {what}"));
        }
        if is_file {
            let file = file?;
            if let Err(why) = file.builder().build() {
                table.refuse("file", reason(&why));
            }
            return Some(Self::File(file));
        }
        let remote = remote?;
        remote.check(table);
        Some(Self::Remote(remote))
    }

    /// The keys, which are read or fetched from now on. To be called within a tokio runtime.
    pub(crate) fn open(&self, system: &SystemClient) -> Result<Arc<dyn KeySource>, BuildError> {
        Ok(match self {
            Self::File(file) => Arc::new(file.builder().build()?),
            Self::Remote(remote) => {
                let client = match &remote.authority {
                    Some(pem) => Some(HttpsClient::trusting(pem)?),
                    None => system.get(),
                };
                Arc::new(match client {
                    Some(client) => remote.builder().client(client).build()?,
                    None => remote.builder().build()?,
                })
            }
        })
    }
}

impl File {
    fn read(table: &Table<'_>, near: &Path, algorithms: &[Algorithm]) -> Option<Self> {
        let path = table.get::<PathBuf>("file");
        let kid = table.get("kid");
        let interval = positive(table, "interval", Duration::from_secs(1));
        let extension = path.as_ref().and_then(|path| path.extension()).and_then(OsStr::to_str);
        let usual = match extension {
            Some("pem" | "pub") => "pem",
            Some("der") => "der",
            Some("jwk") => "jwk",
            _ => "jwks",
        };
        let names = ["jwks", "secret-jwks", "jwk", "pem", "der"].map(|name| (name, name));
        let format = table.choice("format", usual, &names);
        let path = near.join(path?);
        let format = match (format, algorithms) {
            ("secret-jwks", _) => Format::SecretJwks,
            ("jwk", _) => Format::Jwk,
            ("pem", [algorithm]) => Format::Pem(*algorithm),
            ("der", [algorithm]) => Format::Der(*algorithm),
            ("pem" | "der", _) => {
                let why = "a key in PEM or DER doesn't say for which algorithm it is; \
                    expected just one, as in [\"RS256\"]";
                table.refuse("algorithms", why);
                return None;
            }
            _ => Format::Jwks,
        };
        Some(Self { path, format, kid, interval })
    }

    fn builder(&self) -> FileKeysBuilder {
        let path = self.path.as_path();
        let keys = match self.format {
            Format::Jwks => FileKeys::jwks(path),
            Format::SecretJwks => FileKeys::secret_jwks(path),
            Format::Jwk => FileKeys::jwk(path),
            Format::Pem(algorithm) => FileKeys::pem(path, algorithm),
            Format::Der(algorithm) => FileKeys::der(path, algorithm),
        };
        self.kid.iter().fold(keys, FileKeysBuilder::kid).interval(self.interval)
    }
}

impl Remote {
    fn read(table: &Table<'_>, near: &Path, issuer: &str) -> Option<Self> {
        let conventions = [("openid", false), ("oauth", true)];
        let is_oauth = table.choice("discovery", false, &conventions);
        let place = match table.get::<String>("jwks") {
            Some(url) => Place::Jwks(url),
            None if is_oauth => Place::OAuth(issuer.to_owned()),
            None => Place::OpenId(issuer.to_owned()),
        };
        let authority = table.get::<PathBuf>("authority");
        let authority = authority.map(|path| read_path(table, "authority", &path, near));
        let minute = Duration::from_secs(60);
        let remote = Self {
            place,
            authority: authority.clone().flatten(),
            allow_http: table.or("allow_http", false),
            refresh: table.or("refresh", 10 * minute),
            refresh_between: pair(table, "refresh_between", (minute, 60 * minute)),
            retry: pair(table, "retry", (Duration::from_secs(1), minute)),
            max_stale: positive_or_none(table, "max_stale", None),
            timeout: positive(table, "timeout", Duration::from_secs(5)),
            max_size: size(table, "max_size", 256 << 10, 1 << 10),
            look_interval: positive(table, "look_interval", Duration::from_secs(5)),
            max_wait: positive(table, "max_wait", Duration::from_secs(10)),
            max_waiting: table.within("max_waiting", 4096, 1..=usize::MAX),
        };
        // A file that can't be read is told of already.
        (authority != Some(None)).then_some(remote)
    }

    /// Whether it can work, without asking anybody.
    fn check(&self, table: &Table<'_>) {
        let never = service_fn(|_: Request<Empty<Bytes>>| {
            pending::<Result<Response<Empty<Bytes>>, std::io::Error>>()
        });
        match self.builder().client(never).build() {
            Ok(_) => {}
            // Of a setting that says it itself, or of the issuer's own name.
            Err(why @ BuildError::Url { .. }) => {
                let key = if matches!(self.place, Place::Jwks(_)) { "jwks" } else { "name" };
                return table.refuse(key, reason(&why));
            }
            Err(why) => {
                let _ = table.check::<()>(Err(why));
                return;
            }
        }
        if let Some(pem) = &self.authority
            && let Err(why) = HttpsClient::trusting(pem)
        {
            table.refuse("authority", why);
        }
    }

    fn builder(&self) -> RemoteKeysBuilder {
        let keys = match &self.place {
            Place::Jwks(url) => RemoteKeys::jwks(url),
            Place::OpenId(issuer) => RemoteKeys::openid(issuer),
            Place::OAuth(issuer) => RemoteKeys::oauth(issuer),
        };
        let keys = keys
            .refresh(self.refresh)
            .refresh_between(self.refresh_between.0, self.refresh_between.1)
            .retry(self.retry.0, self.retry.1)
            .timeout(self.timeout)
            .max_size(self.max_size)
            .look_interval(self.look_interval)
            .max_wait(self.max_wait)
            .max_waiting(self.max_waiting);
        let keys = self.max_stale.into_iter().fold(keys, RemoteKeysBuilder::max_stale);
        if self.allow_http { keys.allow_http() } else { keys }
    }
}

/// Two times, the least and the most.
fn pair(
    table: &Table<'_>,
    key: &'static str,
    standard: (Duration, Duration),
) -> (Duration, Duration) {
    match table.get::<Vec<Duration>>(key).as_deref() {
        None => standard,
        Some([least, most]) => (*least, *most),
        Some(_) => {
            table.refuse(key, "expected two times, the least and the most");
            standard
        }
    }
}
