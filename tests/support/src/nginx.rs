//! An nginx process that belongs to one test.

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, iter};

use rustix::process::Pid;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::process::Process;
use crate::redis::{ATTEMPTS, random_port};

/// A server that doesn't answer for so long never will.
const PATIENCE: Duration = Duration::from_secs(10);

/// An nginx server on a port of its own, in one process.
///
/// Whatever state it is in, dropping it kills the process and removes its directory.
#[derive(Debug)]
pub struct NginxServer {
    // Before `dir`, so that the process is gone when its directory is removed.
    process: Option<Process>,
    port: u16,
    dir: TempDir,
    server: String,
}

impl NginxServer {
    /// Starts a server and waits until it answers. `server` is what its `server` block has beside its
    /// port: locations, mostly.
    ///
    /// The program is the one that `NGINX` names, else `nginx`. Panics when there is none.
    pub async fn start(server: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory for nginx");
        let mut nginx = Self { process: None, port: 0, dir, server: server.to_owned() };
        for port in iter::repeat_with(random_port).take(ATTEMPTS) {
            nginx.port = port;
            if nginx.launch().await {
                return nginx;
            }
        }
        panic!("nginx exited at once, {ATTEMPTS} times; its last words:\n{}", nginx.log());
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The lines of its access log so far: a request each, as in `POST /orders/7`, written when it has
    /// been answered.
    pub fn requests(&self) -> Vec<String> {
        let log = fs::read_to_string(self.dir.path().join("access.log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    /// Ends it, as a crash would. Its connections are reset.
    pub fn kill(&mut self) {
        drop(self.process.take());
    }

    /// Starts it again on its port, and waits until it answers.
    pub async fn restart(&mut self) {
        self.kill();
        for _ in 0..ATTEMPTS {
            if self.launch().await {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
        panic!("nginx doesn't start again; its last words:\n{}", self.log());
    }

    /// Freezes it. The kernel goes on accepting connections for it.
    pub fn pause(&self) {
        self.process().pause();
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.process().resume();
    }

    fn process(&self) -> &Process {
        self.process.as_ref().expect("nginx was killed")
    }

    /// Says whether it runs now; it exits when its port is taken.
    async fn launch(&mut self) -> bool {
        fs::write(self.dir.path().join("nginx.conf"), self.config()).expect("its configuration");
        let program = env::var_os("NGINX").filter(|program| !program.is_empty());
        let output = File::create(self.dir.path().join("output.log")).expect("a log for nginx");
        let spawned = Command::new(program.unwrap_or_else(|| "nginx".into()))
            .arg("-p")
            .arg(self.dir.path())
            .args(["-c", "nginx.conf", "-e", "error.log"])
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a log for nginx"))
            .stderr(output)
            .spawn();
        let child = spawned.unwrap_or_else(|error| {
            panic!(
                "nginx doesn't start: {error}. `scripts/test` installs it and runs the tests; NGINX \
                 can name one that is not on PATH."
            )
        });
        let mut process = Process(child);
        let deadline = Instant::now() + PATIENCE;
        while process.0.try_wait().expect("the state of nginx").is_none() {
            if self.answers(process.pid()).await {
                self.process = Some(process);
                return true;
            }
            assert!(Instant::now() < deadline, "nginx doesn't answer; its log:\n{}", self.log());
            sleep(Duration::from_millis(10)).await;
        }
        false
    }

    /// Whether it is this process that answers, and not another one that has the same port.
    async fn answers(&self, pid: Pid) -> bool {
        let asked = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
            let ask = b"GET /pid-of-this-nginx HTTP/1.0\r\n\r\n";
            stream.write_all(ask).await.ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.ok()?;
            Some(answer.ends_with(&format!("\r\n\r\npid {pid}")))
        };
        timeout(Duration::from_secs(1), asked).await.ok().flatten().unwrap_or(false)
    }

    fn config(&self) -> String {
        let (port, server) = (self.port, &self.server);
        format!(
            "daemon off; master_process off; pid nginx.pid; worker_rlimit_nofile 4096;
            events {{ worker_connections 1024; }}
            http {{
                log_format short '$request_method $request_uri';
                access_log access.log short;
                client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
                uwsgi_temp_path uwsgi; scgi_temp_path scgi;
                server {{
                    listen 127.0.0.1:{port};
                    location = /pid-of-this-nginx {{ access_log off; return 200 'pid $pid'; }}
                    {server}
                }}
            }}"
        )
    }

    fn log(&self) -> String {
        let read = |name| fs::read_to_string(self.dir.path().join(name)).unwrap_or_default();
        format!("{}{}", read("output.log"), read("error.log"))
    }
}
