//! Lists of backends that a pool is to have: what comes, stays and goes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{Pool, remove};
use crate::backend::Backend;
use crate::table::Entry;

/// One that is to be a backend.
#[derive(Debug)]
pub(crate) enum Listed<T> {
    /// The one of this name stays as it is.
    Keep(Arc<str>),
    /// One of the same name stays, and takes the settings over.
    Set(Backend<T>),
    /// One of the same name is removed: what it counted stays with it.
    Anew(Backend<T>),
}

impl<T> Listed<T> {
    fn name(&self) -> &Arc<str> {
        match self {
            Self::Keep(name) => name,
            Self::Set(backend) | Self::Anew(backend) => &backend.name,
        }
    }

    /// That of a newcomer.
    fn weight(&self) -> u16 {
        match self {
            Self::Keep(_) => 0,
            Self::Set(backend) | Self::Anew(backend) => backend.settings.weight,
        }
    }
}

impl<T> Pool<T> {
    /// Makes these the backends, in one step.
    pub(crate) fn list(&self, listed: Vec<Listed<T>>) {
        self.0.change(|roster| {
            let mut names = HashSet::new();
            let known = roster.entries.iter().enumerate();
            let known = known.map(|(at, entry)| (Arc::clone(&entry.member.name), at));
            let mut known: HashMap<_, _> = known.collect();
            let listed = listed.into_iter().filter(|one| names.insert(Arc::clone(one.name())));
            let mut listed: Vec<_> = listed.enumerate().collect();
            // Newcomers of one weight sit side by side, where it takes less to compare them.
            listed.sort_by_key(|(_, one)| one.weight());
            let mut entries = Vec::with_capacity(listed.len());
            for (place, one) in listed {
                // One that is made anew isn't taken out of those that are known, so it goes.
                let mut stays = |name| known.remove(name).and_then(|at| roster.entries.get(at));
                let entry = match one {
                    Listed::Keep(name) => match stays(&name) {
                        Some(entry) => entry.clone(),
                        None => continue,
                    },
                    Listed::Set(backend) => match stays(&backend.name) {
                        Some(entry) => Entry { settings: backend.settings, ..entry.clone() },
                        None => self.0.entry(roster, backend),
                    },
                    Listed::Anew(backend) => self.0.entry(roster, backend),
                };
                entries.push((place, entry));
            }
            entries.sort_by_key(|(place, _)| *place);
            let entries = entries.into_iter().map(|(_, entry)| entry).collect();
            let before = std::mem::replace(&mut roster.entries, entries);
            for (_, at) in known {
                if let Some(entry) = before.get(at) {
                    remove(roster, &entry.member);
                }
            }
        });
    }

    /// The names of the backends.
    pub(crate) fn names(&self) -> HashSet<Arc<str>> {
        self.0.lock().entries.iter().map(|entry| Arc::clone(&entry.member.name)).collect()
    }
}
