//! A registry in memory, and pools that follow it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use futures_util::StreamExt as _;
use proptest::prelude::*;
use tokio::time::{Instant, advance, sleep, timeout};
use tower_keep_balance::registry::{
    Discovery, Instance, Instances, Lease, Memory, Publisher, Registration, RegistrationState,
    Registry, RegistryError, Watch,
};
use tower_keep_balance::{Backend, BackendId, Outcome, Pool, State};

const TTL: Duration = Duration::from_secs(15);

fn instance(id: &str) -> Instance {
    Instance::new(id, format!("10.0.0.1:{id}"))
}

async fn registered(registry: &Memory, id: &str) -> Registration {
    let registration = registry.register("shop", instance(id), TTL).unwrap();
    registration.registered().await.unwrap();
    registration
}

fn ids(instances: &[Instance]) -> Vec<&str> {
    instances.iter().map(Instance::id).collect()
}

async fn next(watch: &mut Watch) -> Instances {
    timeout(Duration::from_secs(60), watch.next()).await.unwrap().unwrap()
}

#[tokio::test(start_paused = true)]
async fn those_who_send_heartbeats_live_and_who_is_silent_is_gone_after_its_time() {
    let registry = Memory::new();
    let mut watch = registry.watch("shop");
    assert!(next(&mut watch).await.is_empty(), "the first list comes at once");
    let alive = registered(&registry, "1").await;
    assert_eq!(ids(&next(&mut watch).await), ["1"]);
    let silent = Lease::new(instance("2"), TTL).unwrap();
    assert!(registry.heartbeat("shop", &silent).await.unwrap());
    let began = Instant::now();
    assert_eq!(ids(&next(&mut watch).await), ["1", "2"]);
    assert_eq!(ids(&next(&mut watch).await), ["1"]);
    let after = began.elapsed();
    assert!(after >= TTL && after < TTL + Duration::from_millis(5), "{after:?}");
    sleep(TTL * 10).await;
    assert_eq!(ids(&registry.healthy("shop").await.unwrap()), ["1"]);
    assert!(registry.healthy("other").await.unwrap().is_empty());
    alive.deregister().await.unwrap();
    assert!(next(&mut watch).await.is_empty());
    assert!(registry.healthy("shop").await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn dropping_a_registration_ends_it() {
    let registry = Memory::new();
    let mut watch = registry.watch("shop");
    next(&mut watch).await;
    let registration = registered(&registry, "1").await;
    next(&mut watch).await;
    let began = Instant::now();
    drop(registration);
    assert!(next(&mut watch).await.is_empty());
    assert!(began.elapsed() < Duration::from_millis(5));
}

#[tokio::test(start_paused = true)]
async fn a_restarted_process_takes_its_id_over_and_the_old_one_cannot_end_it() {
    let registry = Memory::new();
    let old = registered(&registry, "1").await;
    let moved = Instance::new("1", "10.0.0.9:1");
    let new = registry.register("shop", moved.clone(), TTL).unwrap();
    new.registered().await.unwrap();
    sleep(TTL).await;
    assert!(matches!(old.state(), RegistrationState::Replaced));
    assert!(matches!(old.registered().await, Err(RegistryError::Replaced)));
    old.deregister().await.unwrap();
    assert_eq!(registry.healthy("shop").await.unwrap(), [moved]);
    assert!(matches!(new.state(), RegistrationState::Registered));
}

#[tokio::test(start_paused = true)]
async fn weights_change_live() {
    let registry = Memory::new();
    let mut lists = Box::pin(registry.watch("shop").into_stream());
    lists.next().await.unwrap();
    let registration = registered(&registry, "1").await;
    assert_eq!(*lists.next().await.unwrap(), [instance("1")]);
    registration.set_weight(7);
    assert_eq!(*lists.next().await.unwrap(), [instance("1").weight(7)]);
}

#[tokio::test]
async fn what_is_out_of_bounds_is_refused_with_a_reason() {
    let registry = Memory::new();
    let refused = |service: &str, instance, ttl| {
        registry.register(service, instance, ttl).unwrap_err().to_string()
    };
    assert!(refused("", instance("1"), TTL).contains("service's name"));
    assert!(refused("a{b}", instance("1"), TTL).contains("braces"));
    assert!(refused("shop", instance(""), TTL).contains("id has 1 to 256"));
    assert!(refused("shop", instance("a\n"), TTL).contains("control"));
    assert!(refused("shop", Instance::new("1", "a b"), TTL).contains("blanks"));
    let large = instance("1").meta("k", "v".repeat(5000));
    assert!(refused("shop", large, TTL).contains("4 KiB"));
    assert!(refused("shop", instance("1"), Duration::ZERO).contains("30 ms"));
    for id in 0..4096 {
        let lease = Lease::new(instance(&id.to_string()), TTL).unwrap();
        assert!(registry.heartbeat("shop", &lease).await.unwrap());
    }
    let more = Lease::new(instance("more"), TTL).unwrap();
    assert!(matches!(registry.heartbeat("shop", &more).await, Err(RegistryError::Full(4096))));
}

/// What happens to a registry.
#[derive(Clone, Debug)]
enum Step {
    Register { id: usize, holder: u64, weight: u16, ttl: u64 },
    Renew { id: usize, holder: u64, weight: u16, ttl: u64 },
    Deregister { id: usize, holder: u64 },
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let place = (0..3usize, 0..3u64, 1..4u16, 30..2_000u64);
    prop_oneof![
        place.clone().prop_map(|(id, holder, weight, ttl)| Step::Register {
            id,
            holder,
            weight,
            ttl
        }),
        place.prop_map(|(id, holder, weight, ttl)| Step::Renew { id, holder, weight, ttl }),
        (0..3usize, 0..3u64).prop_map(|(id, holder)| Step::Deregister { id, holder }),
        (1..1_000u64).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]
    #[test]
    fn any_sequence_gives_what_a_model_gives(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let registry = Memory::new();
            let watch = registry.watch("shop");
            let begin = Instant::now();
            // By id: the holder, the weight, and until when, in milliseconds.
            let mut model: BTreeMap<usize, (u64, u16, u64)> = BTreeMap::new();
            for step in steps {
                let now = u64::try_from(begin.elapsed().as_millis()).unwrap();
                model.retain(|_, (_, _, until)| *until > now);
                match step {
                    Step::Register { id, holder, weight, ttl } | Step::Renew { id, holder, weight, ttl } => {
                        let takes_over = matches!(step, Step::Register { .. });
                        let instance = instance(&id.to_string()).weight(weight);
                        let mut lease = Lease::new(instance, Duration::from_millis(ttl)).unwrap();
                        (lease.holder, lease.takes_over) = (holder, takes_over);
                        let holds = takes_over || model.get(&id).is_none_or(|it| it.0 == holder);
                        if holds {
                            model.insert(id, (holder, weight, now + ttl));
                        }
                        assert_eq!(registry.heartbeat("shop", &lease).await.unwrap(), holds);
                    }
                    Step::Deregister { id, holder } => {
                        let is_there = model.get(&id).is_some_and(|it| it.0 == holder);
                        if is_there {
                            model.remove(&id);
                        }
                        let was_there = registry.deregister("shop", &id.to_string(), holder).await;
                        assert_eq!(was_there.unwrap(), is_there);
                    }
                    Step::Wait(millis) => advance(Duration::from_millis(millis)).await,
                }
                // Timers are a millisecond coarse.
                sleep(Duration::from_millis(2)).await;
                let now = u64::try_from(begin.elapsed().as_millis()).unwrap();
                model.retain(|_, (_, _, until)| *until > now);
                let expected: Vec<_> = model
                    .iter()
                    .map(|(id, (_, weight, _))| instance(&id.to_string()).weight(*weight))
                    .collect();
                assert_eq!(registry.healthy("shop").await.unwrap(), expected);
                if model.values().all(|it| it.2 > now + 2) {
                    sleep(Duration::from_millis(2)).await;
                    assert_eq!(*watch.latest().unwrap(), expected);
                }
            }
        });
    }
}

/// A registry that says what a test lets it say.
struct Said(Watch);

impl Said {
    fn new() -> (Publisher, Self) {
        let (publisher, watch) = Watch::channel("shop");
        (publisher, Self(watch))
    }
}

impl Discovery for Said {
    async fn healthy(&self, _: &str) -> Result<Vec<Instance>, RegistryError> {
        Ok(self.0.latest().map(|list| list.to_vec()).unwrap_or_default())
    }

    fn watch(&self, _: &str) -> Watch {
        self.0.clone()
    }
}

fn names<T>(pool: &Pool<T>) -> Vec<String> {
    let status = pool.status().into_iter();
    status.filter(|it| it.is_up || it.weight > 0).map(|it| it.name.to_string()).collect()
}

async fn until(done: impl Fn() -> bool) {
    let waits = async {
        while !done() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(60), waits).await.unwrap();
}

fn id<T>(pool: &Pool<T>, name: &str) -> BackendId {
    pool.status().iter().find(|it| &*it.name == name).unwrap().id
}

#[tokio::test]
async fn a_pool_keeps_whom_it_knows_and_makes_those_anew_whose_address_changed() {
    let (publisher, said) = Said::new();
    let pool = Pool::builder().backend(Backend::new("before", String::new())).build().unwrap();
    let made = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&made);
    let following = pool.follow(&said, "shop", move |instance| {
        counted.fetch_add(1, SeqCst);
        Ok::<_, Infallible>(instance.backend(instance.address().to_owned()))
    });
    publisher.publish([instance("1"), instance("2")]);
    following.ready().await;
    assert_eq!(names(&pool), ["1", "2"]);
    let before = ["1", "2"].map(|name| id(&pool, name));
    let in_use: Vec<_> = (0..20).map(|_| pool.pick().unwrap()).collect();
    let of = |name| in_use.iter().filter(|pick| pick.name() == name).count();

    publisher.publish([
        instance("1").weight(5).priority(3),
        Instance::new("2", "10.0.0.9:2"),
        instance("3"),
    ]);
    until(|| names(&pool).len() == 3).await;
    let status = pool.status();
    assert_eq!((status[0].id, status[0].weight, status[0].priority), (before[0], 5, 3));
    assert_eq!(usize::try_from(status[0].in_flight).unwrap(), of("1"), "the counters stay");
    assert_ne!(id(&pool, "2"), before[1]);
    assert_eq!(status[1].in_flight, 0);
    let leaving = status.iter().find(|it| it.id == before[1]).unwrap();
    assert!(matches!(leaving.state, State::Draining), "it finishes what it has: {leaving:?}");
    assert_eq!(usize::try_from(leaving.in_flight).unwrap(), of("2"));
    assert_eq!(made.load(SeqCst), 5, "those who didn't change aren't made again");

    // What somebody has set by hand stays, too, until the instance changes.
    pool.set_weight("3", 9);
    publisher.publish([instance("1"), instance("3")]);
    until(|| names(&pool) == ["1", "3"]).await;
    let status = pool.status();
    assert_eq!((status[0].weight, status[1].weight), (1, 9));
    // And whom somebody has removed comes back with the next list.
    pool.remove("1").unwrap();
    publisher.publish([instance("1"), instance("3"), instance("4")]);
    until(|| names(&pool) == ["1", "3", "4"]).await;
    for pick in in_use {
        pick.finish(Outcome::Success);
    }
    assert_eq!(following.stats().watch.updates, 4);
}

#[tokio::test]
async fn instances_that_cannot_be_backends_are_left_out_and_nothing_else() {
    let (publisher, said) = Said::new();
    let pool = Pool::builder().build().unwrap();
    let following = pool.follow(&said, "shop", |instance| match instance.id() {
        "bad" => Err("it is bad"),
        "worse" => panic!("it is worse"),
        _ => Ok(Backend::new("any name", ()).max_in_flight(3)),
    });
    publisher.publish(["1", "bad", "worse"].map(instance));
    following.ready().await;
    assert_eq!(names(&pool), ["1"], "named by the id");
    assert_eq!(following.stats().refused, 2);
    publisher.publish(["1", "bad", "2"].map(instance));
    until(|| names(&pool) == ["1", "2"]).await;
}

#[tokio::test]
async fn nothing_is_lost_while_the_registry_cannot_be_asked() {
    let (publisher, said) = Said::new();
    let pool = Pool::builder().build().unwrap();
    let unit = |instance: &Instance| Ok::<_, Infallible>(instance.backend(()));
    let following = pool.follow(&said, "shop", unit);
    publisher.publish([instance("1")]);
    following.ready().await;
    publisher.failed(RegistryError::unavailable("it is away"));
    assert!(following.error().unwrap().to_string().contains("it is away"));
    drop(publisher);
    tokio::task::yield_now().await;
    assert_eq!(names(&pool), ["1"]);
    following.ready().await;
}

#[tokio::test]
async fn a_pool_follows_one_registry_and_the_watch_ends_with_the_pool() {
    let [first, second] = [Said::new(), Said::new()];
    let pool = Pool::builder().build().unwrap();
    let unit = |instance: &Instance| Ok::<_, Infallible>(instance.backend(()));
    first.0.publish([instance("1")]);
    pool.follow(&first.1, "shop", unit).ready().await;
    second.0.publish([instance("2")]);
    pool.follow(&second.1, "shop", unit).ready().await;
    assert_eq!(names(&pool), ["2"]);
    first.0.publish([instance("3")]);
    drop(first.1);
    timeout(Duration::from_secs(60), first.0.closed()).await.unwrap();
    assert_eq!(names(&pool), ["2"]);
    drop(second.1);
    let pick = pool.pick().unwrap();
    drop(pool);
    timeout(Duration::from_secs(60), second.0.closed()).await.unwrap();
    drop(pick);
}
