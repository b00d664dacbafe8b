//! `Accept-Encoding`: what a client can read (RFC 9110 §12.5.3).

mod memo;

use http::header::ACCEPT_ENCODING;
use http::{HeaderMap, HeaderValue};

#[cfg(feature = "dictionary")]
use crate::dictionary::DictionaryCoding;
use crate::encoding::Encoding;
use crate::field::{Members, trim};

/// How much a client wants something, in thousandths (RFC 9110 §12.4.2): 0 is not at all, 1000 the
/// most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u16);

impl Weight {
    /// Not acceptable.
    pub const REFUSED: Self = Self(0);
    /// The greatest, which is also meant where none is given.
    pub const FULL: Self = Self(1000);

    /// Thousandths, from 0 to 1000.
    pub const fn thousandths(self) -> u16 {
        self.0
    }

    /// Whether it is more than 0.
    pub const fn accepts(self) -> bool {
        self.0 > 0
    }

    /// Reads `q=0.5`: at most three digits, and at most 1.
    fn parse(parameter: &[u8]) -> Option<Self> {
        let [b'q' | b'Q', b'=', whole @ (b'0' | b'1'), rest @ ..] = parameter else { return None };
        let digits = match rest {
            [] => &[][..],
            [b'.', digits @ ..] if digits.len() <= 3 => digits,
            _ => return None,
        };
        let mut value = u16::from(whole - b'0') * 1000;
        for (digit, unit) in digits.iter().zip([100, 10, 1]) {
            if !digit.is_ascii_digit() {
                return None;
            }
            value += u16::from(digit - b'0') * unit;
        }
        (value <= 1000).then_some(Self(value))
    }
}

/// A member of `Accept-Encoding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// All of it.
    pub text: &'a [u8],
    /// The name of the coding, `identity` or `*`, as it is written.
    pub coding: &'a [u8],
    /// Its weight; `None` if what follows the name is not one well-formed weight, so that nobody
    /// knows what was meant.
    pub weight: Option<Weight>,
}

impl<'a> Member<'a> {
    /// Reads one member.
    pub fn parse(text: &'a [u8]) -> Self {
        let mut parts = text.splitn(2, |byte| *byte == b';');
        let coding = trim(parts.next().unwrap_or_default());
        let weight = match parts.next() {
            Some(parameter) => Weight::parse(trim(parameter)),
            None => Some(Weight::FULL),
        };
        Self { text, coding, weight }
    }
}

/// The members of one line of `Accept-Encoding`, in order.
///
/// ```
/// use tower_keep_compress::{Weight, accept_members};
///
/// let mut members = accept_members(b"gzip, br;q=0");
/// assert_eq!(members.next().unwrap().coding, b"gzip");
/// assert_eq!(members.next().unwrap().weight, Some(Weight::REFUSED));
/// ```
pub fn members(line: &[u8]) -> impl Iterator<Item = Member<'_>> {
    Members::new(line).map(Member::parse)
}

/// What a client says about the codings it can read.
///
/// ```
/// use http::{HeaderMap, header::ACCEPT_ENCODING};
/// use tower_keep_compress::{AcceptEncoding, Encoding};
///
/// let mut request = HeaderMap::new();
/// request.insert(ACCEPT_ENCODING, "gzip;q=0.5, *;q=0".parse().unwrap());
/// let accept = AcceptEncoding::of(&request);
/// assert!(accept.weight(Encoding::Gzip).accepts());
/// assert!(!accept.weight(Encoding::Brotli).accepts());
/// assert!(!accept.accepts_identity());
/// ```
///
/// # How it is read
///
/// - Without the field, a client may be sent anything by the letter of RFC 9110; those who leave it
///   out can't read any coding, so they get none. An empty field says the same.
/// - A member with a weight that is none (`gzip;q=2`) counts for nothing.
/// - What is named twice has the lesser weight: a refusal holds.
/// - Unknown codings count for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AcceptEncoding {
    named: [Option<Weight>; Encoding::ALL.len()],
    #[cfg(feature = "dictionary")]
    with_dictionary: [Option<Weight>; DictionaryCoding::ALL.len()],
    identity: Option<Weight>,
    any: Option<Weight>,
}

impl AcceptEncoding {
    /// That of a request without the field.
    pub(crate) const NOTHING: Self = Self {
        named: [None; Encoding::ALL.len()],
        #[cfg(feature = "dictionary")]
        with_dictionary: [None; DictionaryCoding::ALL.len()],
        identity: None,
        any: None,
    };

    /// Reads that of a request.
    pub fn of(request: &HeaderMap) -> Self {
        let lines = request.get_all(ACCEPT_ENCODING);
        let mut each = lines.iter();
        match (each.next(), each.next()) {
            (None, _) => Self::NOTHING,
            (Some(line), None) => Self::of_line(line.as_bytes()),
            _ => Self::parse(lines.iter().map(HeaderValue::as_bytes)),
        }
    }

    /// Reads the field of one line, or remembers what it says.
    pub fn of_line(line: &[u8]) -> Self {
        memo::read(line)
    }

    /// Reads the lines of the field.
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut read = Self::default();
        for member in lines.into_iter().flat_map(members) {
            let Some(weight) = member.weight else { continue };
            let place = match member.coding {
                b"*" => Some(&mut read.any),
                name if name.eq_ignore_ascii_case(b"identity") => Some(&mut read.identity),
                name => match Encoding::from_name(name) {
                    Some(known) => read.named.get_mut(known.index()),
                    #[cfg(feature = "dictionary")]
                    None => DictionaryCoding::from_name(name)
                        .and_then(|known| read.with_dictionary.get_mut(known.index())),
                    #[cfg(not(feature = "dictionary"))]
                    None => None,
                },
            };
            if let Some(place) = place {
                *place = Some(place.map_or(weight, |other| other.min(weight)));
            }
        }
        read
    }

    /// How much a coding is wanted: by name, or else by `*`.
    #[inline]
    pub fn weight(&self, encoding: Encoding) -> Weight {
        let named = self.named.get(encoding.index()).copied().flatten();
        named.or(self.any).unwrap_or(Weight::REFUSED)
    }

    /// How much a coding is wanted that needs a dictionary: by name alone, since `*` is also said by
    /// clients that have none.
    #[cfg(feature = "dictionary")]
    pub fn weight_with_dictionary(&self, coding: DictionaryCoding) -> Weight {
        self.with_dictionary.get(coding.index()).copied().flatten().unwrap_or(Weight::REFUSED)
    }

    /// How much the plain form is wanted. Not mentioned, it is acceptable, but wanted less than what is.
    pub(crate) fn weight_of_plain(&self) -> Weight {
        self.identity.or(self.any).unwrap_or(Weight::REFUSED)
    }

    /// Whether the plain form may be sent: unless it is refused by name, or by `*` and not named.
    pub fn accepts_identity(&self) -> bool {
        self.identity.or(self.any).is_none_or(Weight::accepts)
    }

    /// The coding to send, of those offered in the order of the server's preference; `None` for the
    /// plain form, which may be [refused](Self::accepts_identity), too.
    ///
    /// The client's weights count first, then the server's order. The plain form is sent where it is
    /// wanted more than any coding; where both are wanted alike, it is not.
    ///
    /// ```
    /// use tower_keep_compress::{AcceptEncoding, Encoding};
    ///
    /// let of = |line: &str| AcceptEncoding::parse([line.as_bytes()]).choose([Encoding::Brotli, Encoding::Gzip]);
    /// assert_eq!(of("gzip, br"), Some(Encoding::Brotli));
    /// assert_eq!(of("gzip, br;q=0.9"), Some(Encoding::Gzip));
    /// assert_eq!(of("gzip;q=0.5, identity"), None);
    /// ```
    #[inline]
    pub fn choose(&self, offered: impl IntoIterator<Item = Encoding>) -> Option<Encoding> {
        let mut best: Option<(Encoding, Weight)> = None;
        for encoding in offered {
            let weight = self.weight(encoding);
            if weight.accepts() && best.is_none_or(|(_, other)| weight > other) {
                best = Some((encoding, weight));
            }
        }
        let plain = self.weight_of_plain();
        best.filter(|(_, weight)| *weight >= plain).map(|(encoding, _)| encoding)
    }
}

#[cfg(test)]
mod tests;
