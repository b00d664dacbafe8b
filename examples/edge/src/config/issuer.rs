//! `[[jwt.NAME.issuer]]`: whose tokens are accepted, on which terms.

use std::path::Path;
use std::time::Duration;

use tower_keep::auth::{self, Algorithm, BuildError, KeySource, Keys as KeyCell};

use super::keys::Keys;
use super::listener::positive_or_none;
use super::table::Table;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Issuer {
    /// `iss`.
    pub(crate) name: String,
    pub(crate) keys: Keys,
    audiences: Vec<String>,
    any_audience: bool,
    algorithms: Vec<Algorithm>,
    leeway: Duration,
    require: Vec<String>,
    never_expires: bool,
    max_age: Option<Duration>,
    typ: Vec<String>,
}

impl Issuer {
    pub(super) fn read(table: &Table<'_>, near: &Path) -> Option<Self> {
        let name = table.need::<String>("name", "the `iss` of its tokens, to the letter");
        let algorithms: Vec<Algorithm> = table.or("algorithms", Algorithm::ASYMMETRIC.to_vec());
        let keys = Keys::read(table, near, name.as_deref().unwrap_or_default(), &algorithms);
        let audiences = table.or("audiences", Vec::new());
        let any_audience = table.or("any_audience", false);
        let leeway = table.or("leeway", Duration::from_secs(60));
        let require = table.or("require", Vec::new());
        let never_expires = table.or("never_expires", false);
        let max_age = positive_or_none(table, "max_age", None);
        let typ = table.or("typ", Vec::new());
        let issuer = Self {
            name: name?,
            keys: keys?,
            audiences,
            any_audience,
            algorithms,
            leeway,
            require,
            never_expires,
            max_age,
            typ,
        };
        issuer.check(table);
        Some(issuer)
    }

    /// What can be tried by itself is, so that it is known which setting can't work.
    fn check(&self, table: &Table<'_>) {
        let any = || auth::Issuer::new(&self.name).key_source(KeyCell::unavailable());
        let trials = [
            ("leeway", any().any_audience().leeway(self.leeway)),
            ("algorithms", any().any_audience().algorithms(self.algorithms.iter().copied())),
            ("require", with_required(any().any_audience(), &self.require)),
            ("name", any().any_audience()),
        ];
        for (key, trial) in trials {
            if let Err(why) = verifier(trial) {
                return table.refuse(key, reason(&why));
            }
        }
        if let Err(why) = verifier(self.issuer(KeyCell::unavailable())) {
            let key = if self.any_audience { "any_audience" } else { "audiences" };
            let why = reason(&why).replace("`audience`", "`audiences`");
            if self.any_audience || table.value("audiences").is_some() {
                table.refuse(key, why);
            } else {
                table.problems().add(table.span(), "an issuer without an audience", why);
            }
        }
    }

    /// It, with the keys of `source`.
    pub(crate) fn issuer(&self, source: impl KeySource) -> auth::Issuer {
        let issuer = auth::Issuer::new(&self.name)
            .key_source(source)
            .algorithms(self.algorithms.iter().copied())
            .leeway(self.leeway);
        let issuer = self.audiences.iter().fold(issuer, auth::Issuer::audience);
        let issuer = if self.any_audience { issuer.any_audience() } else { issuer };
        let issuer = with_required(issuer, &self.require);
        let issuer = if self.never_expires { issuer.never_expires() } else { issuer };
        let issuer = self.max_age.into_iter().fold(issuer, auth::Issuer::max_age);
        self.typ.iter().fold(issuer, auth::Issuer::typ)
    }
}

fn with_required(issuer: auth::Issuer, claims: &[String]) -> auth::Issuer {
    claims.iter().fold(issuer, auth::Issuer::require)
}

fn verifier(issuer: auth::Issuer) -> Result<(), BuildError> {
    auth::Verifier::builder().issuer(issuer).build().map(drop)
}

/// Without the issuer's name, which stands beside it.
pub(super) fn reason(why: &BuildError) -> String {
    match why {
        BuildError::Issuer { what, .. } | BuildError::Url { what, .. } => (*what).to_owned(),
        why => why.to_string(),
    }
}
