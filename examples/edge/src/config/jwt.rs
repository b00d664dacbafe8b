//! `[jwt.NAME]`: tokens that clients show, and what backends are told of them.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;
use http::HeaderName;
use toml::Spanned;
use toml::de::DeValue;
use tower_keep::auth::{self, BuildError, JwtLayer, JwtLayerBuilder, Keys as KeyCell, Verifier};

use super::Once;
use super::issuer::Issuer;
use super::problem::Span;
use super::require::Requirement;
use super::revocation::Revocation;
use super::route::Route;
use super::table::{Table, expected_one_of};
use crate::claims::as_variable;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Jwt {
    pub(crate) trust: Trust,
    cookie: Option<String>,
    pub(crate) query: Option<String>,
    realm: String,
    resource_metadata: Option<String>,
    problem_details: bool,
    retry_after: Duration,
    /// Whether backends see the token.
    pub(crate) forward_token: bool,
    /// The fields in which backends are told claims.
    pub(crate) claims: Vec<(HeaderName, String)>,
}

/// Whose tokens are accepted. As long as it stays the same, so does what is remembered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Trust {
    pub(crate) issuers: Vec<Issuer>,
    pub(crate) max_len: usize,
    pub(crate) remember: u64,
    pub(crate) revocation: Option<Revocation>,
}

/// Who gets through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Admits {
    /// Those with a token that is right.
    #[default]
    Verified,
    /// Those without any, too.
    Anonymous,
    /// Those with a wrong one, too, as if they had none.
    Anybody,
}

/// What a route asks of tokens.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Guard {
    /// Which [`Jwt`].
    pub(crate) jwt: String,
    pub(crate) admits: Admits,
    pub(crate) require: Requirement,
}

/// Fields that say something else already.
const RESERVED: [&str; 27] = [
    "accept",
    "accept-encoding",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "if-match",
    "if-none-match",
    "keep-alive",
    "origin",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
];

impl Jwt {
    /// `redis` is that of the cache.
    pub(super) fn read_all(
        file: &Table<'_>,
        near: &Path,
        redis: Option<&str>,
    ) -> BTreeMap<String, Self> {
        let read = |(name, table): &(&str, Table<'_>)| {
            ((*name).to_owned(), Self::read(table, near, redis))
        };
        file.named("jwt").iter().map(read).collect()
    }

    fn read(table: &Table<'_>, near: &Path, redis: Option<&str>) -> Self {
        let jwt = Self {
            trust: Trust::read(table, near, redis),
            cookie: table.get("cookie"),
            query: table.get("query"),
            realm: table.or("realm", "api".to_owned()),
            resource_metadata: table.get("resource_metadata"),
            problem_details: table.or("problem_details", false),
            retry_after: table.or("retry_after", Duration::from_secs(5)),
            forward_token: table.or("forward_token", true),
            claims: claims(table),
        };
        jwt.check(table);
        jwt
    }

    /// Each setting is tried by itself, so that it is known which one can't work.
    fn check(&self, table: &Table<'_>) {
        let any = auth::Issuer::new("any").key_source(KeyCell::unavailable()).any_audience();
        let Some(any) = table.check(Verifier::builder().issuer(any).build()) else { return };
        let builder = || JwtLayer::builder(any.clone());
        let trials: [(_, JwtLayerBuilder<_>); 4] = [
            ("cookie", self.cookie.iter().fold(builder(), JwtLayerBuilder::cookie)),
            ("query", self.query.iter().fold(builder(), JwtLayerBuilder::query)),
            ("realm", builder().realm(&self.realm)),
            (
                "resource_metadata",
                self.resource_metadata.iter().fold(builder(), JwtLayerBuilder::resource_metadata),
            ),
        ];
        for (key, trial) in trials {
            if let Err(why) = trial.build() {
                table.refuse(key, why);
            }
        }
    }

    /// The layer of a route.
    pub(crate) fn layer(&self, verifier: Verifier, guard: &Guard) -> Result<JwtLayer, BuildError> {
        let layer = JwtLayer::builder(verifier).realm(&self.realm).retry_after(self.retry_after);
        let layer = self.cookie.iter().fold(layer, JwtLayerBuilder::cookie);
        let layer = self.query.iter().fold(layer, JwtLayerBuilder::query);
        let metadata = self.resource_metadata.iter();
        let layer = metadata.fold(layer, JwtLayerBuilder::resource_metadata);
        let layer = if self.problem_details { layer.problem_details() } else { layer };
        let layer = match guard.admits {
            Admits::Verified => layer,
            Admits::Anonymous => layer.optional(),
            Admits::Anybody => layer.optional().ignore_invalid(),
        };
        guard.require.require().into_iter().fold(layer, JwtLayerBuilder::require).build()
    }
}

impl Trust {
    fn read(table: &Table<'_>, near: &Path, redis: Option<&str>) -> Self {
        let mut names = Once::default();
        let read = |it: &Table<'_>| {
            let issuer = Issuer::read(it, near)?;
            names.check("issuer", &issuer.name, it.at("name"), it.problems());
            Some(issuer)
        };
        let tables = table.tables("issuer");
        if tables.is_empty() {
            let expected = format!("expected a [[{}]], with its `name`", table.path("issuer"));
            table.problems().add(table.span(), "nobody's tokens are accepted", expected);
        }
        let max_len = table.get::<ByteSize>("max_len").unwrap_or(ByteSize::kib(8));
        let trust = Self {
            issuers: tables.iter().filter_map(read).collect(),
            max_len: usize::try_from(max_len.as_u64()).unwrap_or(usize::MAX),
            remember: table.get::<ByteSize>("remember").map_or(16 << 20, |it| it.as_u64()),
            revocation: Revocation::read(table, redis),
        };
        let any = || auth::Issuer::new("any").key_source(KeyCell::unavailable()).any_audience();
        if let Err(why) = Verifier::builder().issuer(any()).max_len(trust.max_len).build() {
            table.refuse("max_len", why);
        }
        if let Err(why) = Verifier::builder().issuer(any()).remember(trust.remember).build() {
            table.refuse("remember", why);
        }
        trust
    }
}

/// What each field says, by the name of a claim.
fn claims(table: &Table<'_>) -> Vec<(HeaderName, String)> {
    let mut known = HashSet::new();
    let of = |(name, at, claim): (&str, Span, String)| {
        let refuse = |title: String, label: &str| {
            table.problems().add(at.clone(), title, label);
            None
        };
        match name.parse::<HeaderName>() {
            Ok(field) if RESERVED.contains(&&*as_variable(&field)) => {
                refuse(format!("`{name}` can't tell a claim"), "expected a field of your own")
            }
            Ok(field) if !known.insert(as_variable(&field)) => {
                refuse(format!("`{name}` is here twice, in two spellings"), "expected it once")
            }
            Ok(field) => Some((field, claim)),
            Err(_) => refuse(
                format!("`{name}` is no name of a field"),
                "expected letters, digits and dashes",
            ),
        }
    };
    table.pairs("claims").into_iter().filter_map(of).collect()
}

/// One that no route needs protects nothing, though it looks as if.
pub(super) fn check_used(file: &Table<'_>, routes: &[Route]) {
    let Some(DeValue::Table(tables)) = file.value("jwt").map(Spanned::get_ref) else { return };
    for (name, table) in tables {
        let name = name.get_ref();
        let is_used = |route: &Route| route.guard.as_ref().is_some_and(|it| it.jwt == **name);
        if !routes.iter().any(is_used) {
            let expected = format!("expected `jwt = \"{name}\"` in a [[route]]");
            file.problems().add(table.span(), "no route asks for these tokens", expected);
        }
    }
}

impl Guard {
    /// `jwt`, `token` and `require` of a route.
    pub(super) fn read(route: &Table<'_>, known: &BTreeMap<String, Jwt>) -> Option<Self> {
        let name = route.get::<String>("jwt");
        let tokens = [
            ("required", Admits::Verified),
            ("optional", Admits::Anonymous),
            ("ignored-if-invalid", Admits::Anybody),
        ];
        let admits = route.choice("token", Admits::Verified, &tokens);
        let require = Requirement::read(route);
        let Some(jwt) = name else {
            for key in ["token", "require"].into_iter().filter(|it| route.value(it).is_some()) {
                route.refuse(key, "it is for routes with a `jwt`");
            }
            return None;
        };
        if !known.contains_key(&jwt) {
            let names: Vec<_> = known.keys().map(String::as_str).collect();
            let title = format!("there is no [jwt.{jwt}]");
            route.problems().add(route.at("jwt"), title, expected_one_of(&jwt, &names));
        }
        if require.is_some() && admits != Admits::Verified {
            route.refuse("require", "it needs a token, which `token` says is not needed");
        }
        Some(Self { jwt, admits, require: require.unwrap_or_default() })
    }
}
