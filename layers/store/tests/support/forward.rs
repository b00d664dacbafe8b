//! What a second tier of a test hands on to the Redis that it wraps.

/// Methods of `Remote` that do what `self.redis` does.
macro_rules! forward {
    ($($method:ident)*) => { $(forward!(@$method);)* };
    (@is_available) => {
        fn is_available(&self) -> bool {
            self.redis.is_available()
        }
    };
    (@get) => {
        fn get(&self, key: Bytes) -> RemoteFuture<'_, Option<Bytes>> {
            self.redis.get(key)
        }
    };
    (@put) => {
        fn put(&self, put: Put) -> RemoteFuture<'_, Stored> {
            self.redis.put(put)
        }
    };
    (@health) => {
        fn health(&self) -> Health {
            self.redis.health()
        }
    };
    (@lease) => {
        fn lease(&self, claim: Claim) -> RemoteFuture<'_, Leased> {
            self.redis.lease(claim)
        }
    };
    (@update_lease) => {
        fn update_lease(&self, key: Bytes, token: u64, term: Term) -> RemoteFuture<'_, bool> {
            self.redis.update_lease(key, token, term)
        }
    };
    (@last_epoch) => {
        fn last_epoch(&self) -> RemoteFuture<'_, u64> {
            self.redis.last_epoch()
        }
    };
    (@resolve) => {
        fn resolve(&self, tags: Vec<Tag>, known: u64) -> RemoteFuture<'_, Vec<Epochs>> {
            self.redis.resolve(tags, known)
        }
    };
    (@invalidate) => {
        fn invalidate(
            &self,
            tag: Tag,
            strength: Strength,
            known: u64,
            sender: u64,
        ) -> RemoteFuture<'_, u64> {
            self.redis.invalidate(tag, strength, known, sender)
        }
    };
    (@buckets) => {
        fn buckets(&self) -> u16 {
            self.redis.buckets()
        }
    };
    (@bucket) => {
        fn bucket(&self, key: &[u8]) -> u16 {
            self.redis.bucket(key)
        }
    };
    (@removals) => {
        fn removals(&self, buckets: Vec<u16>) -> RemoteFuture<'_, Vec<u64>> {
            self.redis.removals(buckets)
        }
    };
    (@listen) => {
        fn listen(&self, listener: Arc<dyn Listener>) -> Result<(), Error> {
            self.redis.listen(listener)
        }
    };
}
pub(crate) use forward;
