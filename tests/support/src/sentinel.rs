//! A Redis primary with replicas, and the sentinels that watch over them, which belong to one test.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;

use crate::redis::{ATTEMPTS, RedisServer, in_memory, random_port};
use crate::resp::Reply;
use crate::wait::until;

const SERVERS: usize = 3;
const SENTINELS: usize = 3;

/// What the sentinels call the primary.
const NAME: &str = "main";

/// A primary with two replicas and three sentinels, all of them [servers](RedisServer) that can be
/// killed, frozen and restarted.
///
/// Server 0 begins as the primary. A primary that is silent for a second is replaced within a few.
#[derive(Debug)]
pub struct RedisSentinel {
    servers: Vec<RedisServer>,
    sentinels: Vec<RedisServer>,
}

impl RedisSentinel {
    /// Starts all of them and waits until they know each other. Panics when that fails.
    pub async fn start() -> Self {
        for _ in 0..ATTEMPTS {
            let mut all = Self::prepare();
            all.introduce();
            if all.launch().await {
                all.whole().await;
                return all;
            }
        }
        panic!("a Redis server exited at once, {ATTEMPTS} times");
    }

    /// The address in the form that clients take. It names all sentinels.
    pub fn url(&self) -> String {
        let nodes: Vec<_> =
            self.sentinels.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        let nodes = nodes.join("&node=");
        // The first `&` begins the parameters.
        let nodes = nodes.replacen('&', &format!("?sentinelServiceName={NAME}&"), 1);
        format!("redis-sentinel://{nodes}")
    }

    /// A server, by its number.
    pub fn server(&self, server: usize) -> &RedisServer {
        &self.servers[server]
    }

    /// The same, to be killed or restarted.
    pub fn server_mut(&mut self, server: usize) -> &mut RedisServer {
        &mut self.servers[server]
    }

    /// A sentinel, by its number.
    pub fn sentinel_mut(&mut self, sentinel: usize) -> &mut RedisServer {
        &mut self.sentinels[sentinel]
    }

    /// Which server is the primary, if all sentinels that run agree and it says so itself.
    pub async fn primary(&self) -> Option<usize> {
        let mut primary = None;
        for sentinel in self.sentinels.iter().filter(|sentinel| sentinel.is_running()) {
            let args = [&b"SENTINEL"[..], b"GET-MASTER-ADDR-BY-NAME", NAME.as_bytes()];
            let Reply::Array(address) = sentinel.command(&args).await else { return None };
            let [_, Reply::Bytes(port)] = &address[..] else { return None };
            let named = self.servers.iter().position(|s| s.port().to_string().as_bytes() == port);
            if primary.is_some() && primary != named {
                return None;
            }
            primary = named;
        }
        let server = &self.servers[primary?];
        let is_up = server.is_running() && !server.is_paused();
        (is_up && info(server).await.contains("role:master")).then_some(primary?)
    }

    /// Lets the sentinels replace the primary though nothing is wrong with it.
    pub async fn fail_over(&self) {
        let args = [&b"SENTINEL"[..], b"FAILOVER", NAME.as_bytes()];
        assert_eq!(self.sentinels[0].command(&args).await, Reply::Bytes(b"OK".into()));
    }

    /// Waits until another server than `old` is the primary, and returns it.
    pub async fn failed_over(&self, old: usize) -> usize {
        until("a replica takes over", async || {
            self.primary().await.is_some_and(|primary| primary != old)
        })
        .await;
        self.primary().await.expect("it has just been there")
    }

    /// Waits until every replica that runs follows the primary, and the sentinels know of all.
    pub async fn whole(&self) {
        until("the replicas follow and the sentinels know", async || {
            let Some(primary) = self.primary().await else { return false };
            for (number, server) in self.servers.iter().enumerate() {
                if number != primary && !info(server).await.contains("master_link_status:up") {
                    return false;
                }
            }
            true
        })
        .await;
    }

    fn prepare() -> Self {
        let servers: Vec<_> = (0..SERVERS).map(|_| random_port()).collect();
        let primary = servers[0].to_string();
        let server = |port: u16| {
            let mut args = in_memory();
            args.extend(["--repl-diskless-sync-delay", "0"].map(OsString::from));
            if port != servers[0] {
                args.extend(["--replicaof", "127.0.0.1", &primary].map(OsString::from));
            }
            RedisServer::prepare(port, args)
        };
        let sentinels = (0..SENTINELS).map(|_| {
            // Its file stands first; where it lies is known only once there is a directory.
            RedisServer::prepare(random_port(), Vec::new())
        });
        Self {
            servers: servers.iter().copied().map(server).collect(),
            sentinels: sentinels.collect(),
        }
    }

    /// Lets the sentinels know of each other and of the replicas before they start: finding out
    /// takes them seconds.
    fn introduce(&mut self) {
        let ports: Vec<_> = self.sentinels.iter().map(RedisServer::port).collect();
        let [primary, replicas @ ..] = &self.servers[..] else { unreachable!("there are three") };
        let mut shared = format!("sentinel monitor {NAME} 127.0.0.1 {} 2\n", primary.port());
        for setting in ["down-after-milliseconds", "failover-timeout"] {
            let millis = if setting.starts_with("down") { 1000 } else { 5000 };
            writeln!(shared, "sentinel {setting} {NAME} {millis}").expect("a string grows");
        }
        for replica in replicas {
            let port = replica.port();
            writeln!(shared, "sentinel known-replica {NAME} 127.0.0.1 {port}").expect("the same");
        }
        for (own, sentinel) in self.sentinels.iter_mut().enumerate() {
            let mut settings = format!("sentinel myid {}\n{shared}", id(own));
            for (other, port) in ports.iter().enumerate().filter(|(other, _)| *other != own) {
                let line = format!("sentinel known-sentinel {NAME} 127.0.0.1 {port}");
                writeln!(settings, "{line} {}", id(other)).expect("the same");
            }
            let file = sentinel.dir().join("sentinel.conf");
            fs::write(&file, settings).expect("the sentinel's file");
            sentinel.set_args(vec![file.into(), "--sentinel".into()]);
        }
    }

    async fn launch(&mut self) -> bool {
        for server in self.servers.iter_mut().chain(&mut self.sentinels) {
            if !server.try_launch().await {
                return false;
            }
        }
        true
    }
}

/// The name of a sentinel among the others.
fn id(sentinel: usize) -> String {
    format!("{:040x}", sentinel + 1)
}

async fn info(server: &RedisServer) -> String {
    match server.command(&[b"INFO", b"replication"]).await {
        Reply::Bytes(info) => String::from_utf8_lossy(&info).into_owned(),
        reply => panic!("{reply:?}"),
    }
}
