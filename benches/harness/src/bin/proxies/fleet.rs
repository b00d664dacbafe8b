//! The proxies and the origin, each a process of its own.

use std::error::Error;
use std::fs;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The core of the proxies.
const CORE: &str = "0";

/// The core of the load and the origin.
pub(super) const OTHER_CORE: &str = "1";

/// What the kernel counts processor time in (`USER_HZ`, the same on all of Linux).
const TICK: Duration = Duration::from_millis(10);

/// A proxy, or the origin itself.
pub(super) struct Member {
    pub(super) name: &'static str,
    /// With its version.
    pub(super) what: String,
    pub(super) address: String,
    process: Child,
}

/// All of them.
pub(super) struct Fleet {
    pub(super) members: Vec<Member>,
    pub(super) missing: Vec<&'static str>,
    _origin: Member,
}

impl Fleet {
    /// Starts them. They do nothing until they are asked.
    pub(super) fn launch() -> Result<Self, Box<dyn Error>> {
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
        let (mut members, mut missing) = (Vec::new(), Vec::new());
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
        Ok(Self { members, missing, _origin: origin })
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

impl Member {
    fn launch(
        name: &'static str,
        what: String,
        address: String,
        core: &str,
        command: &mut Command,
    ) -> Result<Self, Box<dyn Error>> {
        let program = command.get_program().to_owned();
        let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        let process = Command::new("taskset")
            .args(["-c", core])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let mut member = Self { name, what, address, process };
        for _ in 0..500 {
            if TcpStream::connect(&member.address).is_ok() {
                return Ok(member);
            }
            if let Some(status) = member.process.try_wait()? {
                return Err(format!("{name} has ended: {status}").into());
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        Err(format!("{name} does not listen on {}", member.address).into())
    }

    /// What it has used so far, with its children that are still there.
    pub(super) fn processor_time(&self) -> io::Result<Duration> {
        let id = self.process.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
        let children = children.split_whitespace().filter_map(|child| child.parse().ok());
        let ticks: u32 = std::iter::once(id).chain(children).map(ticks).sum::<io::Result<u32>>()?;
        Ok(TICK * ticks)
    }
}

/// What a process has used, in the kernel and outside.
fn ticks(process: u32) -> io::Result<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // Behind the name, which is in brackets, and may have anything in it.
    let rest = stat.rsplit(')').next().unwrap_or_default();
    let times = rest.split_whitespace().skip(11).take(2);
    Ok(times.filter_map(|ticks| ticks.parse::<u32>().ok()).sum())
}

impl Drop for Member {
    fn drop(&mut self) {
        // nginx and HAProxy end their children on a signal that asks them to.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        for _ in 0..100 {
            if let Ok(Some(_)) = self.process.try_wait() {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A program of this package.
fn own(name: &str) -> io::Result<Command> {
    Ok(Command::new(std::env::current_exe()?.with_file_name(name)))
}

fn free_address() -> io::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// What it says of itself, if it is installed.
fn version(name: &str) -> Option<String> {
    let output = Command::new(name).arg("-v").output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let number =
        text.split([' ', '/']).find(|word| word.starts_with(|it: char| it.is_ascii_digit()));
    Some(format!("{name} {}", number.unwrap_or_default().trim()))
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
