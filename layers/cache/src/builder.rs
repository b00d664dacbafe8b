//! The settings of a layer.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use tower_keep_store::Store;

use crate::budget::Budget;
use crate::cache_status::CacheName;
use crate::core::{Core, Settings};
use crate::error::ConfigError;
use crate::forms::CompressedForms;
use crate::key::KeyPolicy;
use crate::layer::CacheLayer;
use crate::marks::Marks;
use crate::policy::{CacheKind, Credentials, Heuristic, PolicyOptions, SetCookie};
use crate::rule::{Rule, Rules};
use crate::status_field::CacheStatusField;
use crate::stored::StoredCodec;
use crate::vary::UNTRUSTED;

/// Settings of a [`CacheLayer`].
///
/// | setting | default |
/// | --- | --- |
/// | [`name`](Self::name) | `tower-keep` |
/// | [`cache_status`](Self::cache_status) | on |
/// | [`space`](Self::space) | `http` |
/// | [`key`](Self::key) | the scheme where the request names it, the host, the path and the query |
/// | [`untrusted_headers`](Self::untrusted_headers) | `X-Forwarded-Host` and 15 others |
/// | [`kind`](Self::kind) | shared |
/// | [`credentials`](Self::credentials) | cautious |
/// | [`set_cookie`](Self::set_cookie) | refuse |
/// | [`heuristic`](Self::heuristic) | off |
/// | [`default_ttl`](Self::default_ttl), [`max_ttl`](Self::max_ttl) | none |
/// | [`stale_while_revalidate`](Self::stale_while_revalidate), [`stale_if_error`](Self::stale_if_error) | 0 |
/// | [`rule`](Self::rule) | none |
/// | [`max_body`](Self::max_body) | 4 MiB |
/// | [`max_in_flight`](Self::max_in_flight) | 64 MiB |
/// | [`max_fill`](Self::max_fill) | 60 s |
/// | [`max_wait`](Self::max_wait) | 10 s |
/// | [`max_lag`](Self::max_lag) | 10 s |
/// | [`hit_for_miss`](Self::hit_for_miss) | 60 s |
/// | [`keep_for_validation`](Self::keep_for_validation) | 1 h |
/// | [`finish_abandoned`](Self::finish_abandoned) | true |
/// | [`early_refresh`](Self::early_refresh) | the store's |
/// | [`retry_pause`](Self::retry_pause) | 1 s |
/// | [`compress`](Self::compress) | off |
#[derive(Clone, Debug)]
#[must_use]
pub struct CacheLayerBuilder {
    store: Store,
    name: String,
    status_field: CacheStatusField,
    space: String,
    key: Option<Box<KeyPolicy>>,
    untrusted: Vec<HeaderName>,
    policy: PolicyOptions,
    rules: Vec<Rule>,
    max_body: usize,
    max_in_flight: usize,
    max_fill: Duration,
    max_wait: Duration,
    max_lag: Duration,
    hit_for_miss: Duration,
    keep_for_validation: Duration,
    finish_abandoned: bool,
    early_refresh: Option<f64>,
    retry_pause: Duration,
    forms: Option<CompressedForms>,
}

impl CacheLayerBuilder {
    pub(crate) fn new(store: Store) -> Self {
        Self {
            store,
            name: "tower-keep".to_owned(),
            status_field: CacheStatusField::On,
            space: "http".to_owned(),
            key: None,
            untrusted: UNTRUSTED.to_vec(),
            policy: PolicyOptions::default(),
            rules: Vec::new(),
            max_body: 4 << 20,
            max_in_flight: 64 << 20,
            max_fill: Duration::from_secs(60),
            max_wait: Duration::from_secs(10),
            max_lag: Duration::from_secs(10),
            hit_for_miss: Duration::from_secs(60),
            keep_for_validation: Duration::from_secs(3600),
            finish_abandoned: true,
            early_refresh: None,
            retry_pause: Duration::from_secs(1),
            forms: None,
        }
    }

    /// What the cache calls itself in `Cache-Status` (RFC 9211 §2).
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// What responses say of the cache in `Cache-Status` (RFC 9211).
    ///
    /// ```
    /// use tower_keep_cache::{CacheLayer, CacheStatusField};
    /// use tower_keep_store::{L1, Store};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let keep = Store::builder().l1(L1::bytes(64 * 1024 * 1024)).build()?;
    /// let silent = CacheLayer::builder(keep).cache_status(CacheStatusField::Off).build()?;
    /// # let _ = silent;
    /// # Ok(())
    /// # }
    /// ```
    pub fn cache_status(mut self, field: CacheStatusField) -> Self {
        self.status_field = field;
        self
    }

    /// Keeps compressed forms of stored responses beside them, so that a response is compressed once, and
    /// not once for each request.
    ///
    /// With the same layer outside, what isn't stored, or not yet in the client's coding, is compressed as
    /// it is sent:
    ///
    /// ```
    /// use tower::ServiceBuilder;
    /// use tower_keep_cache::CacheLayer;
    /// use tower_keep_compress::CompressLayer;
    /// use tower_keep_store::{L1, Store};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let keep = Store::builder().l1(L1::bytes(64 * 1024 * 1024)).build()?;
    /// let compress = CompressLayer::builder().build()?;
    /// let cache = CacheLayer::builder(keep).compress(&compress).build()?;
    /// let layers = ServiceBuilder::new().layer(compress).layer(cache);
    /// # let _ = layers;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A form is made behind the client's back when one is first asked for that isn't there, at the level
    /// of the [`CompressLayer`](tower_keep_compress::CompressLayer); until then, the response is sent as it
    /// is. Of what goes on being asked for, a [denser](CompressedForms::dense_levels) one is made. Forms
    /// lie in both tiers, with the tags of the response; of what is asked for as often, they are what the first tier lets go of first.
    /// Ranges are of the plain form. A response that came encoded is decoded for a client that can't read
    /// it so.
    ///
    /// With the feature `dictionary`, and a layer that has [dictionaries][dictionary], a response that is
    /// told by one is such a form as well, for each dictionary of which clients ask for it. The layer
    /// outside is what makes dictionaries of what passes.
    ///
    /// Which codings there are is a matter of the features `br`, `gzip`, `zstd` and `deflate`.
    ///
    /// [dictionary]: tower_keep_compress#dictionaries
    pub fn compress(mut self, forms: impl Into<CompressedForms>) -> Self {
        self.forms = Some(forms.into());
        self
    }

    /// The name under which the entries lie in the store. Layers in front of different services
    /// need different ones, unless the services' hosts differ; so do layers with different
    /// [keys](Self::key).
    pub fn space(mut self, space: impl Into<String>) -> Self {
        self.space = space.into();
        self
    }

    /// What of a request makes its key.
    pub fn key(mut self, policy: KeyPolicy) -> Self {
        self.key = Some(Box::new(policy));
        self
    }

    /// The fields of requests by which a client may deceive the origin about what it was asked for.
    /// A response to a request that has one of them is stored for requests alone that have the same,
    /// as if its `Vary` named it.
    ///
    /// Many frameworks build links and redirects from these, or route by them, and hardly any name
    /// them in `Vary`; so one client's `X-Forwarded-Host: evil.example` would be in what all others
    /// get. To refuse to store such responses would be as safe, but behind a proxy that adds these
    /// fields to every request nothing would ever be stored. Told apart, what a proxy adds costs
    /// nothing: it is the same for all. What a client invents only it gets back.
    ///
    /// Of `Forwarded` (RFC 7239) only what it says of host and scheme counts, or every client would
    /// be told apart. `X-Forwarded-Host` doesn't count where it says the same as `Host`; nor does what
    /// is a part of the key by [`KeyPolicy::header`](crate::KeyPolicy::header). A field that an origin may
    /// take for one of them (`X_Forwarded_Host`: CGI, WSGI and the like read both as one) counts, too.
    ///
    /// A proxy that *sets* some of them on every request makes those trustworthy: leave them out, and
    /// what is stored can be looked up in one step rather than two. Setting none is for services that
    /// read none.
    ///
    /// Fields that ask for another method than the request's (`X-HTTP-Method-Override`,
    /// `X-HTTP-Method`, `X-Method-Override`) are not among these: a request with one always goes to
    /// the origin alone, and counts as unsafe.
    ///
    /// Default: `Forwarded`, `Front-End-Https`, `X-Forwarded-Host`, `X-Forwarded-Path`,
    /// `X-Forwarded-Port`, `X-Forwarded-Prefix`, `X-Forwarded-Proto`, `X-Forwarded-Scheme`,
    /// `X-Forwarded-Server`, `X-Forwarded-Ssl`, `X-Forwarded-Uri`, `X-Host`, `X-Original-Host`,
    /// `X-Original-Url`, `X-Rewrite-Url`, `X-Url-Scheme`.
    pub fn untrusted_headers(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.untrusted = names.into_iter().collect();
        self
    }

    /// For whom responses are kept.
    pub fn kind(mut self, kind: CacheKind) -> Self {
        self.policy.kind = kind;
        self
    }

    /// The fields of responses that speak to this cache rather than `Cache-Control` does, as
    /// structured fields (RFC 9213). The first that is there and can be read counts alone:
    /// `Cache-Control` and `Expires` are for others then. Default: none. For a cache at the edge, add
    /// `CDN-Cache-Control`.
    ///
    /// ```
    /// use http::HeaderName;
    /// use tower_keep_cache::CacheLayer;
    /// use tower_keep_store::{L1, Store};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let keep = Store::builder().l1(L1::bytes(64 * 1024 * 1024)).build()?;
    /// let names = ["keep-cache-control", "cdn-cache-control"].map(HeaderName::from_static);
    /// let cache = CacheLayer::builder(keep).targets(names).build()?;
    /// # let _ = cache;
    /// # Ok(())
    /// # }
    /// ```
    pub fn targets(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.policy.targets = names.into_iter().collect();
        self
    }

    /// What a response must say to be shared though its request has credentials (RFC 9111 §3.5).
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.policy.credentials = credentials;
        self
    }

    /// What to do with responses that set cookies.
    pub fn set_cookie(mut self, set_cookie: SetCookie) -> Self {
        self.policy.set_cookie = set_cookie;
        self
    }

    /// How long a response is fresh that doesn't say (RFC 9111 §4.2.2).
    pub fn heuristic(mut self, heuristic: Heuristic) -> Self {
        self.policy.heuristic = heuristic;
        self
    }

    /// How long a response is fresh when neither it nor the heuristic says.
    pub fn default_ttl(mut self, ttl: Duration) -> Self {
        self.policy.default_ttl = Some(ttl);
        self
    }

    /// The longest that any response is fresh, whatever it says.
    pub fn max_ttl(mut self, ttl: Duration) -> Self {
        self.policy.max_ttl = Some(ttl);
        self
    }

    /// The `stale-while-revalidate` (RFC 5861 §3) of responses that neither say nor forbid it.
    pub fn stale_while_revalidate(mut self, window: Duration) -> Self {
        self.policy.stale_while_revalidate = window;
        self
    }

    /// The `stale-if-error` (RFC 5861 §4) of responses that neither say nor forbid it.
    pub fn stale_if_error(mut self, window: Duration) -> Self {
        self.policy.stale_if_error = window;
        self
    }

    /// Adds a rule for some requests and their responses. The first that applies to a request counts
    /// alone; what it leaves open, and what no rule is for, is as the settings above say. Default:
    /// none.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_keep_cache::{CacheLayer, Rule};
    /// use tower_keep_store::{L1, Store};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let keep = Store::builder().l1(L1::bytes(64 * 1024 * 1024)).build()?;
    /// let cache = CacheLayer::builder(keep)
    ///     .rule(Rule::new().path_prefix("/assets").default_ttl(Duration::from_secs(3600)))
    ///     .rule(Rule::new().negative_ttl(Duration::from_secs(5)))
    ///     .build()?;
    /// # let _ = cache;
    /// # Ok(())
    /// # }
    /// ```
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// The largest body that is stored, in bytes; what the store can keep in one entry
    /// ([`L1::max_entry`](tower_keep_store::L1::max_entry)) is less, if need be. A larger one passes
    /// through as it arrives.
    pub fn max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }

    /// How many bytes of bodies that are arriving may be held at once to be stored; a chunk counts as
    /// 64 bytes at least. A body that would need more is not stored, and its readers get it one chunk
    /// after the other. As many bytes again may be held of bodies that turn out too large or too slow
    /// to be stored, until their readers have read them; when that is too little, readers who have
    /// stopped for [`max_lag`](Self::max_lag) lose their connection.
    ///
    /// What is stored is the store's, and doesn't count, nor does a body that passes through
    /// untouched. But a response that is being sent holds its body until it is sent, also when the
    /// store has dropped it: at worst that is [`max_body`](Self::max_body) for each request in progress,
    /// whose number is for the server to bound.
    pub fn max_in_flight(mut self, bytes: usize) -> Self {
        self.max_in_flight = bytes;
        self
    }

    /// The longest that a response may take, from when the inner service was asked, and still be
    /// stored. When the client has left and nobody else waits, the inner service's future is dropped
    /// after this time.
    pub fn max_fill(mut self, longest: Duration) -> Self {
        self.max_fill = longest;
        self
    }

    /// The longest that a request waits for the head of another's response. Then one of those who
    /// waited asks for its own, for which the others wait once more for as long; after that, each of
    /// them asks for itself. Where the store has a
    /// [lease](tower_keep_store::StoreBuilder::lease), it is also the longest that a node waits for what
    /// another fetches: the whole response, since a response is in the second tier when it is
    /// complete. It is also how long the inner service may take, or not be ready, before
    /// something stale stands in for it where `stale-if-error` permits (RFC 5861 §4).
    pub fn max_wait(mut self, longest: Duration) -> Self {
        self.max_wait = longest;
        self
    }

    /// How long a client may be behind those who share a response with it, and wait for it because
    /// that is too large to be stored; or read nothing at all, when memory for such responses is
    /// short. Then its body ends with an error.
    pub fn max_lag(mut self, longest: Duration) -> Self {
        self.max_lag = longest;
        self
    }

    /// How long to remember that the responses of a resource can't be stored, so that requests for it
    /// don't wait for each other (*hit-for-miss*). It is forgotten as soon as one could be. Zero
    /// remembers nothing.
    pub fn hit_for_miss(mut self, window: Duration) -> Self {
        self.hit_for_miss = window;
        self
    }

    /// How long a response that has a validator is kept past its last use, to be validated instead
    /// of fetched.
    pub fn keep_for_validation(mut self, window: Duration) -> Self {
        self.keep_for_validation = window;
        self
    }

    /// Whether a response that nobody waits for or reads any more is fetched to its end, to be stored,
    /// for [`max_fill`](Self::max_fill) at most. If not, the inner service's future is dropped at
    /// once, as it would be without this layer.
    pub fn finish_abandoned(mut self, finish: bool) -> Self {
        self.finish_abandoned = finish;
        self
    }

    /// How eagerly responses are refreshed while they are still fresh, in place of the
    /// [store's setting](tower_keep_store::StoreBuilder::early_refresh): 0 is not at all. A request
    /// whose answer is due is answered with it at once, and sent on as well, without its own
    /// conditions and cache directives.
    pub fn early_refresh(mut self, beta: f64) -> Self {
        self.early_refresh = Some(beta);
        self
    }

    /// After a refresh has failed, how long something stale is served, where `stale-if-error` or
    /// `stale-while-revalidate` permits, without asking the origin for it again; up to a fifth less,
    /// at random. Then one request tries again, while it is answered at once like all others: nobody
    /// waits for an origin that has just failed. So one that is back is noticed within this time. Where
    /// nobody asks for twice as long, the failure is forgotten, and the next request waits for the
    /// origin's answer.
    ///
    /// A request with `no-cache` goes to the origin all the same, as does any for a response that
    /// must be validated. An invalidation ends the pause. Each node pauses by itself, and only where its
    /// first tier holds the response. Zero: every request asks.
    pub fn retry_pause(mut self, pause: Duration) -> Self {
        self.retry_pause = pause;
        self
    }

    /// The layer.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], with what to change, if a setting can't work.
    pub fn build(self) -> Result<CacheLayer, ConfigError> {
        let name = CacheName::new(&self.name)?;
        if self.space.is_empty() {
            return Err(ConfigError::new(
                "the space has no name; leave `space` out, or give it one",
            ));
        }
        if let Some(key) = &self.key {
            key.check()?;
        }
        if self.max_body == 0 {
            return Err(ConfigError::new("max_body is 0: nothing could be stored"));
        }
        if self.max_in_flight < self.max_body {
            let text =
                "max_in_flight is smaller than max_body: no body of that size could be stored";
            return Err(ConfigError::new(text));
        }
        if self.max_lag.is_zero() {
            return Err(ConfigError::new(
                "max_lag is 0: no client reads without any pause; give it some milliseconds at least",
            ));
        }
        // What the store can't keep is not to be announced as stored.
        let max_entry = self.store.max_entry();
        let space = self.store.space(&self.space, StoredCodec { has_forms: self.forms.is_some() });
        let policy = Arc::new(self.policy);
        let settings = Settings {
            name,
            key: self.key,
            status_field: self.status_field,
            rules: Rules::new(self.rules, &policy)?,
            untrusted: self.untrusted,
            max_body: self.max_body.min(usize::try_from(max_entry).unwrap_or(usize::MAX)),
            max_fill: self.max_fill,
            max_wait: self.max_wait,
            max_lag: self.max_lag,
            keep_for_validation: self.keep_for_validation,
            finish_abandoned: self.finish_abandoned,
            early_refresh: self.early_refresh,
            retry_pause: self.retry_pause,
            forms: self.forms.map(CompressedForms::build).transpose()?,
        };
        let core = Core {
            flights: space.flights(),
            forms: space.flights(),
            space,
            budget: Budget::new(self.max_in_flight),
            marks: Marks::new(self.hit_for_miss),
            settings,
        };
        Ok(CacheLayer::new(core))
    }
}
