//! `require` of routes: what a token must say.

use serde_json::Value;
use tower_keep::auth::{Require, RequireLayer};

use super::table::Table;
use super::value::OneOrMore;

/// All of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Requirement {
    scope: Vec<String>,
    any_scope: Vec<String>,
    role: Vec<String>,
    any_role: Vec<String>,
    group: Vec<String>,
    audience: Vec<String>,
    issuer: Option<String>,
    claims: Vec<(String, Value)>,
}

impl Requirement {
    pub(super) fn read(route: &Table<'_>) -> Option<Self> {
        let table = route.table("require")?;
        let list = |key| table.get::<OneOrMore>(key).map(|it| it.0).unwrap_or_default();
        let claims = table.pairs::<Value>("claims").into_iter();
        let requirement = Self {
            scope: list("scope"),
            any_scope: list("any_scope"),
            role: list("role"),
            any_role: list("any_role"),
            group: list("group"),
            audience: list("audience"),
            issuer: table.get("issuer"),
            claims: claims.map(|(name, _, value)| (name.to_owned(), value)).collect(),
        };
        for (key, require) in requirement.parts() {
            if let Err(why) = RequireLayer::new(require) {
                table.refuse(key, why);
            }
        }
        if requirement == Self::default() {
            let expected = "expected what a token must say, such as `scope`; \
                without `require`, every token that is right will do";
            table.problems().add(table.span(), "nothing is required", expected);
        }
        Some(requirement)
    }

    /// Each by the key that says it.
    fn parts(&self) -> Vec<(&'static str, Require)> {
        let mut parts = Vec::new();
        parts.extend(self.scope.iter().map(|it| ("scope", Require::scope(it.as_str()))));
        if !self.any_scope.is_empty() {
            let scopes = self.any_scope.iter().map(String::as_str);
            parts.push(("any_scope", Require::any_scope(scopes)));
        }
        parts.extend(self.role.iter().map(|it| ("role", Require::role(it.as_str()))));
        if !self.any_role.is_empty() {
            let roles = self.any_role.iter().map(String::as_str);
            parts.push(("any_role", Require::any_role(roles)));
        }
        parts.extend(self.group.iter().map(|it| ("group", Require::group(it.as_str()))));
        parts.extend(self.audience.iter().map(|it| ("audience", Require::audience(it.as_str()))));
        parts.extend(self.issuer.iter().map(|it| ("issuer", Require::issuer(it.as_str()))));
        let claims = self.claims.iter();
        parts
            .extend(claims.map(|(name, it)| ("claims", Require::claim(name.as_str(), it.clone()))));
        parts
    }

    /// None if there is nothing.
    pub(crate) fn require(&self) -> Option<Require> {
        self.parts().into_iter().map(|(_, require)| require).reduce(Require::and)
    }
}
