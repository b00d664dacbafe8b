//! What lies on the server: written by us, read as by a stranger.

use std::time::Duration;

use bytes::Bytes;

use super::super::error::RegistryError;
use super::super::instance::Instance;
use super::super::lease::Lease;

/// The most bytes that are read of an instance.
pub(super) const MAX_RECORD: usize = 32 * 1024;

/// The most bytes that are read of a service.
pub(super) const MAX_SERVICE: usize = 8 * 1024 * 1024;

/// No instance lives longer than a day after its heartbeat. The clocks of two servers may differ.
const HORIZON: Duration = Duration::from_secs(2 * 24 * 3600);

/// How a holder is written at the beginning of its records.
pub(super) fn holder(holder: u64) -> String {
    format!("{holder:016x} ")
}

/// The record of a lease: who holds it, its time to live in milliseconds, the instance as JSON.
pub(super) fn encode(lease: &Lease) -> Result<String, RegistryError> {
    let json = serde_json::to_string(&lease.instance).map_err(RegistryError::unavailable)?;
    Ok(format!("{}{} {json}", holder(lease.holder), lease.ttl.as_millis()))
}

fn decode(id: &[u8], record: &[u8]) -> Option<(Instance, Duration)> {
    let mut parts = record.splitn(3, |byte| *byte == b' ').skip(1);
    let ttl = Duration::from_millis(std::str::from_utf8(parts.next()?).ok()?.parse().ok()?);
    let instance: Instance = serde_json::from_slice(parts.next()?).ok()?;
    // With a shorter one, whoever watches would ask without a pause.
    let is_it = instance.id().as_bytes() == id && Lease::can_be(ttl);
    is_it.then_some((instance, ttl))
}

/// One instance, as the server has it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Living {
    pub(super) instance: Instance,
    pub(super) ttl: Duration,
    /// Until it expires.
    pub(super) left: Duration,
}

/// A service, as the server has it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    /// Another one when data were lost.
    pub(super) origin: Bytes,
    /// What time it is there, since 1970.
    pub(super) now: Duration,
    pub(super) living: Vec<Living>,
    /// How many can't be used.
    pub(super) skipped: usize,
}

impl Answer {
    pub(super) fn read(parts: &[Bytes]) -> Result<Self, RegistryError> {
        let broken = || RegistryError::Content("the Redis server answers something else".into());
        let number = |bytes: &Bytes| std::str::from_utf8(bytes).ok()?.parse::<u64>().ok();
        let [origin, now, skipped, rest @ ..] = parts else { return Err(broken()) };
        let (now, skipped) = (number(now).ok_or_else(broken)?, number(skipped));
        let mut skipped = skipped.and_then(|it| it.try_into().ok()).ok_or_else(broken)?;
        let (triples, []) = rest.as_chunks::<3>() else { return Err(broken()) };
        let mut living = Vec::with_capacity(triples.len());
        for [id, until, record] in triples {
            let left = number(until).and_then(|until| until.checked_sub(now));
            let left = left.map(Duration::from_millis).filter(|left| *left <= HORIZON);
            match left.zip(decode(id, record)) {
                Some((left, (instance, ttl))) => living.push(Living { instance, ttl, left }),
                None => skipped += 1,
            }
        }
        Ok(Self { origin: origin.clone(), now: Duration::from_millis(now), living, skipped })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lease() -> Lease {
        let instance = Instance::new("a", "http://x y".replace(' ', "-")).meta("k", "v w");
        Lease::new(instance.weight(3), Duration::from_secs(15)).unwrap()
    }

    fn parts(parts: &[&str]) -> Vec<Bytes> {
        parts.iter().map(|part| Bytes::copy_from_slice(part.as_bytes())).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let record = encode(&lease()).unwrap();
        let answer = Answer::read(&parts(&["o", "1000", "1", "a", "4000", &record])).unwrap();
        let left = Duration::from_secs(3);
        let living = Living { instance: lease().instance, ttl: lease().ttl, left };
        assert_eq!(answer.living, [living]);
        assert_eq!((answer.now, answer.skipped), (Duration::from_secs(1), 1));
    }

    #[test]
    fn what_cannot_be_used_is_counted() {
        let record = encode(&lease()).unwrap();
        let cases = [
            ("b", "4000", &*record),
            ("a", "inf", &record),
            ("a", "999", &record),
            ("a", "9999999999999", &record),
            ("a", "4000", ""),
            ("a", "4000", "h 15000 {"),
            ("a", "4000", "h 1 {\"id\":\"a\",\"address\":\"x\"}"),
            ("a", "4000", "h -1 {\"id\":\"a\",\"address\":\"x\"}"),
            ("a", "4000", "h 600 {\"id\":\"a\",\"address\":\"x y\"}"),
        ];
        for (id, until, record) in cases {
            let answer = Answer::read(&parts(&["o", "1000", "0", id, until, record])).unwrap();
            assert_eq!((answer.living.len(), answer.skipped), (0, 1), "{id} {until} {record}");
        }
        for broken in [&["o", "1", "0", "a"][..], &["o"], &[], &["o", "x", "0"]] {
            assert!(Answer::read(&parts(broken)).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_record_panics(id: Vec<u8>, record: Vec<u8>, cut in 0..100usize) {
            let _ = decode(&id, &record);
            let mut record = encode(&lease()).unwrap().into_bytes();
            record.truncate(cut);
            prop_assert!(decode(b"a", &record).is_none() || cut > 60);
        }
    }
}
