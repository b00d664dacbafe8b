//! Which forms a stored response may have.

use std::ops::Deref;
use std::sync::OnceLock;

use http::HeaderMap;
use tower_keep_compress::{Offer, ResponseHead};

use super::Forms;
use crate::stored::StoredResponse;

/// Which forms a response may have, and its head in the plain one, which says that there are others.
#[derive(Clone, Debug)]
pub(crate) struct Offered {
    pub(super) offer: Offer,
    pub(super) head: HeaderMap,
}

/// What is remembered of it in the response: by the settings of the first layer that asked. Others, over the
/// same entries or with other settings since, have their own view.
#[derive(Clone, Debug, Default)]
pub(crate) struct Remembered(OnceLock<(u64, Option<Box<Offered>>)>);

/// What was remembered, or was not.
#[derive(Debug)]
pub(super) enum Known<'a> {
    Remembered(&'a Offered),
    Anew(Box<Offered>),
}

impl Deref for Known<'_> {
    type Target = Offered;

    #[inline]
    fn deref(&self) -> &Offered {
        match self {
            Self::Remembered(offered) => offered,
            Self::Anew(offered) => offered,
        }
    }
}

impl Forms {
    /// The forms that a stored response may have; none, if it is sent as it is to everybody.
    #[inline]
    pub(super) fn offered<'a>(&self, stored: &'a StoredResponse) -> Option<Known<'a>> {
        let (by, offered) = stored.offered.0.get_or_init(|| (self.id, self.offer(stored)));
        if *by == self.id {
            return offered.as_deref().map(Known::Remembered);
        }
        self.offer(stored).map(Known::Anew)
    }

    #[cold]
    fn offer(&self, stored: &StoredResponse) -> Option<Box<Offered>> {
        if stored.plain_only || stored.part.is_some() {
            return None;
        }
        let extensions = http::Extensions::new();
        let head = ResponseHead::new(stored.status, &stored.headers, &extensions);
        let offer = self.policy.offer(&head, stored.body.len() as u64).ok()?;
        let mut head = stored.headers.clone();
        self.policy.add_vary(&mut head);
        Some(Box::new(Offered { offer, head }))
    }
}
