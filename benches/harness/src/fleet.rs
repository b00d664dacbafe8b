//! Caches as servers, each a process of its own on one core, in front of the same handler.

mod check;
mod control;
mod program;

use std::path::PathBuf;
use std::process::Command;

use crate::BoxError;
use crate::member::{CORE, Member, OTHER_CORE, free_address, own};
use crate::site::{PATH, Site};

pub use self::control::{Control, Stormed};
pub use self::program::Program;

/// Who may take part: a word, what it is, and whether it has to answer from what it has stored.
const KNOWN: [Kind; 12] = [
    kind("router", "bare axum `Router`", false),
    kind("handler", "bare handler, by hyper alone", false),
    kind("keep", "tower-keep around the `Router`", true),
    kind("keep-hyper", "tower-keep around the `Router`, by hyper alone", true),
    kind("keep-handler", "tower-keep around the bare handler, by hyper alone", true),
    kind("response-cache", "axum-response-cache in the `Router`", true),
    kind("hitbox", "hitbox around the `Router`", true),
    kind("http-cache", "http-cache-tower-server around the `Router`", true),
    kind("pipeline", "`JwtLayer`, tower-keep with forms, `Router`", true),
    kind("nginx", "nginx, `proxy_cache`", true),
    kind("varnish", "Varnish", true),
    kind("haproxy", "HAProxy, `cache`", true),
];

/// Those that are compared wherever nothing else is said; the others with the first of them.
pub const CACHES: [&str; 10] = [
    "router",
    "keep",
    "keep-hyper",
    "handler",
    "response-cache",
    "hitbox",
    "http-cache",
    "nginx",
    "varnish",
    "haproxy",
];

#[derive(Clone, Copy, Debug)]
struct Kind {
    word: &'static str,
    what: &'static str,
    is_cache: bool,
}

const fn kind(word: &'static str, what: &'static str, is_cache: bool) -> Kind {
    Kind { word, what, is_cache }
}

/// One of them, which runs.
#[derive(Debug)]
pub struct Contender {
    /// A word for it.
    pub word: &'static str,
    /// Its process.
    pub member: Member,
    /// Where its own program, or the origin behind it, says what was asked of the handler.
    pub control: String,
    is_cache: bool,
}

/// All that run, and why others don't.
#[derive(Debug)]
pub struct Fleet {
    /// Those that run, and that answer as they should.
    pub contenders: Vec<Contender>,
    /// What doesn't, and why.
    pub missing: Vec<(String, String)>,
    /// What each of the programs was told: its name, and the text.
    pub setups: Vec<(String, String)>,
    site: Site,
    folder: PathBuf,
    /// It has to outlive those that are in front of it.
    origin: Option<Member>,
}

impl Fleet {
    /// Starts `words`, and asks each of them until it answers from what it has stored.
    ///
    /// # Errors
    ///
    /// If no origin can be started for those that need one.
    pub fn launch(words: &[&str], site: Site) -> Result<Self, BoxError> {
        let folder = std::env::temp_dir().join(format!("harness-load-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let mut fleet = Self {
            contenders: Vec::new(),
            missing: Vec::new(),
            setups: Vec::new(),
            site,
            folder,
            origin: None,
        };
        let mut origin = None;
        for kind in words.iter().filter_map(|word| KNOWN.iter().find(|it| it.word == *word)) {
            let program = Program::find(kind.word);
            if program.is_some() && origin.is_none() {
                origin = Some(launch(&KNOWN[0], site, OTHER_CORE, &[])?);
            }
            let launched = match (program, &origin) {
                (Some(program), Some(origin)) => fleet.proxy(kind, program, origin),
                _ => launch(kind, site, CORE, &[]),
            };
            fleet.admit(kind.what, launched);
        }
        fleet.origin = origin.map(|origin| origin.member);
        Ok(fleet)
    }

    /// One more: a server of this package with a setting of its own.
    ///
    /// # Errors
    ///
    /// If there is no such kind.
    pub fn add(&mut self, word: &str, what: &str, setting: &str) -> Result<(), BoxError> {
        let kind = KNOWN.iter().find(|it| it.word == word).ok_or("there is no such kind")?;
        let launched = launch(kind, self.site, CORE, &[setting.to_owned()]);
        let launched = launched.map(|mut contender| {
            what.clone_into(&mut contender.member.what);
            contender
        });
        self.admit(what, launched);
        Ok(())
    }

    /// A program in front of `origin`.
    fn proxy(
        &mut self,
        kind: &Kind,
        program: Program,
        origin: &Contender,
    ) -> Result<Contender, BoxError> {
        let version = program.version().ok_or("it is not installed")?;
        let address = free_address()?;
        let (mut command, setup) =
            program.command(&self.folder, &address, &origin.member.address)?;
        self.setups.push((version.clone(), setup));
        let what = format!("{} ({version})", kind.what);
        let member = Member::launch(kind.word, what, address, CORE, &mut command)?;
        let control = origin.control.clone();
        Ok(Contender { word: kind.word, member, control, is_cache: kind.is_cache })
    }

    fn admit(&mut self, what: &str, launched: Result<Contender, BoxError>) {
        let checked = launched.and_then(|contender| {
            check::check(&contender, self.site)?;
            Ok(contender)
        });
        match checked {
            Ok(contender) => self.contenders.push(contender),
            Err(error) => self.missing.push((what.to_owned(), error.to_string())),
        }
    }
}

impl Contender {
    /// Where it is asked for what has this number.
    pub fn url(&self, id: u64) -> String {
        format!("http://{}{PATH}{id}", self.member.address)
    }

    /// How often its handler was called so far.
    ///
    /// # Errors
    ///
    /// If nobody says it.
    pub fn calls(&self) -> Result<u64, BoxError> {
        Control::connect(&self.control)?.calls()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.contenders.clear();
        self.origin = None;
        // What the programs have left there is of no use to anybody.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A server of this package.
fn launch(kind: &Kind, site: Site, core: &str, settings: &[String]) -> Result<Contender, BoxError> {
    let (address, control) = (free_address()?, free_address()?);
    let mut command: Command = own("server")?;
    command.args([kind.word, &address, &control]).args(site.arguments()).args(settings);
    let member = Member::launch(kind.word, kind.what.to_owned(), address, core, &mut command)?;
    Ok(Contender { word: kind.word, member, control, is_cache: kind.is_cache })
}
