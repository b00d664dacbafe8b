//! What header fields share: numbers, dates, and the members of lists.
//!
//! Everything here reads bytes, not text: a field may hold bytes that are not UTF-8. Every function
//! looks at each byte a fixed number of times, and none can fail in another way than by `None`.

use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue};
pub(crate) use tower_keep_compress::field::{Members, trim};

/// The largest delta-seconds; greater ones mean the same (RFC 9111 §1.2.2).
pub(crate) const MAX_DELTA_SECONDS: u32 = 1 << 31;

/// The lines of a field as one (RFC 9110 §5.3), as a structured field is parsed (RFC 9651 §4.2);
/// nothing if they are longer than `max` bytes together.
pub(crate) fn joined(headers: &HeaderMap, name: &HeaderName, max: usize) -> Option<Vec<u8>> {
    let mut field = Vec::new();
    for line in headers.get_all(name) {
        if !field.is_empty() {
            field.extend_from_slice(b", ");
        }
        field.extend_from_slice(line.as_bytes());
        if field.len() > max {
            return None;
        }
    }
    Some(field)
}

/// A non-negative number of seconds (RFC 9111 §1.2.2); one too large saturates.
pub(crate) fn delta_seconds(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u32, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u32::from(byte - b'0'))?;
        Some(sum.saturating_mul(10).saturating_add(digit).min(MAX_DELTA_SECONDS))
    })
}

/// An HTTP date (RFC 9110 §5.6.7), in seconds since the Unix epoch.
pub(crate) fn http_date(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok()?;
    let date = httpdate::parse_http_date(text).ok().or_else(|| lenient_date(text))?;
    Some(date.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

/// As RFC 9111 §4.2 advises caches to, without minding the case; nor the day of the week, which tells
/// nothing that the date doesn't.
fn lenient_date(text: &str) -> Option<SystemTime> {
    const DAYS: [&str; 7] =
        ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
    /// The longest form, and a bit.
    const MAX_LEN: usize = 40;
    if text.len() > MAX_LEN {
        return None;
    }
    let (day, rest) = text.split_at_checked(text.find([',', ' '])?)?;
    // In the obsolete form of RFC 850 it is written out.
    let written = |name: &'static str| if day.len() > 3 { name } else { &name[..3] };
    let is_day = DAYS.iter().any(|name| written(name).eq_ignore_ascii_case(day));
    let rest = in_usual_case(rest);
    let mut dates = DAYS.iter().map(|name| format!("{}{rest}", written(name)));
    is_day.then(|| dates.find_map(|date| httpdate::parse_http_date(&date).ok())).flatten()
}

/// Names of months with a capital, and `GMT` in capitals.
fn in_usual_case(date: &str) -> String {
    let mut usual = date.to_ascii_lowercase().replace("gmt", "GMT");
    for month in
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    {
        usual = usual.replace(&month.to_ascii_lowercase(), month);
    }
    usual
}

/// Runs `read` on `number` in decimal digits, without an allocation.
pub(crate) fn with_digits<T>(number: u64, read: impl FnOnce(&[u8]) -> T) -> T {
    let mut digits = [b'0'; 20];
    let mut rest = number;
    let mut used = 0;
    for slot in digits.iter_mut().rev() {
        // The remainder of a division by ten always fits.
        *slot = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
        used += 1;
        if rest == 0 {
            break;
        }
    }
    read(digits.get(digits.len() - used..).unwrap_or(b"0"))
}

/// Whether one field may be taken for the other: by those who read fields as CGI does (RFC 3875
/// §4.1.18), to whom `X_Host` is `X-Host`.
pub(crate) fn is_alike(name: &HeaderName, field: &HeaderName) -> bool {
    let (name, field) = (name.as_str().as_bytes(), field.as_str().as_bytes());
    let is_other = |byte: u8| !byte.is_ascii_alphanumeric();
    let mut bytes = name.iter().zip(field);
    name.len() == field.len() && bytes.all(|(a, b)| a == b || is_other(*a) && is_other(*b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn delta_seconds_saturate_and_refuse_anything_but_digits() {
        assert_eq!(delta_seconds(b"060"), Some(60));
        assert_eq!(delta_seconds(b"99999999999999999999999"), Some(MAX_DELTA_SECONDS));
        for wrong in ["", "-1", "+1", "1.0", " 1", "1s", "\u{663}"] {
            assert_eq!(delta_seconds(wrong.as_bytes()), None, "{wrong:?}");
        }
    }

    #[test]
    fn dates_are_read_in_all_forms_and_any_case() {
        let read = |text: &'static str| http_date(&HeaderValue::from_static(text));
        for date in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "SUN, 06 nov 1994 08:49:37 gmt",
            "sunday, 06-NOV-94 08:49:37 GMT",
            "sun nov  6 08:49:37 1994",
            "Mon, 06 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(read(date), Some(784_111_777), "{date}");
        }
        for wrong in [
            "0",
            "",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Xyz, 06 Nov 1994 08:49:37 GMT",
            "Sun, 6 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn digits_are_those_of_the_standard_library(number: u64) {
            let text = with_digits(number, <[u8]>::to_vec);
            prop_assert_eq!(text, number.to_string().into_bytes());
        }

        #[test]
        fn any_bytes_can_be_read(bytes: Vec<u8>) {
            delta_seconds(&bytes);
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                http_date(&value);
            }
        }

        #[test]
        fn any_date_like_text_can_be_read(
            text in "(Sun|Thu|Friday), [0-9]{2}[ -](Jan|Feb|Dec)[ -]([0-9]{2}|[0-9]{4}) [0-9:]{8} GMT"
        ) {
            http_date(&HeaderValue::from_str(&text).unwrap());
        }
    }
}
