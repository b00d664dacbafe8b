//! What each strategy promises, in numbers.
#![allow(clippy::unwrap_used, clippy::cast_precision_loss, reason = "a test may panic")]

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use proptest::prelude::*;
use tower::{ServiceExt, service_fn};
use tower_keep_balance::{Backend, Balance, Hash, Outcome, Pool, Strategy as Rule, Wish};

fn pool(rule: Rule, weights: &[u16]) -> Pool<usize> {
    let backends = weights.iter().enumerate();
    let backends = backends.map(|(at, weight)| Backend::new(format!("{at}"), at).weight(*weight));
    Pool::builder().strategy(rule).backends(backends).build().unwrap()
}

fn shares(pool: &Pool<usize>, backends: usize, picks: usize) -> Vec<f64> {
    let mut counts = vec![0usize; backends];
    for _ in 0..picks {
        let pick = pool.pick().unwrap();
        counts[*pick] += 1;
        pick.finish(Outcome::Success);
    }
    counts.into_iter().map(|count| count as f64 / picks as f64).collect()
}

#[test]
fn weights_of_10_and_5_give_2_to_1() {
    for rule in [Rule::RoundRobin, Rule::Random, Rule::LeastConnections] {
        let shares = shares(&pool(rule, &[10, 5]), 2, 30_000);
        let ratio = shares[0] / shares[1];
        let tolerance = if rule == Rule::Random { 0.1 } else { 0.02 };
        assert!((ratio - 2.0).abs() < tolerance, "{rule:?}: {ratio}");
    }
}

#[test]
fn round_robin_has_no_bursts() {
    let pool = pool(Rule::RoundRobin, &[10, 5]);
    let picks: Vec<usize> = (0..30_000).map(|_| *pool.pick().unwrap()).collect();
    let longest = picks.chunk_by(|a, b| a == b).map(<[usize]>::len).max();
    assert_eq!(longest, Some(2), "0 1 0, and again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_hold_over_thirty_thousand_requests_that_overlap() {
    let counts: [Arc<AtomicUsize>; 2] = Default::default();
    let backends = counts.iter().zip([10, 5]).map(|(count, weight)| {
        let count = Arc::clone(count);
        let serve = service_fn(move |(): ()| {
            let nth = count.fetch_add(1, SeqCst);
            async move {
                // Some take longer than others.
                for _ in 0..nth % 7 {
                    tokio::task::yield_now().await;
                }
                Ok::<_, Infallible>(())
            }
        });
        Backend::new(weight.to_string(), serve).weight(weight)
    });
    let pool = Pool::builder().strategy(Rule::RoundRobin).backends(backends).build().unwrap();
    let balance = Balance::new(pool.clone());
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let balance = balance.clone();
            tokio::spawn(async move {
                for _ in 0..3_750 {
                    balance.clone().oneshot(()).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let counts = counts.map(|count| count.load(SeqCst));
    assert_eq!(counts[0] + counts[1], 30_000);
    assert!(counts[0].abs_diff(20_000) <= 1, "{counts:?}");
    assert!(pool.status().iter().all(|status| status.in_flight == 0));
}

#[test]
fn least_connections_levels_what_is_in_flight_by_weight() {
    let pool = pool(Rule::LeastConnections, &[4, 2, 1]);
    let held: Vec<_> = (0..700).map(|_| pool.pick().unwrap()).collect();
    let in_flight: Vec<u32> = pool.status().iter().map(|status| status.in_flight).collect();
    assert_eq!(in_flight, [400, 200, 100]);
    drop(held);
    assert!(pool.status().iter().all(|status| status.in_flight == 0));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Pick,
    Release(prop::sample::Index),
    Weigh(prop::sample::Index, u16),
    Insert(u16),
    Remove(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        6 => Just(Step::Pick),
        3 => index().prop_map(Step::Release),
        1 => (index(), 0u16..5).prop_map(|(at, weight)| Step::Weigh(at, weight)),
        1 => (0u16..5).prop_map(Step::Insert),
        1 => index().prop_map(Step::Remove),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever comes, goes and changes meanwhile.
    #[test]
    fn least_connections_never_picks_one_while_another_has_less(
        weights in prop::collection::vec(0u16..5, 0..40),
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let pool = pool(Rule::LeastConnections, &weights);
        let mut held = Vec::new();
        let mut next = weights.len();
        for step in steps {
            let before = pool.status();
            let name = |at: prop::sample::Index| before.get(at.index(before.len().max(1))).map(|it| &it.name);
            match step {
                Step::Pick => {
                    let usable = before.iter().filter(|it| it.weight > 0);
                    let load = |in_flight: u32, weight: u16| f64::from(in_flight) / f64::from(weight);
                    let least = usable.clone().map(|it| load(it.in_flight, it.weight)).reduce(f64::min);
                    let Ok(pick) = pool.pick() else {
                        prop_assert_eq!(least, None);
                        continue;
                    };
                    let picked = usable.clone().find(|it| it.id == pick.id()).unwrap();
                    prop_assert!(load(picked.in_flight, picked.weight) <= least.unwrap() + 1e-6);
                    held.push(pick);
                }
                Step::Release(at) if !held.is_empty() => drop(held.swap_remove(at.index(held.len()))),
                Step::Release(_) => {}
                Step::Weigh(at, weight) => {
                    name(at).map(|name| pool.set_weight(name, weight));
                }
                Step::Insert(weight) => {
                    pool.insert(Backend::new(format!("{next}"), next).weight(weight));
                    next += 1;
                }
                Step::Remove(at) => drop(name(at).map(|name| pool.remove(name))),
            }
        }
        drop(held);
        prop_assert!(pool.status().iter().all(|status| status.in_flight == 0));
    }
}

#[test]
fn threads_that_pick_at_the_same_time_leave_nothing_counted_and_keep_to_the_limits() {
    let backends = (0..20).map(|at| Backend::new(format!("{at}"), at).max_in_flight(2));
    let pool = Pool::builder().strategy(Rule::LeastConnections).backends(backends).build().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5_000 {
                    let picks: Vec<_> = (0..7).map(|_| pool.pick().unwrap()).collect();
                    assert!(pool.status().iter().all(|status| status.in_flight <= 2));
                    drop(picks);
                }
            });
        }
    });
    assert!(pool.status().iter().all(|status| status.in_flight == 0));
}

#[test]
fn two_choices_keep_what_is_in_flight_close_together() {
    let pool = pool(Rule::TwoChoices, &[1; 50]);
    let held: Vec<_> = (0..50_000).map(|_| pool.pick().unwrap()).collect();
    let most = pool.status().iter().map(|status| status.in_flight).max().unwrap();
    // ln ln n / ln 2 above the average (Mitzenmacher 2001); one choice would be off by 70 or more.
    assert!(most < 1_010, "{most} of 1,000");
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn peak_ewma_leaves_a_slow_backend_and_comes_back_to_it() {
    let pool = pool(Rule::default(), &[1, 1, 1]);
    let serve = async |slow: Duration, requests: usize| {
        let mut counts = [0usize; 3];
        for _ in 0..requests {
            let pick = pool.pick().unwrap();
            counts[*pick] += 1;
            let latency = if *pick == 0 { slow } else { Duration::from_millis(10) };
            tokio::time::sleep(latency).await;
            pick.finish(Outcome::Success);
        }
        counts
    };
    let counts = serve(Duration::from_secs(1), 3_000).await;
    assert!(counts[0] < 60, "the slow one got {counts:?}");
    assert!(counts[1].abs_diff(counts[2]) < 300, "{counts:?}");
    let counts = serve(Duration::from_millis(10), 10_000).await;
    assert!(counts[0] > 500, "recovered, it got {counts:?}");
}

#[tokio::test(start_paused = true)]
async fn peak_ewma_leaves_a_backend_that_never_answers_also_if_it_is_the_clients_who_give_up() {
    let pool = pool(Rule::default(), &[1, 1, 1]);
    let mut counts = [0usize; 3];
    for _ in 0..20_000 {
        let pick = pool.pick().unwrap();
        counts[*pick] += 1;
        if *pick == 0 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            // Nobody says how it went.
            drop(pick);
        } else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            pick.finish(Outcome::Success);
        }
    }
    assert!(counts[0] < 400, "the one that hangs got {counts:?}");
    assert!(counts[1].abs_diff(counts[2]) < 2_000, "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn peak_ewma_gives_one_that_comes_back_no_more_than_its_share() {
    for count in [2, 10] {
        let pool = pool(Rule::default(), &vec![1; count]);
        let serve = async |requests: usize| {
            for _ in 0..requests {
                let pick = pool.pick().unwrap();
                tokio::time::sleep(Duration::from_millis(10)).await;
                pick.finish(Outcome::Success);
            }
        };
        serve(100 * count).await;
        pool.set_healthy("0", false);
        // Five minutes.
        serve(30_000).await;
        pool.set_healthy("0", true);
        let held: Vec<_> = (0..100 * count).map(|_| pool.pick().unwrap()).collect();
        let back = held.iter().filter(|pick| ***pick == 0).count();
        println!("{back} of {} requests go to the one of {count} that has come back", held.len());
        assert!((10..120).contains(&back), "{back} of {}", held.len());
    }
}

#[test]
fn a_hash_finds_the_same_backend_and_loses_it_only_to_a_newcomer() {
    let keys: Vec<String> = (0..20_000).map(|key| format!("client-{key}")).collect();
    let find = |pool: &Pool<usize>| -> Vec<usize> {
        let pick = |key: &String| *pool.pick_by(Wish::new().hash_bytes(key.as_bytes())).unwrap();
        keys.iter().map(pick).collect()
    };
    let pool = pool(Rule::Hash(Hash::default()), &[1; 10]);
    let before = find(&pool);
    assert_eq!(find(&pool), before);
    pool.insert(Backend::new("10", 10));
    let after = find(&pool);
    let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count() as f64 / 20_000.0;
    println!(
        "one more of 10: {:.2} % of the keys move, {:.2} % are its share",
        moved * 100.0,
        100.0 / 11.0
    );
    assert!(moved < 1.15 / 11.0, "{moved}");
    pool.remove("10");
    assert_eq!(find(&pool), before);
}

#[test]
fn a_bounded_hash_gives_no_backend_more_than_its_bound() {
    let pool = pool(Rule::Hash(Hash::default().bounded_load(125)), &[1; 10]);
    // Everything belongs to the same backend.
    let held: Vec<_> = (0..1_000).map(|_| pool.pick_by(Wish::new().hash(42)).unwrap()).collect();
    for status in pool.status() {
        assert!(status.in_flight <= 125, "{status:?}");
    }
    let mut by_backend: HashMap<usize, usize> = HashMap::new();
    for pick in &held {
        *by_backend.entry(**pick).or_default() += 1;
    }
    assert_eq!(by_backend.values().filter(|count| **count == 125).count(), 8, "as few as can be");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn shares_follow_the_weights(weights in prop::collection::vec(1u16..20, 2..8)) {
        let total: f64 = weights.iter().copied().map(f64::from).sum();
        for rule in [Rule::RoundRobin, Rule::Random] {
            let shares = shares(&pool(rule, &weights), weights.len(), 20_000);
            for (share, weight) in shares.iter().zip(&weights) {
                let due = f64::from(*weight) / total;
                prop_assert!((share - due).abs() < 0.02, "{rule:?}: {share} for {due}");
            }
        }
    }
}
