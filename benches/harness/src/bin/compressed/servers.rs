//! The servers, each a process of its own, and the ways in which they are asked for the page.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use harness::BoxError;
use harness::ask::ask;
use harness::member::{CORE, Member, free_address, own, version};
use harness::page::{LEN, PAGE, SHORT};
use harness::products::json;
use harness::wrk::load;
use tower_keep_compress::{Encoding, Levels, encode_all};

/// How a server is asked.
pub(super) struct Way {
    pub(super) what: String,
    /// The others are compared with this one.
    pub(super) is_base: bool,
    server: &'static str,
    path: &'static str,
    coding: Option<&'static str>,
}

/// What came of one request.
pub(super) struct Sent {
    coding: Option<String>,
    /// So many bytes of content, and of what divides it into chunks.
    pub(super) len: usize,
}

pub(super) struct Servers {
    members: Vec<Member>,
    pub(super) ways: Vec<Way>,
    pub(super) missing: Option<&'static str>,
}

impl Servers {
    /// Starts them. They do nothing until they are asked.
    pub(super) fn launch() -> Result<Self, BoxError> {
        let mut members = Vec::new();
        for kind in ["bare", "cache", "forms", "each", "tower-http"] {
            let address = free_address()?;
            let mut command = own("page")?;
            command.arg(kind).arg(&address);
            members.push(Member::launch(kind, kind.to_owned(), address, CORE, &mut command)?);
        }
        let way = |what: &str, server, path, coding| Way {
            what: what.to_owned(),
            is_base: false,
            server,
            path,
            coding,
        };
        let mut ways = vec![
            way("the bare handler, plain", "bare", PAGE, None),
            Way { is_base: true, ..way("`CacheLayer`, a hit, plain", "cache", PAGE, None) },
            way("the same of something as short as the form in br", "cache", SHORT, None),
            way("`CacheLayer` with forms, a hit, plain", "forms", PAGE, None),
            way("the same, its form in br", "forms", PAGE, Some("br")),
            way("the same, its form in gzip", "forms", PAGE, Some("gzip")),
            way("`CompressLayer` around the handler, br", "each", PAGE, Some("br")),
            way("the same, gzip", "each", PAGE, Some("gzip")),
            way("tower-http's `CompressionLayer`, br", "tower-http", PAGE, Some("br")),
            way("the same, gzip", "tower-http", PAGE, Some("gzip")),
        ];
        let mut missing = None;
        if let Some(version) = version("nginx") {
            let address = free_address()?;
            let mut command = nginx(&address)?;
            members.push(Member::launch("nginx", version.clone(), address, CORE, &mut command)?);
            let nginx = |what: &str, path, coding| {
                way(&format!("{version}, {what}"), "nginx", path, coding)
            };
            ways.extend([
                nginx("a file, plain", "/plain/page.json", None),
                nginx("`gzip`", "/gzip/page.json", Some("gzip")),
                nginx("`gzip_static`", "/static/page.json", Some("gzip")),
            ]);
        } else {
            missing = Some("nginx");
        }
        Ok(Self { members, ways, missing })
    }

    /// Who is asked.
    pub(super) fn of(&self, way: &Way) -> &Member {
        let found = self.members.iter().find(|member| member.name == way.server);
        found.unwrap_or(&self.members[0])
    }

    pub(super) fn url(&self, way: &Way) -> String {
        format!("http://{}{}", self.of(way).address, way.path)
    }

    /// Asks until the answer is in its coding, and as dense as it gets.
    pub(super) fn warm(&self, way: &Way, connections: u32) -> Result<(), BoxError> {
        for _ in 0..10 {
            let before = self.ask(way)?;
            load(&self.url(way), &way.fields(), Duration::from_secs(1), connections)?;
            let sent = self.ask(way)?;
            if sent.coding.as_deref() == way.coding && sent.len == before.len {
                return Ok(());
            }
        }
        Err(format!("{} never comes in {:?}", way.what, way.coding).into())
    }

    /// Asks once.
    pub(super) fn ask(&self, way: &Way) -> Result<Sent, BoxError> {
        let answer = ask(&self.of(way).address, way.path, &way.fields())?;
        let coding = answer.field("content-encoding").map(ToOwned::to_owned);
        Ok(Sent { coding, len: answer.body.len() })
    }
}

impl Way {
    /// What is in the head of the request.
    pub(super) fn fields(&self) -> Vec<&'static str> {
        match self.coding {
            Some("br") => vec!["accept-encoding: br"],
            Some(_) => vec!["accept-encoding: gzip"],
            None => Vec::new(),
        }
    }
}

/// Its configuration, and the files that it serves.
fn nginx(address: &str) -> Result<Command, BoxError> {
    let folder = std::env::temp_dir().join(format!("harness-page-{}", std::process::id()));
    let page = json(LEN);
    let gzip = encode_all(&page, Encoding::Gzip, Levels::stored().of(Encoding::Gzip))?;
    for kind in ["plain", "gzip", "static"] {
        let files = folder.join("files").join(kind);
        fs::create_dir_all(&files)?;
        fs::write(files.join("page.json"), &page)?;
    }
    fs::write(folder.join("files/static/page.json.gz"), gzip)?;
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/nginx-page.conf");
    let text = fs::read_to_string(config)?
        .replace("{{folder}}", &folder.display().to_string())
        .replace("{{address}}", address);
    fs::write(folder.join("nginx.conf"), text)?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(&folder).arg("-c").arg(folder.join("nginx.conf"));
    Ok(command)
}
