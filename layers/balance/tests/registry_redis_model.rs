//! Whatever happens in whatever order, the registry on Redis knows what a model knows.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use tower_keep_balance::registry::{Discovery, Instance, Lease, Redis, Registry};
use tower_keep_testing::RedisServer;

/// Nothing expires by itself.
const TTL: Duration = Duration::from_secs(3600);

#[derive(Clone, Debug)]
enum Step {
    Heartbeat {
        id: usize,
        holder: u64,
        weight: u16,
        takes_over: bool,
    },
    Deregister {
        id: usize,
        holder: u64,
    },
    /// Its time is over, and nobody has looked yet.
    Expire(usize),
    /// The server loses everything.
    Flush,
    Look,
}

fn step() -> impl Strategy<Value = Step> {
    let place = (0..3usize, 0..3u64, 1..4u16, any::<bool>());
    prop_oneof![
        6 => place.prop_map(|(id, holder, weight, takes_over)| {
            Step::Heartbeat { id, holder, weight, takes_over }
        }),
        3 => (0..3usize, 0..3u64).prop_map(|(id, holder)| Step::Deregister { id, holder }),
        2 => (0..3usize).prop_map(Step::Expire),
        1 => Just(Step::Flush),
        3 => Just(Step::Look),
    ]
}

fn lease(id: usize, holder: u64, weight: u16, takes_over: bool) -> Lease {
    let instance = Instance::new(id.to_string(), "10.0.0.1:80").weight(weight);
    let mut lease = Lease::new(instance, TTL).unwrap();
    (lease.holder, lease.takes_over) = (holder, takes_over);
    lease
}

/// The holder and the weight of those who live, by id.
type Model = BTreeMap<usize, (u64, u16)>;

async fn apply(server: &RedisServer, registry: &Redis, model: &mut Model, step: &Step) {
    match *step {
        Step::Heartbeat { id, holder, weight, takes_over } => {
            let holds = takes_over || model.get(&id).is_none_or(|it| it.0 == holder);
            if holds {
                model.insert(id, (holder, weight));
            }
            let lease = lease(id, holder, weight, takes_over);
            assert_eq!(registry.heartbeat("shop", &lease).await.unwrap(), holds, "{step:?}");
        }
        Step::Deregister { id, holder } => {
            let is_there = model.get(&id).is_some_and(|it| it.0 == holder);
            if is_there {
                model.remove(&id);
            }
            let was_there = registry.deregister("shop", &id.to_string(), holder).await.unwrap();
            assert_eq!(was_there, is_there, "{step:?}");
        }
        Step::Expire(id) => {
            model.remove(&id);
            let (key, id) = (b"{tk:registry:shop}:expiry", id.to_string());
            server.command(&[b"ZADD", key, b"XX", b"1", id.as_bytes()]).await;
        }
        Step::Flush => {
            model.clear();
            server.command(&[b"FLUSHALL"]).await;
        }
        Step::Look => {
            let mut found = registry.healthy("shop").await.unwrap();
            found.sort_by(|a, b| a.id().cmp(b.id()));
            let of = |(id, &(holder, weight)): (&usize, &(u64, u16))| {
                lease(*id, holder, weight, false).instance
            };
            assert_eq!(found, model.iter().map(of).collect::<Vec<_>>());
        }
    }
}

#[test]
fn any_sequence_gives_what_a_model_gives() {
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = { runtime }.worker_threads(1).enable_all().build().unwrap();
    let server = runtime.block_on(RedisServer::start());
    let registry = runtime.block_on(async { Redis::new(&server.url()).unwrap() });
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) };
    proptest!(config, |(steps in prop::collection::vec(step(), 1..40))| {
        runtime.block_on(async {
            let mut model = Model::new();
            for step in [&Step::Flush].into_iter().chain(&steps).chain([&Step::Look]) {
                apply(&server, &registry, &mut model, step).await;
            }
        });
    });
}
