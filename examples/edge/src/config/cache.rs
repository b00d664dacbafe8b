//! `[cache]`: where responses are kept, and by which policies.

use std::collections::BTreeMap;
use std::time::Duration;

use http::HeaderName;
use hyper::body::Bytes;
use tower_keep::auth::Identity;
use tower_keep::cache::{
    CacheLayer, CacheLayerBuilder, CacheStatusField, Credentials, Heuristic, KeyPolicy, Rule,
    SetCookie,
};
use tower_keep::store::{Error as StoreError, L1, Redis, Store};

use super::Compress;
use super::listener::{positive_or_none, size};
use super::table::Table;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// The policy of routes that name none.
const DEFAULT: &str = "default";

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cache {
    pub(crate) tier: Tier,
    pub(crate) status_field: CacheStatusField,
    pub(crate) policies: BTreeMap<String, Policy>,
}

/// The store: another one begins empty.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tier {
    memory: u64,
    redis: Option<String>,
    prefix: String,
    lease: Option<Duration>,
    max_unsynced: Duration,
}

/// How long responses are kept that don't say, and which.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Policy {
    default_ttl: Option<Duration>,
    min_ttl: Option<Duration>,
    max_ttl: Option<Duration>,
    negative_ttl: Option<Duration>,
    stale_while_revalidate: Duration,
    stale_if_error: Duration,
    heuristic: u8,
    set_cookie: SetCookie,
    credentials: Credentials,
    max_body: usize,
    max_in_flight: usize,
    max_wait: Duration,
    targets: Vec<HeaderName>,
    keep_params: Option<Vec<String>>,
    ignore_params: Vec<String>,
    identity: Option<ToldBy>,
}

/// What tells users apart, of their tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ToldBy {
    Subject,
    Claim(String),
}

/// All that makes a layer, beside the store.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CacheSettings {
    pub(crate) policy: Policy,
    pub(crate) name: String,
    pub(crate) status_field: CacheStatusField,
    /// Where its responses lie in the store.
    pub(crate) space: String,
    pub(crate) compress: Option<Compress>,
    /// Whether some requests have tokens that were verified.
    pub(crate) has_tokens: bool,
}

impl Cache {
    pub(super) fn read(file: &Table<'_>) -> Self {
        let Some(table) = file.table("cache") else { return Self::default() };
        let standard = Self::default();
        let fields = [
            ("on", CacheStatusField::On),
            ("with-key", CacheStatusField::WithKey),
            ("off", CacheStatusField::Off),
        ];
        let status_field = table.choice("status_field", standard.status_field, &fields);
        let mut policies = standard.policies;
        for (name, table) in table.named("policy") {
            policies.insert(name.to_owned(), Policy::read(&table));
        }
        Self { tier: Tier::read(&table), status_field, policies }
    }

    pub(super) fn redis(&self) -> Option<&str> {
        self.tier.redis.as_deref()
    }
}

impl Default for Cache {
    fn default() -> Self {
        let policies = BTreeMap::from([(DEFAULT.to_owned(), Policy::default())]);
        Self { tier: Tier::default(), status_field: CacheStatusField::On, policies }
    }
}

impl Tier {
    fn read(table: &Table<'_>) -> Self {
        let standard = Self::default();
        let memory = size(table, "memory", 256 << 20, 1 << 20);
        let tier = Self {
            memory: memory as u64,
            redis: table.get("redis"),
            prefix: table.or("redis_prefix", standard.prefix),
            lease: positive_or_none(table, "lease", None),
            max_unsynced: table.or("max_unsynced", standard.max_unsynced),
        };
        if tier.lease.is_some() && tier.redis.is_none() {
            table.refuse("lease", "it is for several edges, which need a `redis` in common");
        } else if let Err(error) = tier.open() {
            table.refuse("redis", error);
        }
        tier
    }

    /// A store like this. A Redis that is down is connected to when it is back.
    pub(crate) fn open(&self) -> Result<Store, StoreError> {
        let store = Store::builder().l1(L1::bytes(self.memory)).max_unsynced(self.max_unsynced);
        let store = match &self.redis {
            Some(url) => {
                store.l2(Redis::builder(url).prefix(self.prefix.as_str()).connect_lazy()?)
            }
            None => store,
        };
        self.lease.into_iter().fold(store, tower_keep::store::StoreBuilder::lease).build()
    }
}

impl Default for Tier {
    fn default() -> Self {
        Self {
            memory: 256 << 20,
            redis: None,
            prefix: "tk".to_owned(),
            lease: None,
            max_unsynced: Duration::from_secs(10),
        }
    }
}

impl Policy {
    fn read(table: &Table<'_>) -> Self {
        let standard = Self::default();
        let cookies = [
            ("refuse", SetCookie::Refuse),
            ("strip", SetCookie::Strip),
            ("store", SetCookie::Store),
        ];
        let credentials = [("cautious", Credentials::Cautious), ("rfc9111", Credentials::Rfc9111)];
        let policy = Self {
            default_ttl: table.or_none("default_ttl", None),
            min_ttl: table.or_none("min_ttl", None),
            max_ttl: table.or_none("max_ttl", None),
            negative_ttl: table.or_none("negative_ttl", None),
            stale_while_revalidate: table.or("stale_while_revalidate", Duration::ZERO),
            stale_if_error: table.or("stale_if_error", Duration::ZERO),
            heuristic: table.within("heuristic", 0, 0..=100),
            set_cookie: table.choice("set_cookie", SetCookie::Refuse, &cookies),
            credentials: table.choice("credentials", Credentials::Cautious, &credentials),
            max_body: size(table, "max_body", standard.max_body, 1),
            max_in_flight: size(table, "max_in_flight", standard.max_in_flight, 1),
            max_wait: table.or("max_wait", standard.max_wait),
            targets: table.or("targets", standard.targets),
            keep_params: table.get("keep_params"),
            ignore_params: table.or("ignore_params", Vec::new()),
            identity: ToldBy::read(table),
        };
        if policy.keep_params.is_some() && !policy.ignore_params.is_empty() {
            table.refuse("ignore_params", "`keep_params` leaves all others out already");
        }
        if let Some(trial) = table.check(Tier::default().open()) {
            let builder = policy.builder(trial);
            let builder = policy.key(true).into_iter().fold(builder, CacheLayerBuilder::key);
            let _ = table.check(builder.build());
        }
        policy
    }

    fn builder(&self, store: Store) -> CacheLayerBuilder {
        let heuristic = match self.heuristic {
            0 => Heuristic::Off,
            percent => Heuristic::Fraction { percent, cap: Duration::from_secs(24 * 3600) },
        };
        let rule = self.min_ttl.into_iter().fold(Rule::new(), Rule::min_ttl);
        let rule = self.negative_ttl.into_iter().fold(rule, Rule::negative_ttl);
        let layer = CacheLayer::builder(store)
            .rule(rule)
            .heuristic(heuristic)
            .set_cookie(self.set_cookie)
            .credentials(self.credentials)
            .stale_while_revalidate(self.stale_while_revalidate)
            .stale_if_error(self.stale_if_error)
            .max_body(self.max_body)
            .max_in_flight(self.max_in_flight)
            .max_wait(self.max_wait)
            .targets(self.targets.iter().cloned());
        let layer = self.default_ttl.into_iter().fold(layer, CacheLayerBuilder::default_ttl);
        self.max_ttl.into_iter().fold(layer, CacheLayerBuilder::max_ttl)
    }

    /// What tells apart in the store what another policy would not store, or not find: one of another
    /// route, or of an earlier configuration. Who is told apart by `identity` is so by the keys.
    fn apart(&self) -> Option<Bytes> {
        let of = |it: &Self| {
            let params = (it.keep_params.clone(), it.ignore_params.clone());
            (it.set_cookie, it.credentials, params)
        };
        let apart = of(self);
        (apart != of(&Self::default())).then(|| format!("{apart:?}").into())
    }

    /// None if it is the usual one.
    fn key(&self, has_tokens: bool) -> Option<KeyPolicy> {
        let key = match (&self.keep_params, &*self.ignore_params) {
            (Some(kept), _) => Some(KeyPolicy::new().keep_params(kept)),
            (None, []) => None,
            (None, ignored) => Some(KeyPolicy::new().ignore_params(ignored)),
        };
        let key = match self.apart() {
            None => key,
            Some(apart) => {
                Some(key.unwrap_or_default().part("policy", move |_| Some(apart.clone())))
            }
        };
        if !has_tokens {
            return key;
        }
        // Where tokens are optional, what nobody in particular got is not for somebody. It is so in all
        // layers, since those of one space need one policy.
        let key = key.unwrap_or_default();
        let key = key.part("token", |head| Identity::of(head.extensions()).map(|_| "verified"));
        Some(match self.identity.clone() {
            None => key,
            Some(ToldBy::Subject) => {
                key.identity("subject", |head| Identity::subject_key(head.extensions()))
            }
            Some(ToldBy::Claim(claim)) => {
                key.identity("claim", move |head| {
                    let value = Identity::claim_key(head.extensions(), &claim)?;
                    // Two policies may go by different claims.
                    Some([claim.as_bytes(), b"\0", value.as_ref()].concat())
                })
            }
        })
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            default_ttl: None,
            min_ttl: None,
            max_ttl: None,
            negative_ttl: None,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            heuristic: 0,
            set_cookie: SetCookie::Refuse,
            credentials: Credentials::Cautious,
            max_body: 4 << 20,
            max_in_flight: 64 << 20,
            max_wait: Duration::from_secs(10),
            targets: vec![HeaderName::from_static("cdn-cache-control")],
            keep_params: None,
            ignore_params: Vec::new(),
            identity: None,
        }
    }
}

impl ToldBy {
    fn read(policy: &Table<'_>) -> Option<Self> {
        let text = policy.or_none::<String>("identity", None)?;
        match text.split_once(':') {
            None if text == "subject" => Some(Self::Subject),
            Some(("claim", name)) if !name.is_empty() => Some(Self::Claim(name.to_owned())),
            _ => {
                policy.refuse("identity", "expected \"none\", \"subject\" or \"claim:NAME\"");
                None
            }
        }
    }
}

impl CacheSettings {
    pub(crate) fn layer(&self, store: Store) -> Result<CacheLayer, Error> {
        let Self { policy, name, status_field, space, compress, has_tokens } = self;
        let layer = policy.builder(store).name(name).cache_status(*status_field).space(space);
        let key = policy.key(*has_tokens);
        let layer = key.into_iter().fold(layer, CacheLayerBuilder::key);
        let forms = compress.as_ref().map(Compress::forms).transpose()?;
        Ok(forms.into_iter().fold(layer, CacheLayerBuilder::compress).build()?)
    }
}
