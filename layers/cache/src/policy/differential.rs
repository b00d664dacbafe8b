//! The policy beside that of another implementation, the crate `http-cache-semantics`: where both
//! claim the same, they must agree, or the difference is one of the
//! [exceptions].
//!
//! That crate follows RFC 7234, and so differs where RFC 9111 does. It has no stale-while-revalidate,
//! no targeted fields, no ranges and no must-understand, and leaves `only-if-cached` to its caller:
//! it must change nothing in what is compared.

mod case;
mod exceptions;
mod generate;

use proptest::prelude::*;

use self::case::{Answers, Case};
use self::exceptions::{Exception, exceptions};

/// What they can differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aspect {
    Stored,
    Lifetime,
    Age,
    Selected,
    Reused,
    Conditions,
    Updated,
    Fields,
}

/// In which way ours differs from theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Less is stored or reused, or for a shorter time.
    Stricter,
    /// More is.
    Laxer,
    /// It is something else.
    Other,
}

fn differences(ours: &Answers, theirs: &Answers) -> Vec<(Aspect, Way)> {
    use Aspect::{Age, Conditions, Fields, Lifetime, Reused, Selected, Stored, Updated};
    let mut found = Vec::new();
    let mut compare = |aspect, ours: u64, theirs: u64| {
        if ours != theirs {
            found.push((aspect, if ours > theirs { Way::Laxer } else { Way::Stricter }));
        }
        ours == theirs
    };
    if ours.useless {
        compare(Lifetime, 0, theirs.lifetime);
        return found;
    }
    compare(Stored, ours.stored.into(), theirs.stored.into());
    if !(ours.stored && theirs.stored) {
        return found;
    }
    let same_lifetime = compare(Lifetime, ours.lifetime, theirs.lifetime);
    // The older, the stricter.
    let same_age = compare(Age, theirs.age, ours.age);
    let same_selection = compare(Selected, ours.selected.into(), theirs.selected.into());
    if !(same_selection && ours.selected) {
        return found;
    }
    // What follows from a difference is none of its own.
    if same_lifetime && same_age {
        compare(Reused, ours.reused.into(), theirs.reused.into());
    }
    let same_update = compare(Updated, ours.updated.into(), theirs.updated.into());
    if same_update && ours.updated && ours.fields != theirs.fields {
        found.push((Fields, Way::Other));
    }
    if ours.conditions != theirs.conditions {
        found.push((Conditions, Way::Other));
    }
    found
}

impl Exception {
    fn excuses(&self, case: &Case, difference: (Aspect, Way)) -> bool {
        (self.aspect, self.way) == difference && (self.applies)(case)
    }
}

#[test]
fn every_exception_is_needed() {
    for exception in exceptions() {
        let case = (exception.example)();
        let (ours, theirs) = (case.ours(), case.theirs());
        let found = differences(&ours, &theirs);
        let excused = found.iter().any(|difference| exception.excuses(&case, *difference));
        assert!(excused, "{}: {found:?}\n{case:#?}\n{ours:#?}\n{theirs:#?}", exception.name);
    }
}

#[test]
fn what_they_were_right_about_stays_so() {
    let found = Case { status: 302, ..Case::new("no-cache", &[("etag", "\"a\"")]) };
    assert_eq!(differences(&found.ours(), &found.theirs()), []);
    let of_that_age = Case::new("max-age=60", &[]).then(30, &[("cache-control", "max-age=30")]);
    assert_eq!(differences(&of_that_age.ours(), &of_that_age.theirs()), []);
    assert!(of_that_age.ours().reused);
    let stale_before = Case::new("max-age=10", &[("age", "30"), ("etag", "\"a\"")])
        .then(5, &[("cache-control", "max-stale=20")])
        .validated(&[("etag", "\"a\"")]);
    assert_eq!(differences(&stale_before.ours(), &stale_before.theirs()), []);
    assert!(!stale_before.ours().reused);
}

#[test]
fn every_exception_has_a_name_of_its_own_a_reason_and_a_place_in_the_docs() {
    const LISTED: &str = include_str!("../../docs/rfc9111.md");
    let (_, list) = LISTED.split_once("| difference |").unwrap();
    assert_eq!(list.matches("\n| ").count(), 1 + exceptions().count(), "none that is gone");
    for exception in exceptions() {
        let same = exceptions().filter(|other| other.name == exception.name);
        assert_eq!(same.count(), 1, "{}", exception.name);
        let row = format!("\n| {} |", exception.name);
        assert!(LISTED.contains(&row), "docs/rfc9111.md lacks {}", exception.name);
        assert!(exception.why.contains('§') || exception.why.contains("RFC"), "{}", exception.name);
    }
}

/// Two seconds or so; a million were run when it was written.
const CASES: u32 = 4000;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(CASES) })]

    #[test]
    fn both_decide_alike(case in generate::cases()) {
        let (ours, theirs) = (case.ours(), case.theirs());
        for difference in differences(&ours, &theirs) {
            let excused = exceptions().any(|it| it.excuses(&case, difference));
            prop_assert!(excused, "{:?}\n{:#?}\n{:#?}\n{:#?}", difference, case, ours, theirs);
        }
    }
}
