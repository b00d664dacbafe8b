//! Servers that are measured side by side.

use std::fs;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::BoxError;

/// The core of the servers.
pub const CORE: &str = "0";

/// The core of the load, and of what isn't measured.
pub const OTHER_CORE: &str = "1";

/// What the kernel counts processor time in (`USER_HZ`, the same on all of Linux).
const TICK: Duration = Duration::from_millis(10);

/// A server, in a process of its own that ends when this is dropped.
#[derive(Debug)]
pub struct Member {
    /// What it is called here.
    pub name: &'static str,
    /// With its version.
    pub what: String,
    /// Where it listens.
    pub address: String,
    process: Child,
}

impl Member {
    /// Starts it on a core, and waits until it listens.
    ///
    /// # Errors
    ///
    /// If it can't be started, ends, or doesn't listen within five seconds.
    pub fn launch(
        name: &'static str,
        what: String,
        address: String,
        core: &str,
        command: &mut Command,
    ) -> Result<Self, BoxError> {
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
    ///
    /// # Errors
    ///
    /// If it is gone.
    pub fn processor_time(&self) -> io::Result<Duration> {
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
        if let Ok(Some(_)) = self.process.try_wait() {
            return;
        }
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
///
/// # Errors
///
/// If nobody knows where this one lies.
pub fn own(name: &str) -> io::Result<Command> {
    Ok(Command::new(std::env::current_exe()?.with_file_name(name)))
}

/// Where nobody listens.
///
/// # Errors
///
/// If there is no such place.
pub fn free_address() -> io::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// What a program says of itself, if it is installed.
pub fn version(name: &str) -> Option<String> {
    let flag = if name == "varnishd" { "-V" } else { "-v" };
    let output = Command::new(name).arg(flag).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    // "nginx/1.22.1", "varnishd (varnish-7.1.1 revision", "wrk debian/4.1.0", "Redis server v=7.0.15"
    let mut words = text.split([' ', '/', '-', '=']);
    let number =
        words.find(|word| word.contains('.') && word.starts_with(|it: char| it.is_ascii_digit()));
    Some(format!("{name} {}", number.unwrap_or_default().trim()))
}
