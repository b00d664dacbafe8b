//! How a typed value becomes the bytes that the second tier holds.

mod bounded;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
#[cfg(feature = "postcard")]
use serde::de::DeserializeSeed;

use self::bounded::Bounded;
use crate::error::BoxError;

/// The longest head that a frame may announce: 64 MiB.
pub const MAX_HEAD_LEN: usize = 64 * 1024 * 1024;

/// A value in the form that goes into a frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// What the codec made of the value.
    pub head: Bytes,
    /// Raw bytes that go into the frame as they are, such as the body of a response. A codec of
    /// plain values leaves it empty.
    pub body: Bytes,
}

/// Turns values into bytes and back.
///
/// What [`decode`](Codec::decode) is given came over the network: it must answer anything with a
/// value or an error, in memory proportional to its input.
pub trait Codec<V>: Send + Sync + 'static {
    /// Names the format in every frame. A frame with another number is a miss, so change it when
    /// the format changes. 0 to 63 are the store's own.
    fn id(&self) -> u8;

    /// The bytes of `value`.
    ///
    /// # Errors
    ///
    /// Whatever keeps the value from being encoded. It is then not kept, unless it can be
    /// [weighed](Codec::weighs_encoded) all the same: in that case, in the first tier.
    fn encode(&self, value: &V) -> Result<Encoded, BoxError>;

    /// The value of these bytes.
    ///
    /// # Errors
    ///
    /// Whatever is wrong with them. It is counted, and the lookup is a miss.
    fn decode(&self, encoded: Encoded) -> Result<V, BoxError>;

    /// About how many bytes `value` takes in memory, for the bound of the first tier. `encoded` is
    /// its encoded form. Default: the length of that.
    fn weigh(&self, value: &V, encoded: &Encoded) -> usize {
        let _ = value;
        encoded.head.len() + encoded.body.len()
    }

    /// Whether [`weigh`](Codec::weigh) reads its `encoded`. If not, a store without a second tier
    /// never encodes. Default: yes.
    fn weighs_encoded(&self) -> bool {
        true
    }
}

/// Serde over [bincode](https://docs.rs/bincode/2.0.1) 2, standard configuration: the default.
///
/// It is compact and fast, and not self-describing: a type that changes its fields needs a new
/// space name. Pinned to 2.0.1, the last release that compiles; the format is stable and
/// specified. Values that nest in each other more than 128 deep are never found again in the second
/// tier.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bincode;

impl<V: Serialize + DeserializeOwned> Codec<V> for Bincode {
    fn id(&self) -> u8 {
        1
    }

    fn encode(&self, value: &V) -> Result<Encoded, BoxError> {
        let head = bincode::serde::encode_to_vec(value, bincode::config::standard())?;
        Ok(Encoded { head: head.into(), body: Bytes::new() })
    }

    fn decode(&self, encoded: Encoded) -> Result<V, BoxError> {
        // The limit keeps a length in the bytes from making the decoder reserve more than that.
        let config = bincode::config::standard().with_limit::<MAX_HEAD_LEN>();
        let seed = Bounded::new(encoded.head.len());
        let (value, read) = bincode::serde::seed_decode_from_slice(seed, &encoded.head, config)?;
        whole(read, encoded.head.len())?;
        Ok(value)
    }
}

/// Serde over [postcard](https://docs.rs/postcard) 1: as compact as bincode, with a specified
/// wire format and an active maintainer. The same depth limit holds.
#[derive(Clone, Copy, Debug, Default)]
#[cfg(feature = "postcard")]
pub struct Postcard;

#[cfg(feature = "postcard")]
impl<V: Serialize + DeserializeOwned> Codec<V> for Postcard {
    fn id(&self) -> u8 {
        2
    }

    fn encode(&self, value: &V) -> Result<Encoded, BoxError> {
        Ok(Encoded { head: postcard::to_stdvec(value)?.into(), body: Bytes::new() })
    }

    fn decode(&self, encoded: Encoded) -> Result<V, BoxError> {
        let mut deserializer = postcard::Deserializer::from_bytes(&encoded.head);
        let value = Bounded::new(encoded.head.len()).deserialize(&mut deserializer)?;
        let rest = deserializer.finalize()?;
        whole(encoded.head.len() - rest.len(), encoded.head.len())?;
        Ok(value)
    }
}

/// JSON: larger and slower, but self-describing. Fields can be added or dropped (with serde's
/// defaults) without a miss, and `redis-cli` shows them.
#[derive(Clone, Copy, Debug, Default)]
#[cfg(feature = "json")]
pub struct Json;

#[cfg(feature = "json")]
impl<V: Serialize + DeserializeOwned> Codec<V> for Json {
    fn id(&self) -> u8 {
        3
    }

    fn encode(&self, value: &V) -> Result<Encoded, BoxError> {
        Ok(Encoded { head: serde_json::to_vec(value)?.into(), body: Bytes::new() })
    }

    fn decode(&self, encoded: Encoded) -> Result<V, BoxError> {
        Ok(serde_json::from_slice(&encoded.head)?)
    }
}

fn whole(read: usize, len: usize) -> Result<(), BoxError> {
    if read == len { Ok(()) } else { Err("bytes are left over after the value".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Sample {
        id: u64,
        name: String,
        parts: Vec<Option<(i32, String)>>,
    }

    prop_compose! {
        fn sample()(id: u64, name: String, parts: Vec<Option<(i32, String)>>) -> Sample {
            Sample { id, name, parts }
        }
    }

    fn round_trip(codec: &impl Codec<Sample>, value: &Sample) {
        let encoded = codec.encode(value).unwrap();
        assert_eq!(&codec.decode(encoded).unwrap(), value);
    }

    fn survives(codec: &impl Codec<Sample>, head: Vec<u8>) {
        let _ = codec.decode(Encoded { head: head.into(), body: Bytes::new() });
    }

    proptest! {
        #[test]
        fn every_codec_returns_what_it_was_given(value in sample()) {
                        round_trip(&Bincode, &value);
            #[cfg(feature = "postcard")]
            round_trip(&Postcard, &value);
            #[cfg(feature = "json")]
            round_trip(&Json, &value);
        }

        #[test]
        fn no_bytes_make_a_codec_panic(head: Vec<u8>) {
                        survives(&Bincode, head.clone());
            #[cfg(feature = "postcard")]
            survives(&Postcard, head.clone());
            #[cfg(feature = "json")]
            survives(&Json, head);
        }
    }

    #[test]
    fn a_length_that_lies_does_not_allocate() {
        // A name of 2^62 bytes, by its own account.
        let mut head = vec![1, 253];
        head.extend((1u64 << 62).to_le_bytes());
        survives(&Bincode, head);
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Tree {
        Leaf,
        Boxed(Box<Tree>),
        Parts { parts: Vec<Tree>, rest: Option<Box<Tree>> },
    }

    fn chain(links: usize) -> Tree {
        (0..links).fold(Tree::Leaf, |tree, _| Tree::Boxed(Box::new(tree)))
    }

    fn is_bounded(codec: &(impl Codec<Tree> + Codec<Vec<()>>), endless: Vec<u8>) {
        let parts = vec![chain(3), Tree::Leaf, chain(20)];
        let tree = Tree::Parts { parts, rest: Some(Box::new(chain(5))) };
        let encoded = codec.encode(&tree).unwrap();
        assert_eq!(Codec::<Tree>::decode(codec, encoded).unwrap(), tree);

        let deep = Encoded { head: vec![1; 1_000_000].into(), body: Bytes::new() };
        let error = Codec::<Tree>::decode(codec, deep).unwrap_err();
        assert!(!error.to_string().is_empty());

        let units = codec.encode(&vec![(); 1000]).unwrap();
        assert_eq!(Codec::<Vec<()>>::decode(codec, units).unwrap().len(), 1000);
        let endless = Encoded { head: endless.into(), body: Bytes::new() };
        assert!(Codec::<Vec<()>>::decode(codec, endless).is_err());
    }

    #[test]
    fn what_nests_without_end_or_counts_without_end_is_refused() {
        let length = (1u64 << 62).to_le_bytes();
        is_bounded(&Bincode, [&[253][..], &length].concat());
        #[cfg(feature = "postcard")]
        is_bounded(&Postcard, [&[0x80; 8][..], &[0x40]].concat());
    }
}
