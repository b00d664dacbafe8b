//! What of a request makes its key: the setting.

use http::HeaderName;

use super::Target;
use super::part::Part;
use super::query::{Params, Pattern, QueryRule};
use crate::error::ConfigError;
use crate::head::RequestHead;

/// The longest name of a cookie or of a part, in bytes.
const MAX_NAME: usize = 128;

/// Which parts of a request tell its response from others: the primary key (RFC 9111 §2).
///
/// | setting | default |
/// | --- | --- |
/// | [`keep_params`](Self::keep_params), [`ignore_params`](Self::ignore_params), [`ignore_query`](Self::ignore_query) | the whole query counts, byte for byte |
/// | [`sort_params`](Self::sort_params) | no |
/// | [`ignore_host`](Self::ignore_host), [`ignore_scheme`](Self::ignore_scheme) | no |
/// | [`header`](Self::header), [`cookie`](Self::cookie), [`part`](Self::part), [`identity`](Self::identity) | none |
///
/// ```
/// use bytes::Bytes;
/// use http::HeaderName;
/// use tower_keep_cache::{CacheLayer, KeyPolicy};
/// use tower_keep_store::{L1, Store};
///
/// /// What a layer outside leaves in the extensions of a request.
/// #[derive(Clone)]
/// struct Tenant(Bytes);
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let keep = Store::builder().l1(L1::bytes(64 * 1024 * 1024)).build()?;
/// let key = KeyPolicy::new()
///     .ignore_params(["utm_*", "fbclid"])
///     .sort_params()
///     .header(HeaderName::from_static("x-country"))
///     .cookie("theme")
///     .part("tenant", |head| head.extensions().get::<Tenant>().map(|tenant| tenant.0.clone()));
/// let cache = CacheLayer::builder(keep).key(key).build()?;
/// # let _ = cache;
/// # Ok(())
/// # }
/// ```
///
/// # What is left out of the key
///
/// It still reaches the origin. If the origin reflects it in its response (a `utm_source` in a link,
/// the host in a redirect), then whoever asks first chooses what everybody else gets. So leave out
/// what the origin doesn't read, and nothing else; no cache can tell the difference.
///
/// A parameter is left out only where that can be told from its bytes. One whose name is encoded in
/// part (`%75tm_source`, `utm+source`), or with a `;` in it, by which some frameworks divide a query,
/// is always a part of the key: the origin may read it as something else.
///
/// # Invalidation
///
/// A request with an unsafe method drops what is stored of its target, whatever the parts added here
/// were: with any of them, every stored response carries a tag of its resource, which counts neither
/// against the 64 of the handler nor can be named in one of its fields. With a second tier that is a
/// small key more for each resource.
///
/// Layers that share a [`space`](crate::CacheLayerBuilder::space) need the same policy, or the one
/// doesn't drop what the other has stored.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct KeyPolicy {
    query: QueryRule,
    any_host: bool,
    any_scheme: bool,
    parts: Vec<Part>,
}

impl KeyPolicy {
    /// The key that a layer has without a policy: the scheme where the request names it, the host,
    /// the path and the query.
    pub fn new() -> Self {
        Self::default()
    }

    /// Of the query, only these parameters count. A name may end in `*`, and is then what names begin
    /// with.
    ///
    /// So do those that a framework might take for one of them: `Q`, `q[]` and `q.x` where `q` is
    /// kept, and every one whose name can't be compared byte for byte.
    ///
    /// Of this, [`ignore_params`](Self::ignore_params) and [`ignore_query`](Self::ignore_query), the
    /// last one holds.
    pub fn keep_params(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.query.params = Params::Only(patterns(names));
        self
    }

    /// Of the query, these parameters don't count. A name may end in `*`, and is then what names
    /// begin with: `utm_*`. They still reach the origin, which must not reflect them
    /// ([why](#what-is-left-out-of-the-key)).
    pub fn ignore_params(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.query.params = Params::Except(patterns(names));
        self
    }

    /// The query doesn't count at all. For files, whose server reads none.
    pub fn ignore_query(mut self) -> Self {
        self.query.params = Params::None;
        self
    }

    /// The order in which parameters of different names come doesn't count.
    ///
    /// Those of the same name keep their order, since `a=1&a=2` and `a=2&a=1` are different lists to
    /// most frameworks, and different values to those that take the first or the last. So do those
    /// whose names a framework might take for one (`a`, `A`, `a[]`). Where a name is encoded in part,
    /// or has other characters than letters, digits, `_`, `-` and brackets, nothing is sorted.
    pub fn sort_params(mut self) -> Self {
        self.query.sorted = true;
        self
    }

    /// The host doesn't count: for a service that answers the same on all of its names. A request
    /// whose host is ambiguous is still not looked up.
    pub fn ignore_host(mut self) -> Self {
        self.any_host = true;
        self
    }

    /// The scheme doesn't count: for a service that answers the same by `http` and `https`. One that
    /// redirects from the one to the other would answer with a redirect to where the client is.
    pub fn ignore_scheme(mut self) -> Self {
        self.any_scheme = true;
        self
    }

    /// This field of the request counts, as if every response said so in `Vary`, and normalised in
    /// the same way. A request without it differs from one where it is empty.
    ///
    /// It is for what the origin reads and doesn't name in `Vary`: the country that a CDN adds, or
    /// `X-Forwarded-Host` behind a proxy that serves several sites under one `Host`.
    pub fn header(mut self, name: HeaderName) -> Self {
        self.parts.push(Part::Header(name));
        self
    }

    /// This cookie of the request counts (RFC 6265 §5.4), and no other: `Vary: Cookie` would tell
    /// apart all of them. If it is there several times, all of its values count, in order. A request
    /// without it differs from one where it is empty.
    ///
    /// This alone doesn't make it permissible to store the response to a request with cookies; it
    /// still has to say `public` or `s-maxage`. Where a cookie says who somebody is, use
    /// [`identity`](Self::identity).
    pub fn cookie(mut self, name: impl Into<String>) -> Self {
        self.parts.push(Part::Cookie(name.into()));
        self
    }

    /// What a function yields counts, under a name of your choice: an extension of the request, a
    /// claim of a verified token, a device class. A request for which it yields nothing differs from
    /// one for which it yields nothing in particular (an empty value).
    ///
    /// It is called for every request that is looked up, hits too, so let it be quick: to clone a
    /// `Bytes` costs less than to clone a `String`. It must depend on the request alone.
    pub fn part<T: AsRef<[u8]>>(
        mut self,
        name: impl Into<String>,
        derive: impl Fn(&RequestHead<'_>) -> Option<T> + Send + Sync + 'static,
    ) -> Self {
        self.parts.push(Part::derived(name.into(), false, derive));
        self
    }

    /// As [`part`](Self::part), with a promise: no two users ever yield the same value, unless they
    /// may see each other's responses.
    ///
    /// Then the key tells users apart. A response to a request with `Authorization` or `Cookie` may
    /// be stored although it says neither `public` nor `s-maxage`, and is only ever used for requests
    /// that yield the same. One that says `private` is still not stored in a shared cache. For a
    /// request for which the function yields nothing, or an empty value, everything is as without it.
    ///
    /// So it must yield what was verified, such as the subject of a token whose signature a layer
    /// outside has checked. A field that clients can write themselves would let them read each
    /// other's responses.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use tower_keep_cache::KeyPolicy;
    ///
    /// /// What the authentication layer leaves in the extensions of a request.
    /// #[derive(Clone)]
    /// struct Subject(Bytes);
    ///
    /// let key = KeyPolicy::new()
    ///     .identity("sub", |head| head.extensions().get::<Subject>().map(|sub| sub.0.clone()));
    /// # let _ = key;
    /// ```
    pub fn identity<T: AsRef<[u8]>>(
        mut self,
        name: impl Into<String>,
        derive: impl Fn(&RequestHead<'_>) -> Option<T> + Send + Sync + 'static,
    ) -> Self {
        self.parts.push(Part::derived(name.into(), true, derive));
        self
    }

    /// Whether the settings can work.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        self.query.check()?;
        self.parts.iter().try_for_each(|part| {
            let (what, name) = match part {
                Part::Header(_) => return Ok(()),
                Part::Cookie(name) => ("a cookie", name),
                Part::Derived { name, .. } => ("a part of the key", name),
            };
            // What divides the parts of a key, and the pairs of a field.
            let fits = |byte: u8| byte.is_ascii_graphic() && !b"=;,\"".contains(&byte);
            if !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(fits) {
                return Ok(());
            }
            Err(ConfigError::new(format!(
                "`{}` can't be the name of {what}: it has to be 1 to {MAX_NAME} visible ASCII \
                 characters, without `=`, `;`, `,` and quotes",
                name.escape_debug()
            )))
        })
    }

    /// Whether a key has parts that the target doesn't tell.
    pub(crate) fn has_parts(&self) -> bool {
        !self.parts.is_empty()
    }

    /// Whether the field is a part of every key.
    pub(crate) fn names(&self, field: &HeaderName) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Header(name) if name == field))
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Whether all schemes have the same key.
    pub(crate) fn is_for_any_host(&self) -> bool {
        self.any_host
    }

    /// Runs `read` on what counts of a target.
    pub(super) fn narrow<T>(&self, target: &Target<'_>, read: impl FnOnce(&Target<'_>) -> T) -> T {
        let query = target.query.and_then(|query| self.query.apply(query));
        let sent = target.sent.map(|sent| match sent.split_once('?') {
            Some((path, query)) => match self.query.apply(query) {
                Some(query) => format!("{path}?{query}"),
                None => path.to_owned(),
            },
            None => sent.to_owned(),
        });
        read(&Target {
            scheme: target.scheme.filter(|_| !self.any_scheme),
            host: if self.any_host { b"" } else { target.host },
            path: target.path,
            query: query.as_deref(),
            sent: sent.as_deref(),
        })
    }
}

fn patterns(names: impl IntoIterator<Item = impl Into<String>>) -> Vec<Pattern> {
    names.into_iter().map(|name| Pattern::new(name.into())).collect()
}
