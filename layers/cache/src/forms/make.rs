//! Making a form.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_blocking;
use tower_keep_compress::{
    EncodeError, Encoding, Limits, content_encodings, decode_all, encode_all,
};
use tower_keep_store::{Hit, Join, KeyBuf, Lead, Lifetime, Tag};
use tracing::Instrument;

use super::{Coding, Digest, Form, Forms, digest};
use crate::core::Core;
use crate::stored::{Stored, StoredResponse};

/// How much longer than the response its form is kept: it will do for what is the same.
const SPARE: Duration = Duration::from_secs(3600);

/// How a flight of a form lands: the form.
pub(crate) type Made = Arc<Stored>;

/// A form that is to be made.
pub(super) struct Order {
    /// The response, and its key.
    pub(super) hit: Hit<Stored>,
    pub(super) key: KeyBuf,
    pub(super) coding: Coding,
    pub(super) is_dense: bool,
}

/// Makes a form behind the client's back, unless enough others are being made. Whether it is being made
/// now.
#[cold]
pub(super) fn start(core: &Arc<Core>, order: Order) -> bool {
    let Some(forms) = &core.settings.forms else { return false };
    let Some(place) = forms.place(&order.coding, order.is_dense) else { return false };
    let at = order.coding.key(&order.key);
    let key = core.space.key(&at);
    let Join::Lead(lead, _) = core.forms.join(key, || core.space.begin(&[key])) else {
        return false;
    };
    spawn(core, lead, order, Some(place));
    true
}

/// Makes a form, or finds it, in a task of its own, which keeps its place as long. `lead` is that of the
/// flight at its key.
pub(super) fn spawn(
    core: &Arc<Core>,
    lead: Lead<Made>,
    order: Order,
    place: Option<OwnedSemaphorePermit>,
) {
    let Ok(runtime) = Handle::try_current() else { return };
    let core = Arc::clone(core);
    let task = async move {
        make(&core, &lead, &order, place).await;
    };
    runtime.spawn(task.in_current_span());
}

async fn make(
    core: &Arc<Core>,
    lead: &Lead<Made>,
    order: &Order,
    place: Option<OwnedSemaphorePermit>,
) -> Option<()> {
    let Order { hit, coding, is_dense, .. } = order;
    let is_dense = *is_dense;
    let forms = core.settings.forms.as_ref()?;
    let stored = hit.response()?;
    let of = known_digest(stored).await?;
    let suits = |found: &Hit<Stored>| {
        let form = found.form();
        form.is_some_and(|form| form.suits(coding, &of) && (form.is_dense || !is_dense))
    };
    let space = &core.space;
    let key = lead.key().to_key();
    if let Some(found) = space.glance(key.as_ref(), core.now()).filter(suits) {
        lead.land(found.into_value());
        return Some(());
    }
    // Another node may have made it.
    let (found, seen) = space.fetch(lead.ticket(), key.as_ref()).await;
    if let Some(found) = found.filter(suits) {
        lead.land(found.into_value());
        return Some(());
    }
    let mut form = forms.form(core.settings.max_body, stored, of, coding, is_dense).await?;
    // Others have their turn while this one is stored.
    drop(place);
    if coding.is_delta() && !is_worth_it_beside(core, order, &of, &form) {
        form.content = None;
    }
    let keep_until = hit.lifetime().keep_until.saturating_add(SPARE);
    let lifetime = Lifetime {
        stored_at: core.now(),
        fresh_until: keep_until,
        refresh_until: keep_until,
        keep_until,
    };
    let tags: Vec<Tag> = hit.all_tags().cloned().collect();
    let form = Arc::new(Stored::Form(form));
    // First: who waits for it doesn't wait for the second tier, and has it also where it isn't kept, as when
    // the response was invalidated meanwhile.
    lead.land(Arc::clone(&form));
    space.commit(lead.ticket(), key.as_ref(), form, lifetime, &tags, seen).await;
    Some(())
}

/// Whether a difference saves at least a tenth of what is sent without a dictionary.
fn is_worth_it_beside(core: &Core, order: &Order, of: &Digest, form: &Form) -> bool {
    let len = form.content.as_ref().map_or(0, Bytes::len);
    Encoding::enabled().map(Coding::Encoded).all(|coding| {
        let at = coding.key(&order.key);
        let there = core.space.glance(core.space.key(&at), core.now());
        let other = there.as_deref().and_then(Stored::form).filter(|it| it.suits(&coding, of));
        other.and_then(|it| it.content.as_ref()).is_none_or(|other| len <= other.len() / 10 * 9)
    })
}

/// The digest of the content.
pub(super) async fn known_digest(stored: &StoredResponse) -> Option<Digest> {
    if let Some(of) = stored.digest.get() {
        return Some(*of);
    }
    let body = stored.body.clone();
    let of = spawn_blocking(move || digest(&body)).await.ok()?;
    Some(*stored.digest.get_or_init(|| of))
}

impl Forms {
    fn level(&self, encoding: Encoding, is_dense: bool) -> i32 {
        if is_dense { self.dense.of(encoding) } else { self.policy.level(encoding) }
    }

    async fn form(
        &self,
        max_body: usize,
        stored: &StoredResponse,
        of: Digest,
        coding: &Coding,
        is_dense: bool,
    ) -> Option<Form> {
        let body = stored.body.clone();
        let plain_len = body.len();
        let content = match coding {
            Coding::Encoded(encoding) => {
                let (encoding, level) = (*encoding, self.level(*encoding, is_dense));
                let made = move || encode_all(&body, encoding, level);
                Some(self.in_turn(coding, is_dense, made).await?)
            }
            #[cfg(feature = "dictionary")]
            Coding::Delta(delta) => {
                let level = self.level(delta.coding().base(), is_dense);
                let delta = delta.clone();
                let made = move || tower_keep_compress::encode_delta(&body, &delta, level);
                Some(self.in_turn(coding, is_dense, made).await?)
            }
            // What can't be decoded now can't be later.
            Coding::Plain => self.decoded(&stored.headers, body, max_body).await,
        };
        // What saves less than a tenth is not worth a client's time.
        let is_worth_it = |content: &Bytes| {
            matches!(coding, Coding::Plain) || content.len() <= plain_len / 10 * 9
        };
        let content = content.filter(is_worth_it);
        Some(Form::new(coding.letter(), of, is_dense, content))
    }

    /// What an encoder makes on a thread for blocking work, in the turn of such forms.
    async fn in_turn(
        &self,
        coding: &Coding,
        is_dense: bool,
        encode: impl FnOnce() -> Result<Vec<u8>, EncodeError> + Send + 'static,
    ) -> Option<Bytes> {
        let made = with(self.turn(coding, is_dense).await?, encode).await?;
        made.inspect_err(|error| tracing::warn!(%error, "no form made")).ok().map(Bytes::from)
    }

    /// The plain form of `body`, whose codings the head tells; none if it can't be decoded, or is longer
    /// than `max_body`. A few at a time are decoded.
    pub(super) async fn decoded(
        &self,
        head: &HeaderMap,
        body: Bytes,
        max_body: usize,
    ) -> Option<Bytes> {
        let encodings = content_encodings(head).ok()?;
        let limits = Limits::none().max_len(max_body as u64);
        let permit = Arc::clone(&self.decoding).acquire_owned().await.ok()?;
        let decoded = with(permit, move || decode_all(&body, &encodings, limits)).await?;
        Some(decoded.inspect_err(|error| tracing::debug!(%error, "not decoded")).ok()?.into())
    }
}

/// Does `work` on a thread for blocking work, which keeps the permit until it is done, though the client
/// may be gone.
async fn with<T: Send + 'static>(
    permit: OwnedSemaphorePermit,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let done = spawn_blocking(move || {
        let done = work();
        drop(permit);
        done
    });
    done.await.ok()
}
