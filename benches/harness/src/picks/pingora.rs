//! `pingora-load-balancing`: `LoadBalancer::select`. It counts nothing as in flight, so there is
//! nothing to give back.

use std::collections::BTreeSet;
use std::error::Error;
use std::hint::black_box;

use pingora_load_balancing::discovery::Static;
use pingora_load_balancing::selection::{
    BackendIter, BackendSelection, Consistent, Random, RoundRobin,
};
use pingora_load_balancing::{Backend, Backends, LoadBalancer};

use super::{Way, key, weight};

/// How many backends it may look at, as in its own examples.
const LOOKS: usize = 256;

pub(super) fn ways(backends: usize) -> Result<Vec<Way>, Box<dyn Error>> {
    Ok(vec![
        by::<RoundRobin>("pingora: round robin", backends)?,
        by::<Random>("pingora: random", backends)?,
        by::<Consistent>("pingora: consistent (ketama)", backends)?,
    ])
}

fn by<S>(name: &'static str, backends: usize) -> Result<Way, Box<dyn Error>>
where
    S: BackendSelection + Send + Sync + 'static,
    S::Iter: BackendIter,
{
    let backends = (0..backends).map(|at| {
        let address = format!("10.0.{}.{}:80", at / 250, 1 + at % 250);
        Backend::new_with_weight(&address, weight(at))
    });
    let backends: BTreeSet<Backend> = backends.collect::<Result<_, _>>()?;
    let balancer = LoadBalancer::<S>::from_backends(Backends::new(Static::new(backends)));
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(balancer.update())?;
    if balancer.select(b"", LOOKS).is_none() {
        return Err("pingora has no backend".into());
    }
    Ok(Way::new(name, move |times| {
        for turn in 0..times {
            black_box(balancer.select(&key(turn), LOOKS));
        }
    }))
}
