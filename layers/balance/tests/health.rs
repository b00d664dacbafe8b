//! Active checks: when they are made, and what is made of them. Time is paused, so that it passes
//! exactly as far as something is due.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::{Instant, advance, sleep};
use tower_keep_balance::health::{Initially, Probe, ProbeError};
use tower_keep_balance::{
    Backend, BuildError, HealthCheck, OutlierDetection, PickError, Pool, SlowStart, State,
    WhenNoneHealthy,
};

const SECOND: Duration = Duration::from_secs(1);

/// Backends that are up or down, and when each was asked.
#[derive(Clone, Default)]
struct World(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    down: HashSet<usize>,
    latency: Duration,
    asked: Vec<(usize, Instant)>,
    asking: usize,
    most_asking: usize,
}

impl World {
    fn set(&self, target: usize, is_up: bool) {
        let down = &mut self.0.lock().unwrap().down;
        if is_up {
            down.remove(&target)
        } else {
            down.insert(target)
        };
    }

    fn slow_down(&self, latency: Duration) {
        self.0.lock().unwrap().latency = latency;
    }

    fn asked(&self, target: usize) -> Vec<Instant> {
        let inner = self.0.lock().unwrap();
        inner.asked.iter().filter(|(it, _)| *it == target).map(|(_, at)| *at).collect()
    }
}

/// Counts those who are asking, those who gave up included.
struct Asking(World);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().asking -= 1;
    }
}

impl Probe<usize> for World {
    async fn probe(&self, target: &usize) -> Result<(), ProbeError> {
        let latency = {
            let mut inner = self.0.lock().unwrap();
            inner.asked.push((*target, Instant::now()));
            inner.asking += 1;
            inner.most_asking = inner.most_asking.max(inner.asking);
            inner.latency
        };
        let _asking = Asking(self.clone());
        sleep(latency).await;
        let is_down = self.0.lock().unwrap().down.contains(target);
        if is_down { Err(ProbeError::other("it is down")) } else { Ok(()) }
    }
}

fn check(world: &World) -> HealthCheck<World> {
    HealthCheck::new(world.clone()).interval(10 * SECOND).jitter(0)
}

fn pool(count: usize, check: HealthCheck<World>) -> Pool<usize> {
    let backends = (0..count).map(|at| Backend::new(at.to_string(), at));
    Pool::builder().backends(backends).health_check(check).build().unwrap()
}

fn state(pool: &Pool<usize>, at: usize) -> State {
    pool.status()[at].state.clone()
}

fn is_up(pool: &Pool<usize>, at: usize) -> bool {
    pool.status()[at].is_up
}

#[tokio::test(start_paused = true)]
async fn it_takes_as_many_checks_in_a_row_as_the_thresholds_say() {
    let world = World::default();
    let pool = pool(2, check(&world).fall(3).rise(2));
    sleep(SECOND).await;
    assert!(matches!(state(&pool, 1), State::Up));
    world.set(1, false);
    // The checks are made at 0, 10, 20 and 30 s.
    sleep(20 * SECOND).await;
    assert!(is_up(&pool, 1), "two have failed");
    sleep(10 * SECOND).await;
    let State::Unhealthy(error) = state(&pool, 1) else { panic!("{:?}", pool.status()) };
    assert_eq!(error.to_string(), "it is down");
    assert!((0..100).all(|_| *pool.pick().unwrap() == 0));
    world.set(1, true);
    sleep(10 * SECOND).await;
    assert!(!is_up(&pool, 1), "one has passed");
    sleep(10 * SECOND).await;
    assert!(matches!(state(&pool, 1), State::Up));
    assert!((0..200).any(|_| *pool.pick().unwrap() == 1));
    let stats = pool.stats();
    assert_eq!((stats.checks, stats.failed_checks, stats.panics), (12, 3, 0));
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_between_begins_the_row_anew() {
    let world = World::default();
    let pool = pool(2, check(&world).fall(2));
    for round in 0..20 {
        world.set(1, round % 2 == 0);
        sleep(10 * SECOND).await;
        assert!(is_up(&pool, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_has_failed_when_its_time_is_up() {
    let world = World::default();
    let pool = pool(1, check(&world).fall(1).timeout(3 * SECOND));
    world.slow_down(4 * SECOND);
    sleep(Duration::from_millis(2_900)).await;
    assert!(is_up(&pool, 0));
    sleep(Duration::from_millis(200)).await;
    assert!(
        matches!(state(&pool, 0), State::Unhealthy(ProbeError::Timeout(time)) if time == 3 * SECOND)
    );
}

#[tokio::test(start_paused = true)]
async fn a_hundred_backends_are_not_asked_all_at_once() {
    let world = World::default();
    let _pool = pool(100, check(&world).jitter(50));
    world.slow_down(Duration::from_millis(50));
    sleep(100 * SECOND).await;
    let inner = world.0.lock().unwrap();
    // The first ones are spread over 5 s, so that in 50 ms it is one in the mean.
    assert!(inner.most_asking < 12, "{} at once", inner.most_asking);
    let begin = inner.asked[0].1;
    let first = inner.asked.iter().take(100).map(|(target, _)| target).collect::<HashSet<_>>();
    assert_eq!(first.len(), 100, "each is asked before one is asked twice");
    assert!(inner.asked[99].1 - begin <= 5 * SECOND);
    // An interval of 10 s is shortened by 2.5 s in the mean.
    assert!((1_200..1_450).contains(&inner.asked.len()), "{} checks", inner.asked.len());
}

#[tokio::test(start_paused = true)]
async fn checks_never_pile_up_and_never_end() {
    let world = World::default();
    let pool = pool(1, check(&world).timeout(10 * SECOND));
    world.slow_down(3_600 * SECOND);
    sleep(100 * SECOND).await;
    assert_eq!(world.0.lock().unwrap().most_asking, 1);
    world.slow_down(Duration::ZERO);
    sleep(100_000 * SECOND).await;
    let asked = world.asked(0);
    assert!(asked.len() > 10_000, "{}", asked.len());
    assert!(asked.windows(2).all(|two| two[1] - two[0] <= 11 * SECOND));
    assert!(is_up(&pool, 0));
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_brings_no_burst() {
    let world = World::default();
    let _pool = pool(1, check(&world));
    sleep(SECOND).await;
    advance(1_000 * SECOND).await;
    sleep(SECOND).await;
    assert_eq!(world.asked(0).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn checks_begin_and_end_with_their_backend() {
    let world = World::default();
    let pool = pool(1, check(&world));
    sleep(25 * SECOND).await;
    assert_eq!((world.asked(0).len(), world.asked(1).len()), (3, 0));
    pool.insert(Backend::new("1", 1));
    sleep(11 * SECOND).await;
    assert_eq!((world.asked(0).len(), world.asked(1).len()), (4, 2));
    pool.update([Backend::new("1", 1), Backend::new("2", 2)]);
    sleep(100 * SECOND).await;
    assert_eq!(world.asked(0).len(), 4);
    let (one, two) = (world.asked(1).len(), world.asked(2).len());
    assert!(one >= 11 && two >= 10, "{one} {two}");
    // Another under the same name has checks of its own.
    pool.insert(Backend::new("1", 3));
    sleep(100 * SECOND).await;
    assert_eq!(world.asked(1).len(), one);
    assert!(world.asked(3).len() >= 10);
}

#[tokio::test(start_paused = true)]
async fn checks_end_with_the_last_handle_of_the_pool() {
    let world = World::default();
    let pool = pool(3, check(&world));
    let (other, pick) = (pool.clone(), pool.pick().unwrap());
    sleep(15 * SECOND).await;
    drop(pool);
    sleep(10 * SECOND).await;
    assert_eq!(world.asked(0).len(), 3, "there is another handle");
    world.slow_down(SECOND);
    sleep(Duration::from_millis(5_500)).await;
    assert_eq!(world.0.lock().unwrap().asking, 3);
    drop(other);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(world.0.lock().unwrap().asking, 0, "those at work are given up");
    sleep(100 * SECOND).await;
    assert_eq!(world.asked(0).len(), 4);
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
    drop(pick);
}

#[tokio::test(start_paused = true)]
async fn what_is_found_out_about_a_removed_backend_changes_nothing() {
    let world = World::default();
    let pool = pool(2, check(&world).fall(1));
    world.slow_down(SECOND);
    world.set(1, false);
    sleep(SECOND / 2).await;
    let mut changes = pool.changes();
    // The check is at work.
    pool.insert(Backend::new("1", 7));
    let change = changes.next().await.unwrap();
    assert!(matches!(change.state, State::Draining), "{change:?}");
    sleep(5 * SECOND).await;
    assert!(is_up(&pool, 1));
    assert_eq!(pool.stats().failed_checks, 0);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_panics_is_a_check_that_failed() {
    let asked = Arc::new(AtomicUsize::new(0));
    let probe = {
        let asked = Arc::clone(&asked);
        move |(): &()| {
            let asked = asked.fetch_add(1, SeqCst);
            assert!(asked != 0, "before its future is made");
            async move {
                assert!(asked > 1, "while its future is polled");
                Ok(())
            }
        }
    };
    let check = HealthCheck::new(probe).interval(10 * SECOND).jitter(0).fall(2).rise(1);
    let backend = Backend::new("a", ());
    let pool = Pool::builder().backend(backend).health_check(check).build().unwrap();
    sleep(15 * SECOND).await;
    assert!(matches!(pool.status()[0].state, State::Unhealthy(ProbeError::Panicked)));
    sleep(10 * SECOND).await;
    assert!(pool.status()[0].is_up, "the checks went on");
    assert_eq!(asked.load(SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_unhealthy_until_it_was_checked_gets_nothing_until_then() {
    let world = World::default();
    world.slow_down(SECOND);
    world.set(1, false);
    let check = check(&world).initially(Initially::Unhealthy).rise(3);
    let backends = (0..2).map(|at| Backend::new(at.to_string(), at));
    let refuse = WhenNoneHealthy::Refuse;
    let pool = Pool::builder().backends(backends).health_check(check).when_none_healthy(refuse);
    let pool = pool.build().unwrap();
    assert!(matches!(state(&pool, 0), State::Unchecked));
    assert_eq!(pool.pick().unwrap_err(), PickError::Unhealthy);
    sleep(2 * SECOND).await;
    assert!(matches!(state(&pool, 0), State::Up), "the first check decides");
    assert!(matches!(state(&pool, 1), State::Unhealthy(_)));
    assert!((0..100).all(|_| *pool.pick().unwrap() == 0));
}

#[tokio::test(start_paused = true)]
async fn while_none_is_healthy_all_are_used_and_it_is_said() {
    let world = World::default();
    let pool = pool(3, check(&world).fall(1).rise(1));
    let mut changes = pool.changes();
    sleep(SECOND).await;
    (0..3).for_each(|at| world.set(at, false));
    sleep(10 * SECOND).await;
    for _ in 0..3 {
        assert_eq!(changes.next().await.unwrap().state.as_str(), "unhealthy");
    }
    assert!(pool.panics());
    assert_eq!(pool.stats().panics, 1);
    let used: HashSet<usize> = (0..100).map(|_| *pool.pick().unwrap()).collect();
    assert_eq!(used.len(), 3);
    world.set(2, true);
    sleep(10 * SECOND).await;
    assert!(!pool.panics());
    let change = changes.next().await.unwrap();
    assert_eq!((&*change.name, change.state.as_str()), ("2", "up"));
    assert!((0..100).all(|_| *pool.pick().unwrap() == 2));
}

#[tokio::test(start_paused = true)]
async fn a_check_does_not_overrule_what_is_said_by_hand() {
    let world = World::default();
    let pool = pool(2, check(&world).fall(1).rise(1));
    pool.set_healthy("1", false);
    sleep(50 * SECOND).await;
    assert!(matches!(state(&pool, 1), State::Marked));
    world.set(1, false);
    sleep(10 * SECOND).await;
    pool.set_healthy("1", true);
    assert!(matches!(state(&pool, 1), State::Unhealthy(_)));
}

#[tokio::test]
async fn what_is_removed_is_seen_until_it_is_done() {
    let pool = pool(2, check(&World::default()));
    let pick = pool.pick().unwrap();
    let name = pick.name().to_owned();
    pool.remove(&name);
    let last = pool.status().pop().unwrap();
    assert_eq!((&*last.name, last.in_flight, last.state.as_str()), (&*name, 1, "draining"));
    drop(pick);
    assert_eq!(pool.status().len(), 1);
}

#[test]
fn settings_that_cannot_work_are_refused_with_what_to_change() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let check = || check(&World::default());
    let refused = |check: HealthCheck<World>| {
        let _guard = runtime.enter();
        let error = Pool::builder().health_check(check).build().unwrap_err();
        assert!(matches!(error, BuildError::Setting(_)));
        error.to_string()
    };
    assert!(refused(check().interval(Duration::ZERO)).contains("interval above zero"));
    assert!(refused(check().timeout(Duration::ZERO)).contains("timeout above zero"));
    assert!(refused(check().timeout(11 * SECOND)).contains("make the interval longer"));
    assert!(refused(check().rise(0)).contains("begin at 1"));
    assert!(refused(check().jitter(101)).contains("at most 100"));
    let none = Pool::builder().health_check(check()).build().unwrap_err();
    assert!(none.to_string().contains("within a tokio runtime"), "{none}");
    let outlier = OutlierDetection::new();
    for outlier in [
        outlier.window(Duration::ZERO),
        outlier.base_ejection(Duration::ZERO),
        outlier.max_ejection(SECOND),
        outlier.success_rate_deviation(-1.0),
        outlier.failure_percentage(0),
        outlier.max_ejected_percent(0),
    ] {
        let _guard = runtime.enter();
        assert!(Pool::<()>::builder().outlier_detection(outlier).build().is_err(), "{outlier:?}");
    }
    let slow = SlowStart::within(SECOND);
    for slow in [SlowStart::within(Duration::ZERO), slow.aggression(0.0), slow.minimum(0)] {
        assert!(Pool::<()>::builder().slow_start(slow).build().is_err(), "{slow:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(32) })]
    #[test]
    fn the_time_to_notice_is_within_what_was_promised(
        (rise, fall) in (1u32..5, 1u32..5),
        (jitter, latency) in (0u8..=100, 0u64..1_000),
        dies in 0u64..30_000,
    ) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let world = World::default();
            let latency = Duration::from_millis(latency);
            world.slow_down(latency);
            let pool = pool(2, check(&world).rise(rise).fall(fall).jitter(jitter));
            sleep(Duration::from_millis(dies)).await;
            for (is_up, needed) in [(false, fall), (true, rise)] {
                world.set(1, is_up);
                let mut changes = pool.changes();
                let began = Instant::now();
                changes.next().await.unwrap();
                let took = began.elapsed();
                let most = 10 * SECOND * needed + latency + Duration::from_millis(5);
                assert!(took <= most, "{took:?}, not {most:?}");
                assert_eq!(pool.status()[1].is_up, is_up);
            }
        });
    }
}
