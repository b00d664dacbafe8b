//! `[jwt.NAME.revocation]`: tokens that were revoked are refused, on all edges with the same Redis.

use std::time::Duration;

use tower_keep::auth::{BuildError, Lost, RevocationList, RevocationListBuilder};
use tower_keep::store::{Error as StoreError, L1, Redis, Store};

use super::listener::positive;
use super::table::Table;

type Error = Box<dyn std::error::Error + Send + Sync>;

const DAY: Duration = Duration::from_secs(24 * 3600);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Revocation {
    redis: String,
    prefix: String,
    token_life: Duration,
    session_life: Duration,
    claims: Vec<String>,
    skew: Duration,
    patience: Duration,
    lost: Lost,
    refuses_unread: bool,
}

impl Revocation {
    /// `common` is the Redis of the cache, if that has one.
    pub(super) fn read(jwt: &Table<'_>, common: Option<&str>) -> Option<Self> {
        let table = jwt.table("revocation")?;
        let redis = table.get::<String>("redis").or_else(|| common.map(str::to_owned));
        let choices = [("refuse", Lost::Refuse), ("accept", Lost::Accept)];
        let revocation = Self {
            redis: redis.clone().unwrap_or_default(),
            prefix: table.or("redis_prefix", "tk".to_owned()),
            token_life: positive(&table, "token_life", DAY),
            session_life: positive(&table, "session_life", 90 * DAY),
            claims: table.or("by_claim", Vec::new()),
            skew: table.or("skew", Duration::ZERO),
            patience: table.or("patience", Duration::from_secs(300)),
            lost: table.choice("lost", Lost::Refuse, &choices),
            refuses_unread: table.choice("unread", true, &[("refuse", true), ("accept", false)]),
        };
        if redis.is_none() && table.value("redis").is_none() {
            let expected = "expected `redis = \"redis://HOST\"`, here or in [cache]: \
                it is how one hears of what another revokes";
            table.problems().add(table.span(), "there is no Redis for revocations", expected);
        } else if redis.is_some()
            && let Err(why) = revocation.store()
        {
            table.refuse("redis", why);
        }
        table.check(revocation.builder().build());
        redis.map(|_| revocation)
    }

    fn builder(&self) -> RevocationListBuilder {
        let list = RevocationList::builder()
            .token_life(self.token_life)
            .session_life(self.session_life)
            .skew(self.skew)
            .patience(self.patience)
            .lost(self.lost)
            .refuse_unread(self.refuses_unread);
        self.claims.iter().fold(list, RevocationListBuilder::by_claim)
    }

    /// One of its own, also beside that of the cache: what is in there must not be purged with it.
    fn store(&self) -> Result<Store, StoreError> {
        let redis = Redis::builder(&self.redis).prefix(self.prefix.as_str()).connect_lazy()?;
        Store::builder().l1(L1::bytes(64 << 10)).l2(redis).build()
    }

    /// Whether what is revoked by the one is by the other.
    pub(crate) fn is_at_place_of(&self, other: &Self) -> bool {
        (&self.redis, &self.prefix) == (&other.redis, &other.prefix)
    }

    /// The list, which goes on from another one at its place, if there is one. A Redis that is down is
    /// connected to when it is back.
    pub(crate) fn open(&self, after: Option<&RevocationList>) -> Result<RevocationList, Error> {
        let list: Result<_, BuildError> = match after {
            Some(list) => self.builder().after(list).build(),
            None => self.builder().store(self.store()?).build(),
        };
        Ok(list?)
    }
}
