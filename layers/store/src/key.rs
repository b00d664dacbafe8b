//! Keys: how values of a type become bytes, and bytes become what the tiers look up.

use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock};

use equivalent::Equivalent;

/// The longest key, in bytes, that the store accepts. A longer one is answered as never stored.
pub const MAX_KEY_LEN: usize = 16 * 1024;

/// How long a key is that needs no allocation while it is put together.
const INLINE: usize = 192;

/// A buffer in which a key is put together, without an allocation for keys of common lengths.
#[derive(Clone)]
pub struct KeyBuf {
    /// How much of `inline` is the key, unless that is in `heap`.
    len: usize,
    inline: [u8; INLINE],
    heap: Vec<u8>,
}

impl Default for KeyBuf {
    #[inline]
    fn default() -> Self {
        Self { len: 0, inline: [0; INLINE], heap: Vec::new() }
    }
}

impl KeyBuf {
    /// An empty buffer.
    #[inline]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends `bytes` as they are.
    #[inline]
    pub fn push(&mut self, bytes: &[u8]) {
        let end = self.len.saturating_add(bytes.len());
        match self.inline.get_mut(self.len..end) {
            Some(place) if self.heap.is_empty() => {
                place.copy_from_slice(bytes);
                self.len = end;
            }
            _ => self.push_to_heap(bytes),
        }
    }

    #[cold]
    fn push_to_heap(&mut self, bytes: &[u8]) {
        if self.heap.is_empty() {
            self.heap.extend_from_slice(self.inline.get(..self.len).unwrap_or_default());
        }
        self.heap.extend_from_slice(bytes);
    }

    /// The bytes so far.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        if self.heap.is_empty() {
            self.inline.get(..self.len).unwrap_or_default()
        } else {
            &self.heap
        }
    }
}

impl fmt::Debug for KeyBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyBuf").field(&self.as_bytes().escape_ascii().to_string()).finish()
    }
}

impl fmt::Write for KeyBuf {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

/// A type whose values name entries.
///
/// Two different values of one type must write different bytes. The forms written here are
/// readable, so that an operator who looks into Redis sees `user:123`, not an opaque digest.
///
/// ```
/// use tower_keep_store::{KeyBuf, ToKey};
///
/// let mut buf = KeyBuf::new();
/// ("tenant:7", 42u64).write_key(&mut buf);
/// assert_eq!(buf.as_bytes(), br"tenant\:7:42");
/// ```
pub trait ToKey {
    /// Appends the bytes that stand for this value.
    fn write_key(&self, out: &mut KeyBuf);
}

impl<T: ToKey + ?Sized> ToKey for &T {
    fn write_key(&self, out: &mut KeyBuf) {
        (**self).write_key(out);
    }
}

impl ToKey for str {
    fn write_key(&self, out: &mut KeyBuf) {
        self.as_bytes().write_key(out);
    }
}

impl ToKey for String {
    fn write_key(&self, out: &mut KeyBuf) {
        self.as_bytes().write_key(out);
    }
}

impl ToKey for [u8] {
    fn write_key(&self, out: &mut KeyBuf) {
        // `:` divides the parts of a tuple, so inside a part it is escaped; otherwise
        // ("a:b", "c") and ("a", "b:c") would share an entry.
        for run in self.split_inclusive(|b| matches!(b, b':' | b'\\')) {
            match run.split_last() {
                Some((&last @ (b':' | b'\\'), rest)) => {
                    out.push(rest);
                    out.push(&[b'\\', last]);
                }
                _ => out.push(run),
            }
        }
    }
}

impl ToKey for Vec<u8> {
    fn write_key(&self, out: &mut KeyBuf) {
        self.as_slice().write_key(out);
    }
}

impl ToKey for () {
    fn write_key(&self, _: &mut KeyBuf) {}
}

macro_rules! display_to_key {
    ($($ty:ty),*) => {$(
        impl ToKey for $ty {
            fn write_key(&self, out: &mut KeyBuf) {
                use fmt::Write as _;
                // Writing to a buffer in memory cannot fail.
                let _ = write!(out, "{self}");
            }
        }
    )*};
}
display_to_key!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, bool);

impl ToKey for char {
    fn write_key(&self, out: &mut KeyBuf) {
        self.encode_utf8(&mut [0; 4]).write_key(out);
    }
}

macro_rules! tuple_to_key {
    ($first:ident $(, $rest:ident)+) => {
        impl<$first: ToKey, $($rest: ToKey),+> ToKey for ($first, $($rest),+) {
            #[allow(non_snake_case, reason = "the type parameters name the parts")]
            fn write_key(&self, out: &mut KeyBuf) {
                let ($first, $($rest),+) = self;
                $first.write_key(out);
                $(out.push(b":"); $rest.write_key(out);)+
            }
        }
    };
}
tuple_to_key!(A, B);
tuple_to_key!(A, B, C);
tuple_to_key!(A, B, C, D);

/// A key as the tiers hold it: the bytes, and their hash, computed once.
#[derive(Clone, Debug)]
pub struct Key {
    hash: u64,
    bytes: Arc<[u8]>,
}

/// A [`Key`] that is only borrowed: what a lookup needs, without an allocation.
#[derive(Clone, Copy, Debug)]
pub struct KeyRef<'a> {
    hash: u64,
    bytes: &'a [u8],
}

impl<'a> KeyRef<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        // Seeded at random for each process, so that nobody outside can aim collisions at it.
        static STATE: OnceLock<foldhash::quality::RandomState> = OnceLock::new();
        let hash = STATE.get_or_init(Default::default).hash_one(bytes);
        Self { hash, bytes }
    }

    pub(crate) fn hash(self) -> u64 {
        self.hash
    }

    /// The whole key, its space included.
    pub fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// The same key, owned.
    pub fn to_key(self) -> Key {
        Key { hash: self.hash, bytes: Arc::from(self.bytes) }
    }

    pub(crate) fn fits(self) -> bool {
        self.bytes.len() <= MAX_KEY_LEN
    }
}

impl Key {
    /// The same key, borrowed.
    pub fn as_ref(&self) -> KeyRef<'_> {
        KeyRef { hash: self.hash, bytes: &self.bytes }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.bytes == other.bytes
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Hash for KeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.hash == key.hash && *self.bytes == *key.bytes
    }
}

/// Hands a key's own hash through, so that no map hashes it a second time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Prehashed(u64);

impl Hasher for Prehashed {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl BuildHasher for Prehashed {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes_of(key: &impl ToKey) -> Vec<u8> {
        let mut buf = KeyBuf::new();
        key.write_key(&mut buf);
        buf.as_bytes().to_vec()
    }

    proptest! {
        #[test]
        fn different_tuples_write_different_bytes(
            a in (r"[a:\\]{0,4}", r"[a:\\]{0,4}", any::<u8>()),
            b in (r"[a:\\]{0,4}", r"[a:\\]{0,4}", any::<u8>()),
        ) {
            prop_assert_eq!(a == b, bytes_of(&a) == bytes_of(&b));
        }

        #[test]
        fn a_buffer_holds_what_was_pushed(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..120), 0..6)) {
            let mut buf = KeyBuf::new();
            for (at, part) in parts.iter().enumerate() {
                buf.push(part);
                prop_assert_eq!(buf.as_bytes(), parts[..=at].concat());
                let copy = buf.clone();
                prop_assert_eq!(copy.as_bytes(), buf.as_bytes());
            }
        }

        #[test]
        fn borrowed_and_owned_agree(bytes: Vec<u8>, other: Vec<u8>) {
            let (key, other) = (KeyRef::new(&bytes), KeyRef::new(&other));
            prop_assert!(key.equivalent(&key.to_key()));
            prop_assert_eq!(key.as_bytes() == other.as_bytes(), other.equivalent(&key.to_key()));
        }
    }
}
