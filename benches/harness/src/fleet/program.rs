//! Caches that are programs of their own, each set up as its own guide says.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::BoxError;
use crate::member::version;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// nginx.
    Nginx,
    /// Varnish.
    Varnish,
    /// HAProxy.
    HaProxy,
}

impl Program {
    /// By its word.
    pub fn find(word: &str) -> Option<Self> {
        match word {
            "nginx" => Some(Self::Nginx),
            "varnish" => Some(Self::Varnish),
            "haproxy" => Some(Self::HaProxy),
            _ => None,
        }
    }

    /// Its name with its version, if it is installed.
    pub fn version(self) -> Option<String> {
        version(match self {
            Self::Nginx => "nginx",
            Self::Varnish => "varnishd",
            Self::HaProxy => "haproxy",
        })
    }

    /// Its configuration, with what is to be filled in.
    fn config(self) -> (&'static str, &'static str) {
        match self {
            Self::Nginx => ("nginx-cache.conf", include_str!("../../configs/nginx-cache.conf")),
            Self::Varnish => ("varnish.vcl", include_str!("../../configs/varnish.vcl")),
            Self::HaProxy => ("haproxy-cache.cfg", include_str!("../../configs/haproxy-cache.cfg")),
        }
    }

    /// What starts it, and what it is told: its configuration, and the command.
    pub(super) fn command(
        self,
        folder: &Path,
        address: &str,
        origin: &str,
    ) -> Result<(Command, String), BoxError> {
        let (name, template) = self.config();
        let (host, port) = origin.rsplit_once(':').ok_or("an origin has a port")?;
        let text = template
            .replace("{{folder}}", &folder.display().to_string())
            .replace("{{address}}", address)
            .replace("{{origin}}", origin)
            .replace("{{origin-host}}", host)
            .replace("{{origin-port}}", port);
        let config = folder.join(name);
        fs::write(&config, text)?;
        let command = match self {
            Self::Nginx => {
                let mut command = Command::new("nginx");
                command.arg("-p").arg(folder).arg("-c").arg(config);
                command
            }
            Self::Varnish => {
                let mut command = Command::new("varnishd");
                command.args(["-F", "-a", address, "-s", "malloc,256m"]);
                command.arg("-f").arg(config).arg("-n").arg(folder.join("varnish"));
                command
            }
            Self::HaProxy => {
                let mut command = Command::new("haproxy");
                command.arg("-db").arg("-f").arg(config);
                command
            }
        };
        let words: Vec<_> = std::iter::once(command.get_program())
            .chain(command.get_args())
            .map(|word| word.to_string_lossy())
            .collect();
        let told = words.join(" ").replace(&folder.display().to_string(), "{{folder}}");
        Ok((command, format!("# {}\n\n{template}", told.replace(address, "{{address}}"))))
    }
}
