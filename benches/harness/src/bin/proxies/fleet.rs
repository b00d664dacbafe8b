//! The proxies and the origin, each a process of its own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::BoxError;
use harness::member::{CORE, Member, OTHER_CORE, free_address, own, version};

/// All of them.
pub(super) struct Fleet {
    pub(super) members: Vec<Member>,
    pub(super) missing: Vec<&'static str>,
    /// What the programs were told: what they are, and the text.
    pub(super) setups: Vec<(String, String)>,
    _origin: Member,
}

impl Fleet {
    /// Starts them. They do nothing until they are asked.
    pub(super) fn launch() -> Result<Self, BoxError> {
        let only = std::env::var("ONLY").unwrap_or_default();
        let is_wanted = |name: &str| only.is_empty() || only.split(',').any(|it| it == name);
        let folder = std::env::temp_dir().join(format!("harness-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let upstreams = [free_address()?, free_address()?];
        let mut origin = own("origin")?;
        let origin = Member::launch(
            "origin",
            "origin".into(),
            upstreams[0].clone(),
            OTHER_CORE,
            origin.args(&upstreams),
        )?;
        let (mut members, mut missing, mut setups) = (Vec::new(), Vec::new(), Vec::new());
        for name in ["nginx", "haproxy", "keep", "keep-mt", "client", "floor"] {
            if !is_wanted(name) {
                continue;
            }
            let address = free_address()?;
            let (what, mut command) = match name {
                "nginx" | "haproxy" => {
                    let Some(version) = version(name) else {
                        missing.push(name);
                        continue;
                    };
                    let config = configure(name, &folder, &address, &upstreams)?;
                    let told = fs::read_to_string(&config)?;
                    setups.push((format!("{version}, as a reverse proxy"), told));
                    let mut command = Command::new(name);
                    if name == "nginx" {
                        command.arg("-p").arg(&folder).arg("-c").arg(config);
                    } else {
                        command.arg("-db").arg("-f").arg(config);
                    }
                    (version, command)
                }
                kind => {
                    let mut command = own("proxy")?;
                    command.arg(kind).arg(&address).args(&upstreams);
                    (description(kind).to_owned(), command)
                }
            };
            members.push(Member::launch(name, what, address, CORE, &mut command)?);
        }
        Ok(Self { members, missing, setups, _origin: origin })
    }
}

fn description(kind: &str) -> &'static str {
    match kind {
        "keep" => "tower-keep's `Proxy`",
        "keep-mt" => "the same, on the runtime of many threads, of which it has one",
        "client" => "hyper and hyper-util's client: it only forwards",
        _ => "hyper's connections alone: it only forwards",
    }
}

/// Fills in the configuration of this package. Says where it is.
fn configure(
    name: &str,
    folder: &Path,
    address: &str,
    upstreams: &[String; 2],
) -> io::Result<PathBuf> {
    let file = if name == "nginx" { "nginx.conf" } else { "haproxy.cfg" };
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let text = fs::read_to_string(configs.join(file))?
        .replace("{{folder}}", &folder.display().to_string())
        .replace("{{address}}", address)
        .replace("{{upstream-1}}", &upstreams[0])
        .replace("{{upstream-2}}", &upstreams[1]);
    let filled = folder.join(file);
    fs::write(&filled, text)?;
    Ok(filled)
}
