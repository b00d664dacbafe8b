//! Routes of which nobody could tell which one a request takes.

use super::condition::Condition;
use super::problem::{Problems, Span};
use super::route::Route;

/// Two routes conflict when they are equally specific, and one request can meet both. Only the order
/// in the file would decide, which is easily changed by accident.
pub(super) fn check(routes: &[(Route, Span)], problems: &Problems) {
    for (at, (route, span)) in routes.iter().enumerate() {
        let mut before = routes.iter().take(at);
        let Some((first, other)) = before.find(|(it, _)| is_same(&it.condition, &route.condition))
        else {
            continue;
        };
        let title = format!("two routes are for the same requests: {}", first.condition);
        let label = "no request ever comes here; give one of them another condition";
        problems.add_with(span.clone(), title, label, (other.clone(), "the first one"));
    }
}

fn is_same(one: &Condition, other: &Condition) -> bool {
    one.path == other.path
        && overlap(&one.hosts, &other.hosts)
        && overlap(&one.listeners, &other.listeners)
        && overlap(&one.methods, &other.methods)
        && one.headers.len() == other.headers.len()
        && one.headers.iter().all(|header| other.headers.contains(header))
}

/// None at all stands for any, which is less specific than one.
fn overlap<T: PartialEq>(one: &[T], other: &[T]) -> bool {
    if one.is_empty() || other.is_empty() {
        return one.is_empty() && other.is_empty();
    }
    one.iter().any(|it| other.contains(it))
}
