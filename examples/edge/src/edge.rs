//! The running edge: it begins, loads its configuration again, and ends.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tower_keep_balance::registry::{Redis, Registration, Registry as _};

use crate::config::{Announce, Config, Listener};
use crate::face::{Face, Role};
use crate::listening::Listening;
use crate::log::{self, Level};
use crate::state::State;

type Error = Box<dyn std::error::Error + Send + Sync>;

pub(crate) struct Edge {
    path: PathBuf,
    state: Arc<State>,
    listening: Vec<Listening>,
    /// Those that a reload has closed, and that finish what they have.
    closing: JoinSet<()>,
    announced: Option<Registration>,
    level: Level,
}

impl Edge {
    /// Begins to serve what the file at `path` says.
    pub(crate) async fn start(path: PathBuf) -> Result<Self, Error> {
        let config = Config::load(&path)?;
        let level = log::begin(&config.log);
        let (state, _) = State::new(config, None)?;
        let mut listening = Vec::new();
        for face in faces(&state)? {
            listening.push(open(face, &[]).await?);
        }
        let announced = state.config.announce.as_ref().map(announce).transpose()?;
        Ok(Self { path, state, listening, closing: JoinSet::new(), announced, level })
    }

    /// Where it serves: the name of each listener, and its address.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = String> {
        self.listening.iter().map(|listening| {
            let face = listening.face();
            format!("{} {}://{}", face.settings.name, face.scheme(), listening.local)
        })
    }

    /// Loads the configuration again: all of it, or nothing.
    pub(crate) async fn reload(&mut self) {
        match self.try_reload().await {
            Ok(()) => tracing::info!("the configuration is loaded again"),
            Err(error) => {
                tracing::error!(
                    "the configuration stays as it is, since the new one can't be used:\n{error}"
                );
            }
        }
    }

    async fn try_reload(&mut self) -> Result<(), Error> {
        let config = Config::load(&self.path)?;
        let (state, updates) = State::new(config, Some(&self.state))?;
        // New sockets are opened first, as that can fail.
        let (mut shown, mut added) = (Vec::new(), Vec::new());
        let mut known: Vec<_> = self.listening.iter().map(|it| Some(it.configured)).collect();
        for face in faces(&state)? {
            let address = Some(face.settings.address);
            let at = known.iter().position(|known| *known == address);
            match at.and_then(|at| Some((at, known.get_mut(at)?))) {
                Some((at, known)) => {
                    *known = None;
                    shown.push((at, face));
                }
                None => added.push(face),
            }
        }
        // Whoever is still known has found no face.
        let leaving = self.listening.iter().zip(&known);
        let leaving = leaving.filter(|(_, known)| known.is_some()).map(|(it, _)| it);
        let leaving: Vec<_> = leaving.collect();
        let mut opened = Vec::new();
        for face in added {
            opened.push(open(face, &leaving).await?);
        }
        let is_announced = state.config.announce == self.state.config.announce;
        let announcement = match &state.config.announce {
            Some(it) if !is_announced => Some(announce(it)?),
            _ => None,
        };
        // From here on, nothing can fail.
        updates.into_iter().for_each(super::upstreams::Update::make);
        for (at, face) in shown {
            if let Some(listening) = self.listening.get(at) {
                listening.show(face);
            }
        }
        let patience = self.state.config.server.drain_timeout;
        for (listening, known) in std::mem::take(&mut self.listening).into_iter().zip(known) {
            match known {
                None => self.listening.push(listening),
                Some(_) => drop(self.closing.spawn(listening.close(patience).await)),
            }
        }
        self.listening.extend(opened);
        if !is_announced && let Some(before) = std::mem::replace(&mut self.announced, announcement)
        {
            self.closing.spawn(withdraw(before));
        }
        self.level.set(&state.config.log);
        self.state = state;
        // What ended long ago.
        while self.closing.try_join_next().is_some() {}
        Ok(())
    }

    /// Finishes what has begun, within its bounds.
    pub(crate) async fn stop(self) {
        let Self { state, listening, mut closing, announced, .. } = self;
        let server = &state.config.server;
        if let Some(announced) = announced
            && timeout(server.drain_timeout, withdraw(announced)).await.is_err()
        {
            tracing::warn!("the registry can't be told that this instance ends");
        }
        // Those in front may need a moment to hear of it.
        sleep(server.drain_delay).await;
        for listening in listening {
            closing.spawn(listening.close(server.drain_timeout).await);
        }
        while closing.join_next().await.is_some() {}
    }
}

/// All listeners of a configuration, that of the operators at the end.
fn faces(state: &Arc<State>) -> Result<Vec<Face>, Error> {
    let listeners = state.config.listeners.iter();
    let edges = listeners.map(|listener| Face::new(listener.clone(), Role::Edge, state));
    let admin = state.config.admin.iter().map(|admin| {
        let settings = Listener { name: "admin".to_owned(), ..Listener::at(admin.address) };
        Face::new(settings, Role::Admin(admin.token.clone()), state)
    });
    Ok(edges.chain(admin).collect::<Result<_, _>>()?)
}

async fn open(face: Face, leaving: &[&Listening]) -> Result<Listening, Error> {
    let (name, address) = (face.settings.name.clone(), face.settings.address);
    let opened = Listening::open(face, leaving).await;
    opened.map_err(|error| format!("error: listener {name}: {address}: {error}").into())
}

fn announce(announce: &Announce) -> Result<Registration, Error> {
    let redis = Redis::builder(&announce.redis).prefix(announce.prefix.as_str()).build()?;
    Ok(redis.register(&announce.service, announce.instance(), announce.ttl)?)
}

async fn withdraw(registration: Registration) {
    if let Err(error) = registration.deregister().await {
        tracing::warn!(%error, "the registry can't be told that this instance ends");
    }
}
