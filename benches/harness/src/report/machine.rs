//! Where it was measured, and what with.

use std::fmt;
use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::member::version;

/// The machine, the compiler and the libraries.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// The processor, as the kernel calls it.
    pub processor: String,
    /// How many cores it has.
    pub cores: usize,
    /// The kernel.
    pub kernel: String,
    /// The compiler.
    pub rustc: String,
    /// Versions of what takes part, from the lock file.
    pub libraries: Vec<String>,
    /// Versions of the programs that take part, of those that are installed.
    pub programs: Vec<String>,
}

/// Programs that take part.
const PROGRAMS: [&str; 5] = ["nginx", "varnishd", "haproxy", "wrk", "redis-server"];

/// What takes part.
const LIBRARIES: [&str; 17] = [
    "amalgam-cache",
    "armature-cache",
    "axum",
    "axum-response-cache",
    "hitbox",
    "hitbox-tower",
    "http-cache",
    "http-cache-tower-server",
    "hyper",
    "hyper-util",
    "moka",
    "pingora-load-balancing",
    "quick_cache",
    "tokio",
    "tower",
    "tower-http",
    "tower-keep",
];

impl Machine {
    /// This one.
    pub fn this() -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = info.lines().find_map(|line| line.strip_prefix("model name"));
        let processor = processor.map(|rest| rest.trim_start_matches([' ', '\t', ':']).to_owned());
        Self {
            processor: processor.unwrap_or_default(),
            // Of which this process may be kept to one.
            cores: info.lines().filter(|line| line.starts_with("processor")).count(),
            kernel: first_line(Command::new("uname").arg("-sr")),
            rustc: first_line(Command::new("rustc").arg("--version")),
            libraries: versions(include_str!("../../Cargo.lock")),
            programs: PROGRAMS.into_iter().filter_map(version).collect(),
        }
    }

    /// Whether figures of the two can stand in one report.
    pub(super) fn is(&self, other: &Self) -> bool {
        let of = |it: &Self| (it.processor.clone(), it.cores, it.kernel.clone(), it.rustc.clone());
        of(self) == of(other)
    }
}

/// When, by what command, and how busy the machine was in the minute before.
pub(super) fn taken() -> String {
    let date = first_line(Command::new("date").args(["-u", "+%F %R UTC"]));
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    let mut arguments = std::env::args();
    let program = arguments.next().unwrap_or_default();
    let program = program.rsplit('/').next().unwrap_or_default();
    let command = std::iter::once(program.to_owned()).chain(arguments).collect::<Vec<_>>();
    format!("{date}, `{}`, load before: {load}.", command.join(" "))
}

fn first_line(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).lines().next().unwrap_or_default().to_owned()
}

fn versions(lock: &str) -> Vec<String> {
    let packages = lock.split("[[package]]").filter_map(|package| {
        let field = |name| {
            let line = package.lines().find_map(|line| line.strip_prefix(name))?;
            line.strip_prefix(" = \"")?.strip_suffix('"')
        };
        Some((field("name")?, field("version")?))
    });
    let known = packages.filter(|(name, _)| LIBRARIES.contains(name));
    known.map(|(name, version)| format!("{name} {version}")).collect()
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, cores, kernel, rustc, libraries, programs } = self;
        writeln!(f, "{cores} cores of {processor}, {kernel}; {rustc}.")?;
        writeln!(f, "\n{}; {}.", programs.join(", "), libraries.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_the_lock_file() {
        let lock = "[[package]]\nname = \"tokio\"\nversion = \"1.2.3\"\n\n[[package]]\nname = \
                    \"other\"\nversion = \"1.0.0\"\n";
        assert_eq!(versions(lock), ["tokio 1.2.3"]);
        let own = versions(include_str!("../../Cargo.lock"));
        assert!(own.iter().any(|it| it.starts_with("tower-keep ")), "{own:?}");
    }
}
