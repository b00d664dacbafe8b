//! Which requests belong together, for strategies that go by a hash.

#[cfg(feature = "http")]
pub(crate) mod client;
#[cfg(feature = "http")]
pub(crate) mod fields;

/// Says to which hash a request belongs: those with the same one go to the same backend, if the
/// strategy is [`Hash`](crate::Strategy::Hash).
///
/// A closure `Fn(&Request) -> Option<u64>` is one; its hashes should be spread over all 64 bits, and
/// the same on all machines: [`hash_bytes`]. `()` is one that says nothing.
pub trait Affinity<Request> {
    /// The hash of `request`, if it has one.
    fn hash(&self, request: &Request) -> Option<u64>;
}

impl<Request> Affinity<Request> for () {
    fn hash(&self, _: &Request) -> Option<u64> {
        None
    }
}

impl<F, Request> Affinity<Request> for F
where
    F: Fn(&Request) -> Option<u64>,
{
    fn hash(&self, request: &Request) -> Option<u64> {
        self(request)
    }
}

/// By `first`, and where that says nothing by `second`: say a cookie, else the client's address.
#[derive(Clone, Copy, Debug)]
pub struct Or<A, B> {
    /// What is asked first.
    pub first: A,
    /// What is asked otherwise.
    pub second: B,
}

impl<Request, A: Affinity<Request>, B: Affinity<Request>> Affinity<Request> for Or<A, B> {
    fn hash(&self, request: &Request) -> Option<u64> {
        self.first.hash(request).or_else(|| self.second.hash(request))
    }
}

/// XXH3 of `bytes`: spread over all 64 bits, and the same on all machines.
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}
