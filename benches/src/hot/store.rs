//! Typed values, in the first tier.

use std::convert::Infallible;
use std::hint::black_box;
use std::rc::Rc;

use futures_util::FutureExt;
use tokio::runtime::Runtime;
use tower_keep::store::{L1, Store, Ttl, Typed};

use super::{ENTRIES, below};
use crate::{Way, With};

pub(super) fn store() -> Store {
    Store::builder().l1(L1::bytes(256 << 20)).build().unwrap()
}

type Users = Typed<u64, String>;

fn users(runtime: &Runtime, store: &Store) -> Users {
    let users = store.typed("user");
    runtime.block_on(async {
        for id in 0..ENTRIES {
            users.set(&id, "Ada".into(), Ttl::secs(3600).tags(["users"])).await.unwrap();
        }
    });
    users
}

pub(super) fn hit(runtime: &Rc<Runtime>) -> Box<dyn Way> {
    gets(users(runtime, &store()), 0, true)
}

pub(super) fn miss(runtime: &Rc<Runtime>) -> Box<dyn Way> {
    gets(users(runtime, &store()), ENTRIES, false)
}

fn gets(users: Users, from: u64, are_there: bool) -> Box<dyn Way> {
    let mut next = below(ENTRIES);
    let run = move |id| {
        let user = black_box(users.get(&id).now_or_never().unwrap());
        assert_eq!(user.is_some(), are_there);
    };
    Box::new(With { prepare: move || from + next(), run })
}

pub(super) fn fill_hit(runtime: &Rc<Runtime>) -> Box<dyn Way> {
    let users = users(runtime, &store());
    let run = move |id| {
        drop(black_box(users.get_or_try_set(&id, Ttl::secs(3600), fill).now_or_never().unwrap()));
    };
    Box::new(With { prepare: below(ENTRIES), run })
}

pub(super) fn fill_miss(runtime: &Rc<Runtime>) -> Box<dyn Way> {
    let users = users(runtime, &store());
    let mut next = ENTRIES..;
    let runtime = Rc::clone(runtime);
    let run = move |id| {
        let user = runtime.block_on(users.get_or_try_set(&id, Ttl::secs(3600), fill));
        drop(black_box(user));
    };
    Box::new(With { prepare: move || next.next().unwrap(), run })
}

async fn fill() -> Result<String, Infallible> {
    Ok("Ada".to_owned())
}

pub(super) fn invalidate(runtime: &Rc<Runtime>) -> Box<dyn Way> {
    let store = store();
    let users = users(runtime, &store);
    let run = move |()| {
        black_box(&users);
        store.invalidate_tag("users").now_or_never().unwrap().unwrap();
    };
    Box::new(With { prepare: || (), run })
}
