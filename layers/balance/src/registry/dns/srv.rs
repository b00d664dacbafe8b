//! What SRV records say of who gets how much (RFC 2782).

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use super::super::instance::Instance;

/// Below which part of a priority's whole one of weight 0 gets: "a very small chance".
const SMALL: u64 = 100;

/// A target of SRV records, with its addresses.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Target {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) host: String,
    pub(super) addresses: Vec<SocketAddr>,
}

/// An instance for each address. A target's weight is shared by its addresses.
pub(super) fn instances(targets: &[Target]) -> Vec<Instance> {
    let mut groups = BTreeMap::<u16, Vec<&Target>>::new();
    for target in targets.iter().filter(|target| !target.addresses.is_empty()) {
        groups.entry(target.priority).or_default().push(target);
    }
    let ranked = (0..=u8::MAX).chain(std::iter::repeat(u8::MAX)).zip(groups.into_values());
    let mut instances = HashMap::new();
    for (rank, group) in ranked {
        let scale = scale(&group);
        for target in group {
            let count = u64::try_from(target.addresses.len()).unwrap_or(u64::MAX);
            let weight = (u64::from(target.weight) * scale + count / 2) / count;
            let weight = u16::try_from(weight.max(1)).unwrap_or(u16::MAX);
            for address in &target.addresses {
                // Of several records that lead to one address, the one of lowest priority counts.
                instances.entry(address).or_insert_with(|| {
                    let name = address.to_string();
                    let instance = Instance::new(name.as_str(), name.as_str());
                    instance.weight(weight).priority(rank).meta("host", &target.host)
                });
            }
        }
    }
    instances.into_values().collect()
}

/// By how much weights are to be multiplied, so that they can be shared by addresses, and the
/// weight of 1 that is made of 0 is small.
fn scale(group: &[&Target]) -> u64 {
    let weights = group.iter().map(|target| u64::from(target.weight));
    let (sum, highest) = weights.fold((0, 0), |(sum, highest), it| (sum + it, it.max(highest)));
    if sum == 0 {
        return 0;
    }
    let has_zero = group.iter().any(|target| target.weight == 0);
    // So that each target's weight can be divided by the number of its addresses.
    let counts = group.iter().map(|target| u64::try_from(target.addresses.len()).unwrap_or(1));
    let multiple = counts
        .fold(1, |multiple: u64, count| (multiple / gcd(multiple, count)).saturating_mul(count));
    let wanted = if has_zero { SMALL.div_ceil(sum) } else { 1 }.saturating_mul(multiple);
    wanted.min(u64::from(u16::MAX) / highest).max(1)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a.max(1) } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn target(at: u8, priority: u16, weight: u16, count: u16) -> Target {
        let addresses = (0..count).map(|port| SocketAddr::from(([10, 0, 0, at], port + 1)));
        let host = format!("host-{at}");
        Target { priority, weight, host, addresses: addresses.collect() }
    }

    fn weights(targets: &[Target]) -> Vec<(String, u8, u16)> {
        let mut found: Vec<_> = instances(targets)
            .into_iter()
            .map(|it| (it.address.to_string(), it.priority, it.weight))
            .collect();
        found.sort();
        found
    }

    fn of(address: &str, priority: u8, weight: u16) -> (String, u8, u16) {
        (address.to_owned(), priority, weight)
    }

    #[test]
    fn weights_and_the_order_of_priorities_are_kept() {
        let targets = [target(1, 10, 60, 1), target(2, 10, 20, 1), target(3, 500, 7, 1)];
        let expected = [of("10.0.0.1:1", 0, 60), of("10.0.0.2:1", 0, 20), of("10.0.0.3:1", 1, 7)];
        assert_eq!(weights(&targets), expected);
    }

    #[test]
    fn weights_of_zero_are_equal_among_themselves_and_small_beside_others() {
        let equal = [target(1, 0, 0, 1), target(2, 0, 0, 1)];
        assert_eq!(weights(&equal), [of("10.0.0.1:1", 0, 1), of("10.0.0.2:1", 0, 1)]);
        let mixed = [target(1, 0, 1, 1), target(2, 0, 0, 1)];
        assert_eq!(weights(&mixed), [of("10.0.0.1:1", 0, 100), of("10.0.0.2:1", 0, 1)]);
        let mixed = [target(1, 0, u16::MAX, 1), target(2, 0, 0, 1)];
        assert_eq!(weights(&mixed), [of("10.0.0.1:1", 0, u16::MAX), of("10.0.0.2:1", 0, 1)]);
    }

    #[test]
    fn addresses_share_the_weight_of_their_target() {
        let targets = [target(1, 0, 1, 2), target(2, 0, 1, 1)];
        let expected = [of("10.0.0.1:1", 0, 1), of("10.0.0.1:2", 0, 1), of("10.0.0.2:1", 0, 2)];
        assert_eq!(weights(&targets), expected);
    }

    proptest! {
        #[test]
        fn shares_follow_the_weights(
            parts in prop::collection::vec((0..3u16, 0..200u16, 1..4u16), 1..20),
        ) {
            let targets: Vec<_> = (0..)
                .zip(&parts)
                .map(|(at, (priority, weight, count))| target(at, *priority, *weight, *count))
                .collect();
            let found = instances(&targets);
            prop_assert_eq!(found.len(), targets.iter().map(|it| it.addresses.len()).sum::<usize>());
            let share = |host: &str, of: &dyn Fn(&Instance) -> bool| {
                let own = found.iter().filter(|it| it.metadata["host"] == host);
                let all = found.iter().filter(|it| of(it));
                let sum = |weights: &mut dyn Iterator<Item = &Instance>| {
                    weights.map(|it| f64::from(it.weight)).sum::<f64>()
                };
                (sum(&mut { own }), sum(&mut { all }))
            };
            for target in &targets {
                let peers: Vec<_> = targets.iter().filter(|it| it.priority == target.priority).collect();
                let whole: f64 = peers.iter().map(|it| f64::from(it.weight)).sum();
                let rank = found.iter().find(|it| it.metadata["host"] == target.host).unwrap().priority;
                let (own, all) = share(&target.host, &|it| it.priority == rank);
                if whole > 0.0 {
                    let expected = f64::from(target.weight) / whole;
                    prop_assert!((own / all - expected).abs() < 0.02, "{own} of {all}: {expected}");
                    prop_assert!(target.weight > 0 || own / all <= 0.03, "{own} of {all}");
                }
            }
        }
    }
}
