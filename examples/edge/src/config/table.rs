//! Reads a table of the file key by key, and says of each mistake where it is.

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::problem::{Problems, Span};
use super::value::{Bound, Read};

pub(crate) type Value<'a> = Spanned<DeValue<'a>>;
type Name<'a> = Spanned<DeString<'a>>;

/// A table of the file. When it is dropped, the keys that nobody has asked for are unknown ones.
#[derive(Debug)]
pub(crate) struct Table<'a> {
    /// As in `pool.shop.health`; empty for the file as a whole.
    name: String,
    span: Span,
    entries: &'a DeTable<'a>,
    asked: RefCell<Vec<&'static str>>,
    problems: &'a Problems,
}

impl<'a> Table<'a> {
    pub(crate) fn new(
        name: String,
        span: Span,
        entries: &'a DeTable<'a>,
        problems: &'a Problems,
    ) -> Self {
        Self { name, span, entries, asked: RefCell::default(), problems }
    }

    /// Where it is: its head.
    pub(crate) fn span(&self) -> Span {
        self.span.clone()
    }

    pub(crate) fn problems(&self) -> &'a Problems {
        self.problems
    }

    /// As in `pool.app.backends`.
    pub(crate) fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    pub(crate) fn value(&self, key: &'static str) -> Option<&'a Value<'a>> {
        self.asked.borrow_mut().push(key);
        #[cfg(test)]
        self.problems.known.borrow_mut().insert(key.to_owned());
        self.entries.get(key)
    }

    /// Where the value of `key` is, or else the table.
    pub(crate) fn at(&self, key: &str) -> Span {
        self.entries.get(key).map_or_else(|| self.span(), Spanned::span)
    }

    /// Of what can't be read, a problem is noted, and it counts as left out.
    pub(crate) fn get<T: Read>(&self, key: &'static str) -> Option<T> {
        T::read(self.value(key)?, &self.path(key), self.problems)
    }

    pub(crate) fn or<T: Read>(&self, key: &'static str, default: T) -> T {
        self.get(key).unwrap_or(default)
    }

    /// Something that can be `"none"`.
    pub(crate) fn or_none<T: Read>(&self, key: &'static str, default: Option<T>) -> Option<T> {
        match self.value(key).map(Spanned::get_ref) {
            None => default,
            Some(DeValue::String(text)) if text == "none" => None,
            Some(_) => self.get(key).or(default),
        }
    }

    /// A bound, or `"none"`, if it is said.
    pub(crate) fn bound<T: Read>(&self, key: &'static str) -> Bound<T> {
        match self.value(key) {
            Some(_) => Bound::Said(self.or_none(key, None)),
            None => Bound::Unsaid,
        }
    }

    /// A number within `range`.
    pub(crate) fn within<T>(&self, key: &'static str, default: T, range: RangeInclusive<T>) -> T
    where
        T: Read + PartialOrd + Display + Copy,
    {
        let Some(number) = self.get::<T>(key) else { return default };
        if range.contains(&number) {
            return number;
        }
        // The largest number that there is is no bound to speak of.
        let expected = if number < *range.start() {
            format!("expected {} or more", range.start())
        } else {
            format!("expected {} or less", range.end())
        };
        self.problems.add(self.at(key), format!("`{}` is out of range", self.path(key)), expected);
        default
    }

    /// One that has to be there.
    pub(crate) fn need<T: Read>(&self, key: &'static str, what: &str) -> Option<T> {
        if self.value(key).is_none() {
            let title = format!("`{}` is missing", self.path(key));
            self.problems.add(self.span(), title, format!("expected {what}"));
        }
        self.get(key)
    }

    /// One of some names.
    pub(crate) fn choice<T: Copy>(
        &self,
        key: &'static str,
        default: T,
        choices: &[(&str, T)],
    ) -> T {
        self.choice_or(key, default, choices, &[])
    }

    /// As [`choice`](Self::choice), where some names have others in the languages of other proxies.
    pub(crate) fn choice_or<T: Copy>(
        &self,
        key: &'static str,
        default: T,
        choices: &[(&str, T)],
        foreign: &[(&str, &str)],
    ) -> T {
        let Some(name) = self.get::<String>(key) else { return default };
        if let Some((_, choice)) = choices.iter().find(|(choice, _)| *choice == name) {
            return *choice;
        }
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        let ours = foreign.iter().find(|(it, _)| *it == name).map(|(_, ours)| *ours);
        let title = format!("`{name}` is no value of `{}`", self.path(key));
        let expected = expected_one_of(ours.unwrap_or(&name), &names);
        self.problems.add(self.at(key), title, expected);
        default
    }

    pub(crate) fn table(&self, key: &'static str) -> Option<Table<'a>> {
        let value = self.value(key)?;
        self.sub(self.path(key), value.span(), value)
    }

    /// The tables below `key`, by name.
    pub(crate) fn named(&self, key: &'static str) -> Vec<(&'a str, Table<'a>)> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let path = self.path(key);
        let DeValue::Table(tables) = value.get_ref() else {
            self.wrong(&path, value, &format!("tables, as in [{path}.NAME]"));
            return Vec::new();
        };
        let of = |(name, value): (&'a Name<'a>, &'a Value<'a>)| {
            let path = format!("{path}.{}", name.get_ref());
            Some((&**name.get_ref(), self.sub(path, value.span(), value)?))
        };
        tables.iter().filter_map(of).collect()
    }

    /// The elements of an array.
    pub(crate) fn elements(&self, key: &'static str) -> Vec<&'a Value<'a>> {
        let Some(value) = self.value(key) else { return Vec::new() };
        if let DeValue::Array(elements) = value.get_ref() {
            return elements.iter().collect();
        }
        let path = self.path(key);
        self.wrong(&path, value, &format!("an array, or [[{path}]]"));
        Vec::new()
    }

    /// The tables of an array of tables.
    pub(crate) fn tables(&self, key: &'static str) -> Vec<Table<'a>> {
        let elements = self.elements(key).into_iter();
        elements.filter_map(|value| self.sub(self.path(key), value.span(), value)).collect()
    }

    pub(crate) fn sub(&self, name: String, span: Span, value: &'a Value<'a>) -> Option<Table<'a>> {
        if let DeValue::Table(entries) = value.get_ref() {
            return Some(Table::new(name, span, entries, self.problems));
        }
        self.wrong(&name, value, "a table");
        None
    }

    /// What a table of names and values has, whatever the names are.
    pub(crate) fn pairs<T: Read>(&self, key: &'static str) -> Vec<(&'a str, Span, T)> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let DeValue::Table(entries) = value.get_ref() else {
            self.wrong(&self.path(key), value, "a table of names and values");
            return Vec::new();
        };
        let of = |(name, value): (&'a Name<'a>, &'a Value<'a>)| {
            let path = format!("{}.{}", self.path(key), name.get_ref());
            let read = T::read(value, &path, self.problems)?;
            Some((&**name.get_ref(), name.span(), read))
        };
        entries.iter().filter_map(of).collect()
    }

    fn wrong(&self, path: &str, value: &Value<'_>, expected: &str) {
        super::value::wrong(value, path, expected, self.problems);
    }

    /// Says that the value of `key` is wrong, or the table if it has none.
    pub(crate) fn refuse(&self, key: &'static str, why: impl Display) {
        self.refuse_at(self.at(key), key, why);
    }

    /// As [`refuse`](Self::refuse), for a part of the value.
    pub(crate) fn refuse_at(&self, at: Span, key: &'static str, why: impl Display) {
        let title = format!("`{}` can't be used", self.path(key));
        self.problems.add(at, title, why.to_string());
    }

    /// Notes what is wrong with all of it.
    pub(crate) fn check<T>(&self, built: Result<T, impl Display>) -> Option<T> {
        built
            .map_err(|why| {
                let title = format!("`{}` can't work", self.name);
                self.problems.add(self.span(), title, why.to_string());
            })
            .ok()
    }
}

impl Drop for Table<'_> {
    fn drop(&mut self) {
        let asked = self.asked.borrow();
        for key in self.entries.keys() {
            let name = key.get_ref();
            if asked.iter().any(|asked| asked == name) {
                continue;
            }
            let place = if self.name.is_empty() { "the file" } else { &self.name };
            let label = match nearest(name, &asked) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("{place} has: {}", sorted(&asked).join(", ")),
            };
            self.problems.add(key.span(), format!("unknown key `{}`", self.path(name)), label);
        }
    }
}

fn sorted<'n>(names: &[&'n str]) -> Vec<&'n str> {
    let mut names = names.to_vec();
    names.sort_unstable();
    names.dedup();
    names
}

/// What to write in place of `name`.
pub(crate) fn expected_one_of(name: &str, names: &[&str]) -> String {
    match nearest(name, names) {
        Some(near) => format!("did you mean `{near}`?"),
        None if names.is_empty() => "there is none".to_owned(),
        None => format!("expected one of {}", sorted(names).join(", ")),
    }
}

/// The one that was probably meant: within a third of its letters.
fn nearest<'n>(name: &str, names: &[&'n str]) -> Option<&'n str> {
    let distance = |other: &str| strsim::damerau_levenshtein(name, other);
    let near = names.iter().copied().min_by_key(|other| distance(other))?;
    (distance(near) <= (name.chars().count() / 3).max(1)).then_some(near)
}
