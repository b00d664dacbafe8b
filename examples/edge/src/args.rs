//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::prelude::*;

pub(crate) const HELP: &str = "\
A reverse proxy that balances, caches, compresses and verifies tokens, configured by one TOML file.

usage: edge --config FILE [--check]

  -c, --config FILE   the configuration; edge.example.toml has every setting
      --check         says whether the configuration is valid, and ends
  -h, --help          prints this
  -V, --version       prints the version

On SIGHUP, the configuration and the certificates are loaded again; if they can't be used, everything
stays as it is. No connection is lost but those that came without what their listener asks for now, such
as TLS: they finish what they have. On SIGTERM and SIGINT, what has begun is finished.
";

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Args {
    Run(PathBuf),
    Check(PathBuf),
    Help,
    Version,
}

impl Args {
    /// From the arguments behind the program's name.
    pub(crate) fn parse(
        arguments: impl IntoIterator<Item = impl Into<OsString>>,
    ) -> Result<Self, lexopt::Error> {
        let mut parser = lexopt::Parser::from_args(arguments);
        let (mut path, mut is_check) = (None, false);
        while let Some(argument) = parser.next()? {
            match argument {
                Short('c') | Long("config") => path = Some(PathBuf::from(parser.value()?)),
                Long("check") => is_check = true,
                Short('h') | Long("help") => return Ok(Self::Help),
                Short('V') | Long("version") => return Ok(Self::Version),
                other => return Err(other.unexpected()),
            }
        }
        let path = path.ok_or("--config FILE is missing; --help says more")?;
        Ok(if is_check { Self::Check(path) } else { Self::Run(path) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_argument_is_understood_and_each_mistake_is_named() {
        let run = Args::Run("a.toml".into());
        assert_eq!(Args::parse(["--config", "a.toml"]).unwrap(), run);
        assert_eq!(Args::parse(["-c", "a.toml"]).unwrap(), run);
        assert_eq!(
            Args::parse(["--check", "--config=a.toml"]).unwrap(),
            Args::Check("a.toml".into())
        );
        assert_eq!(Args::parse(["--help"]).unwrap(), Args::Help);
        assert_eq!(Args::parse(["-V"]).unwrap(), Args::Version);
        let none: [&str; 0] = [];
        let mistakes = [
            (Args::parse(none), "--config FILE is missing"),
            (Args::parse(["--config"]), "missing argument"),
            (Args::parse(["--confg", "x"]), "--confg"),
            (Args::parse(["-c", "x", "y"]), "y"),
        ];
        for (parsed, named) in mistakes {
            let error = parsed.unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
