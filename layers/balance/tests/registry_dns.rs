//! Instances that a name server knows: a real resolver, and a server that says what a test wants.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test may panic")]

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio::time::{Instant, sleep, timeout};
use tower_keep_balance::Pool;
use tower_keep_balance::registry::{Discovery, Dns, DnsBuilder, Instance, Watch};

/// What the server does with a question.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Answers,
    NoSuchDomain,
    Fails,
    IsSilent,
    IsSilentOn(RecordType),
}

#[derive(Clone)]
struct Server {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
}

struct Zone {
    records: HashMap<(Name, RecordType), Vec<RData>>,
    ttl: u32,
    mood: Mood,
    questions: u32,
}

fn name(name: &str) -> Name {
    Name::from_ascii(name).unwrap()
}

impl Server {
    async fn start() -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let zone = Zone { records: HashMap::new(), ttl: 0, mood: Mood::Answers, questions: 0 };
        let server = Self { address: udp.local_addr().unwrap(), zone: Arc::new(Mutex::new(zone)) };
        let by_udp = server.clone();
        tokio::spawn(async move {
            let mut question = vec![0; 4096];
            loop {
                let (size, from) = udp.recv_from(&mut question).await.unwrap();
                if let Some(answer) = by_udp.answer(&question[..size], 512) {
                    udp.send_to(&answer, from).await.unwrap();
                }
            }
        });
        let by_tcp = server.clone();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = tcp.accept().await.unwrap();
                let server = by_tcp.clone();
                tokio::spawn(async move {
                    while let Ok(size) = stream.read_u16().await {
                        let mut question = vec![0; size.into()];
                        stream.read_exact(&mut question).await.unwrap();
                        if let Some(answer) = server.answer(&question, 65535) {
                            stream.write_u16(answer.len().try_into().unwrap()).await.unwrap();
                            stream.write_all(&answer).await.unwrap();
                        }
                    }
                });
            }
        });
        server
    }

    fn answer(&self, question: &[u8], most: usize) -> Option<Vec<u8>> {
        let question = Message::from_vec(question).unwrap();
        let query = question.queries[0].clone();
        let mut zone = self.zone.lock().unwrap();
        zone.questions += 1;
        let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
        answer.add_query(query.clone());
        answer.metadata.recursion_available = true;
        match zone.mood {
            Mood::IsSilent => return None,
            Mood::IsSilentOn(kind) if kind == query.query_type => return None,
            Mood::NoSuchDomain => answer.metadata.response_code = ResponseCode::NXDomain,
            Mood::Fails => answer.metadata.response_code = ResponseCode::ServFail,
            Mood::Answers | Mood::IsSilentOn(_) => {
                let key = (query.name.to_lowercase(), query.query_type);
                for data in zone.records.get(&key).into_iter().flatten() {
                    let record = Record::from_rdata(query.name.clone(), zone.ttl, data.clone());
                    answer.add_answer(record);
                }
            }
        }
        let bytes = answer.to_vec().unwrap();
        if bytes.len() <= most {
            return Some(bytes);
        }
        answer.answers.clear();
        answer.metadata.truncation = true;
        Some(answer.to_vec().unwrap())
    }

    fn set(&self, host: &str, addresses: &[&str]) {
        let addresses: Vec<IpAddr> = addresses.iter().map(|it| it.parse().unwrap()).collect();
        let v4 = addresses.iter().filter_map(|ip| match ip {
            IpAddr::V4(ip) => Some(RData::A(A(*ip))),
            IpAddr::V6(_) => None,
        });
        let v6 = addresses.iter().filter_map(|ip| match ip {
            IpAddr::V6(ip) => Some(RData::AAAA(AAAA(*ip))),
            IpAddr::V4(_) => None,
        });
        let (v4, v6) = (v4.collect(), v6.collect());
        let mut zone = self.zone.lock().unwrap();
        zone.records.insert((name(host), RecordType::A), v4);
        zone.records.insert((name(host), RecordType::AAAA), v6);
    }

    fn set_srv(&self, service: &str, records: &[(u16, u16, u16, &str)]) {
        let records = records.iter().map(|(priority, weight, port, target)| {
            RData::SRV(SRV::new(*priority, *weight, *port, name(target)))
        });
        let records = records.collect();
        self.zone.lock().unwrap().records.insert((name(service), RecordType::SRV), records);
    }

    fn is(&self, mood: Mood) {
        self.zone.lock().unwrap().mood = mood;
    }

    fn questions(&self) -> u32 {
        self.zone.lock().unwrap().questions
    }

    fn asked_by(&self, dns: DnsBuilder) -> Dns {
        let dns = dns.servers([self.address]).timeout(Duration::from_millis(200));
        dns.ttl(Duration::from_millis(20), Duration::from_secs(60)).build().unwrap()
    }
}

async fn sees(watch: &mut Watch, ids: &[&str]) {
    let mut last = None;
    let waits = async {
        loop {
            let list = watch.next().await.unwrap();
            if list.iter().map(Instance::id).collect::<Vec<_>>() == ids {
                return;
            }
            last = Some(list);
        }
    };
    timeout(Duration::from_secs(30), waits).await.unwrap_or_else(|_| panic!("{last:?}"));
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let waits = async {
        while !done() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(30), waits).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn addresses_of_both_kinds_are_instances_and_looked_up_again() {
    let server = Server::start().await;
    server.set("shop.test.", &["10.0.0.2", "10.0.0.1", "fd00::1"]);
    let dns = server.asked_by(Dns::addresses(3000));
    let found = dns.healthy("shop.test.").await.unwrap();
    assert_eq!(found[0], Instance::new("10.0.0.1:3000", "10.0.0.1:3000").meta("host", "shop.test"));
    let mut watch = dns.watch("shop.test.");
    sees(&mut watch, &["10.0.0.1:3000", "10.0.0.2:3000", "[fd00::1]:3000"]).await;
    server.set("shop.test.", &["10.0.0.3"]);
    sees(&mut watch, &["10.0.0.3:3000"]).await;
    server.set("shop.test.", &["fd00::1"]);
    sees(&mut watch, &["[fd00::1]:3000"]).await;
}

#[tokio::test]
async fn answers_that_are_too_long_for_udp_come_by_tcp() {
    let server = Server::start().await;
    let many: Vec<_> = (1..=200).map(|at| format!("10.0.1.{at}")).collect();
    server.set("shop.test.", &many.iter().map(String::as_str).collect::<Vec<_>>());
    let found = server.asked_by(Dns::addresses(80)).healthy("shop.test.").await.unwrap();
    assert_eq!(found.len(), 200);
}

#[tokio::test]
async fn trouble_of_any_kind_keeps_what_is_known() {
    let server = Server::start().await;
    server.set("shop.test.", &["10.0.0.1", "fd00::1"]);
    let known = ["10.0.0.1:80", "[fd00::1]:80"];
    let mut watch = server.asked_by(Dns::addresses(80)).watch("shop.test.");
    sees(&mut watch, &known).await;
    let moods = [
        Mood::NoSuchDomain,
        Mood::Fails,
        Mood::IsSilent,
        Mood::IsSilentOn(RecordType::A),
        Mood::IsSilentOn(RecordType::AAAA),
    ];
    for mood in moods {
        server.is(mood);
        until("it fails", || watch.error().is_some()).await;
        server.is(Mood::Answers);
        until("it works again", || watch.error().is_none()).await;
    }
    server.set("shop.test.", &[]);
    until("it has no address", || watch.error().is_some()).await;
    assert_eq!(watch.stats().updates, 1, "what was known stayed");
    server.set("shop.test.", &["10.0.0.2"]);
    sees(&mut watch, &["10.0.0.2:80"]).await;
}

#[tokio::test]
async fn a_server_without_an_answer_for_ipv6_can_be_asked_for_ipv4_only() {
    let server = Server::start().await;
    server.set("shop.test.", &["10.0.0.1", "fd00::1"]);
    server.is(Mood::IsSilentOn(RecordType::AAAA));
    let dns = server.asked_by(Dns::addresses(80).ipv4_only());
    assert_eq!(dns.healthy("shop.test.").await.unwrap().len(), 1);
    assert!(dns.healthy("a..b").await.unwrap_err().to_string().contains("no DNS name"));
}

#[tokio::test]
async fn service_records_say_port_weight_and_priority() {
    let server = Server::start().await;
    let service = "_http._tcp.shop.test.";
    server.set("a.test.", &["10.0.0.1"]);
    server.set("b.test.", &["10.0.0.2", "10.0.0.3"]);
    server.set("c.test.", &["10.0.0.4"]);
    server.set_srv(
        service,
        &[
            (10, 60, 3000, "a.test."),
            (10, 20, 3001, "b.test."),
            (20, 0, 3002, "c.test."),
            (20, 0, 3003, "gone.test."),
        ],
    );
    let dns = server.asked_by(Dns::srv());
    let pool = Pool::<SocketAddr>::builder().build().unwrap();
    let following = pool.follow(&dns, service, |instance| {
        assert!(!instance.metadata()["host"].ends_with('.'));
        instance.address().parse().map(|address| instance.backend(address))
    });
    following.ready().await;
    let known = || {
        let known = pool.status().into_iter();
        let mut known: Vec<_> =
            known.map(|it| (it.name.to_string(), it.weight, it.priority)).collect();
        known.sort();
        known
    };
    let expected = [
        ("10.0.0.1:3000", 120, 0),
        ("10.0.0.2:3001", 20, 0),
        ("10.0.0.3:3001", 20, 0),
        ("10.0.0.4:3002", 1, 1),
    ];
    assert_eq!(known(), expected.map(|(name, weight, at)| (name.to_owned(), weight, at)));
    server.set_srv(service, &[(1, 1, 3000, "a.test.")]);
    until("one is left", || known().len() == 1).await;
    // One whose addresses can't be looked up is no reason to forget it.
    server.set_srv(service, &[(1, 1, 3000, "gone.test.")]);
    until("there is no address", || following.error().is_some()).await;
    assert_eq!(known().len(), 1);
    server.set_srv(service, &[(0, 0, 0, ".")]);
    until("there is no service", || known().is_empty()).await;
}

#[tokio::test]
async fn the_time_to_live_says_when_to_look_again_within_bounds() {
    let server = Server::start().await;
    server.set("shop.test.", &["10.0.0.1"]);
    server.zone.lock().unwrap().ttl = 3600;
    let dns = Dns::addresses(80).servers([server.address]).ipv4_only();
    let dns = dns.ttl(Duration::from_millis(10), Duration::from_millis(300)).build().unwrap();
    let mut watch = dns.watch("shop.test.");
    sees(&mut watch, &["10.0.0.1:80"]).await;
    let began = Instant::now();
    server.set("shop.test.", &["10.0.0.2"]);
    sees(&mut watch, &["10.0.0.2:80"]).await;
    assert!(began.elapsed() >= Duration::from_millis(250), "{:?}", began.elapsed());
    // A second at least, whatever the records say, unless that is changed.
    let dns = Dns::addresses(80).servers([server.address]).ipv4_only().build().unwrap();
    server.zone.lock().unwrap().ttl = 0;
    drop(watch);
    sleep(Duration::from_millis(400)).await;
    let (before, began) = (server.questions(), Instant::now());
    let watch = dns.watch("shop.test.");
    until("it is looked up twice", || server.questions() >= before + 2).await;
    assert!(began.elapsed() >= Duration::from_millis(990), "{:?}", began.elapsed());
    assert_eq!(watch.stats().updates, 1);
}

#[test]
fn settings_that_cannot_work_are_refused_with_a_reason() {
    let dns = Dns::srv().servers([([127, 0, 0, 1], 53).into()]);
    let refused = |dns: DnsBuilder| dns.build().unwrap_err().to_string();
    assert!(refused(dns.clone().timeout(Duration::ZERO)).contains("timeout above zero"));
    let second = Duration::from_secs(1);
    assert!(refused(dns.clone().ttl(second * 2, second)).contains("isn't above the longest"));
}
