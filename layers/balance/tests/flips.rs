//! Health that changes at random, and all at once, while backends are picked (I9).
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use proptest::prelude::*;
use tower_keep_balance::health::ProbeError;
use tower_keep_balance::{
    Backend, Hash, HealthCheck, Outcome, OutlierDetection, Pool, SlowStart, Strategy as Rule,
    WhenNoneHealthy, Wish,
};

const COUNT: usize = 5;

fn rule() -> impl Strategy<Value = Rule> {
    prop::sample::select(vec![
        Rule::RoundRobin,
        Rule::Random,
        Rule::LeastConnections,
        Rule::TwoChoices,
        Rule::default(),
        Rule::Hash(Hash::default()),
    ])
}

/// What those who pick know: odd while something is being changed, then a bit for each that is up.
struct Known {
    version: AtomicU64,
    up: AtomicU64,
}

fn backends() -> impl Iterator<Item = Backend<usize>> {
    (0..COUNT).map(|at| Backend::new(at.to_string(), at).priority(u8::from(at > 2)))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(10) })]
    #[test]
    fn nothing_goes_to_one_that_is_known_unhealthy_while_another_is_healthy(
        rule in rule(),
        slow_start: bool,
        keeps: bool,
        flips in prop::collection::vec((0..COUNT, any::<bool>()), 1..80),
    ) {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_time().build().unwrap();
        let _guard = runtime.enter();
        let mut builder = Pool::builder().strategy(rule).backends(backends());
        if slow_start {
            builder = builder.slow_start(SlowStart::within(Duration::from_secs(10)));
        }
        if keeps {
            builder = builder.outlier_detection(OutlierDetection::new());
        }
        let pool = builder.build().unwrap();
        let known = Known { version: AtomicU64::new(0), up: AtomicU64::new((1 << COUNT) - 1) };
        let (ended, picks) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let pickers: Vec<_> = (0..2).map(|_| scope.spawn(|| {
                let mut hash = 0;
                while !ended.load(SeqCst) {
                    hash += 1;
                    let version = known.version.load(SeqCst);
                    let up = known.up.load(SeqCst);
                    let pick = pool.pick_by(Wish::new().hash(hash)).unwrap();
                    picks.fetch_add(1, SeqCst);
                    if version.is_multiple_of(2) && version == known.version.load(SeqCst) {
                        assert!(up == 0 || up & (1 << *pick) != 0, "{} of {up:#b}", *pick);
                    }
                }
            })).collect();
            for (at, is_up) in flips {
                let seen = picks.load(SeqCst);
                known.version.fetch_add(1, SeqCst);
                pool.set_healthy(&at.to_string(), is_up);
                let bit = 1 << at;
                if is_up { known.up.fetch_or(bit, SeqCst) } else { known.up.fetch_and(!bit, SeqCst) };
                known.version.fetch_add(1, SeqCst);
                while picks.load(SeqCst) < seen + 4 && !pickers.iter().any(ScopedJoinHandle::is_finished) {
                    std::thread::yield_now();
                }
            }
            ended.store(true, SeqCst);
        });
        prop_assert!(pool.status().iter().all(|it| it.in_flight == 0));
    }
}

#[test]
fn no_pick_fails_while_backends_take_turns_to_be_up() {
    let backends = ["0", "1"].map(|name| Backend::new(name, ()));
    let pool = Pool::builder().strategy(Rule::Random).backends(backends);
    let pool = pool.when_none_healthy(WhenNoneHealthy::Refuse).build().unwrap();
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let picker = scope.spawn(|| {
            while !ended.load(SeqCst) {
                pool.pick().unwrap();
            }
        });
        for round in 0..20_000 {
            let (up, down) = if round % 2 == 0 { ("0", "1") } else { ("1", "0") };
            pool.set_healthy(up, true);
            pool.set_healthy(down, false);
        }
        ended.store(true, SeqCst);
        picker.join().unwrap();
    });
}

/// Checks of a thousand backends that all turn to the other side at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_that_flap_at_once_cost_few_rebuilds() {
    let is_up = Arc::new(AtomicBool::new(true));
    let probe = {
        let is_up = Arc::clone(&is_up);
        move |at: &usize| {
            let passes = *at == 0 || is_up.load(SeqCst);
            async move { if passes { Ok(()) } else { Err(ProbeError::other("down")) } }
        }
    };
    let check = HealthCheck::new(probe).interval(Duration::from_millis(200)).fall(1).rise(1);
    let backends = (0..1_000).map(|at| Backend::new(at.to_string(), at));
    let pool = Pool::builder().strategy(Rule::RoundRobin).backends(backends).health_check(check);
    let pool = pool.build().unwrap();
    for flap in [false, true] {
        is_up.store(flap, SeqCst);
        let (before, began) = (pool.stats().rebuilds, tokio::time::Instant::now());
        let count = || pool.status().iter().filter(|it| it.is_up).count();
        let wanted = if flap { 1_000 } else { 1 };
        while count() != wanted {
            assert!(began.elapsed() < Duration::from_secs(60), "{} of {wanted}", count());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let rebuilds = pool.stats().rebuilds - before;
        println!("a thousand {flap}: {rebuilds} rebuilds in {:?}", began.elapsed());
        assert!(rebuilds < 300, "{rebuilds}");
    }
    // The last ones are seen in the table, too.
    let seen = || {
        let picks = (0..3_000).map(|_| *pool.pick().unwrap());
        picks.collect::<std::collections::HashSet<_>>().len()
    };
    let began = tokio::time::Instant::now();
    while seen() < 1_000 {
        assert!(began.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Failures from many threads, and a keeper that ejects meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_fails_under_load_is_ejected_and_no_count_is_lost() {
    let settings = OutlierDetection::new().base_ejection(Duration::from_secs(600));
    let pool = Pool::builder()
        .backends(backends())
        .outlier_detection(settings.max_ejection(Duration::from_secs(600)));
    let pool = pool.build().unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..2)
        .map(|_| {
            let (pool, ended) = (pool.clone(), Arc::clone(&ended));
            tokio::spawn(async move {
                while !ended.load(SeqCst) {
                    let pick = pool.pick().unwrap();
                    tokio::task::yield_now().await;
                    let outcome = if *pick == 1 { Outcome::Failure } else { Outcome::Success };
                    pick.finish(outcome);
                }
            })
        })
        .collect();
    let mut changes = pool.changes();
    while pool.stats().ejections == 0 {
        changes.next().await.unwrap();
    }
    assert!((0..1_000).all(|_| *pool.pick().unwrap() != 1));
    ended.store(true, SeqCst);
    for it in load {
        it.await.unwrap();
    }
    assert!(pool.status().iter().all(|it| it.in_flight == 0));
    assert_eq!(pool.stats().ejections, 1);
}
