//! Everything that comes of a configuration, but for the listeners.

use std::sync::Arc;

use tower_keep_balance::proxy::Pseudonym;

use crate::caches::Caches;
use crate::claims::OurFields;
use crate::config::Config;
use crate::exchange::Hidden;
use crate::guards::Guards;
use crate::route::{Parts, Route};
use crate::router::Router;
use crate::upstreams::{Update, Upstreams};

type Error = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) upstreams: Upstreams,
    pub(crate) caches: Caches,
    pub(crate) guards: Guards,
    pub(crate) our_fields: OurFields,
    /// Of what is logged.
    pub(crate) hidden: Hidden,
    pub(crate) router: Router<Route>,
    pub(crate) pseudonym: Pseudonym,
}

impl State {
    /// What `config` says, with all of `before` that stays the same. The updates are to be made once
    /// it is sure that this will be used.
    pub(crate) fn new(
        config: Config,
        before: Option<&Self>,
    ) -> Result<(Arc<Self>, Vec<Update>), Error> {
        let name = &config.server.name;
        let same = before.filter(|before| before.config.server.name == *name);
        let pseudonym = match same {
            Some(before) => before.pseudonym.clone(),
            // Another one for each process, so that an edge in front of another is no loop.
            None => Pseudonym::random(name).ok_or_else(|| format!("{name:?} can't be a name"))?,
        };
        let none = Upstreams::default();
        let known = before.map_or(&none, |before| &before.upstreams);
        let (upstreams, updates) = Upstreams::new(&config, known, &pseudonym)?;
        let guards = Guards::new(&config.jwts, before.map(|before| &before.guards))?;
        let our_fields = OurFields::of(config.jwts.values());
        let hidden = Hidden::of(config.jwts.values());
        let known = before.map(|before| &before.caches);
        let mut caches = Caches::new(&config.cache, known)?;
        let mut parts = Parts {
            config: &config,
            upstreams: &upstreams,
            caches: &mut caches,
            caches_before: known,
            guards: &guards,
            pseudonym: &pseudonym,
        };
        let mut routes = Vec::new();
        for route in &config.routes {
            routes.push((route.condition.clone(), Route::new(route, &mut parts)?));
        }
        let router = Router::new(routes);
        let state =
            Self { config, upstreams, caches, guards, our_fields, hidden, router, pseudonym };
        Ok((Arc::new(state), updates))
    }
}
