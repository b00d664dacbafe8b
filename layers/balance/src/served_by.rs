//! Which backend a request has reached, for those who log it.

use std::sync::{Arc, Mutex, PoisonError};

/// The name of the backend that has answered a request, or failed it, last.
///
/// Whoever wants to know puts one into the request's extensions, and keeps a clone: `Balance::http`
/// writes down whom it has asked. In front of a cache, that is nobody for what is stored.
///
/// ```
/// use tower_keep_balance::ServedBy;
///
/// let served_by = ServedBy::default();
/// let mut request = http::Request::new(());
/// request.extensions_mut().insert(served_by.clone());
/// // … call the service, and then:
/// assert_eq!(served_by.name(), None);
/// ```
#[derive(Clone, Debug, Default)]
pub struct ServedBy(Arc<Mutex<Option<Arc<str>>>>);

impl ServedBy {
    /// The backend's name, if one was asked.
    pub fn name(&self) -> Option<Arc<str>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, name: Arc<str>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(name);
    }
}
