//! An issuer: its keys, where they are published, and tokens.

use std::io::Write as _;
use std::sync::{Arc, Mutex};

use tower_keep::auth::{Algorithm, Grant, JwtManager, SigningKey};

use super::{Origin, PATIENCE};

pub const ISSUER: &str = "https://id.example.com";

pub struct Issuer {
    pub manager: JwtManager,
    /// Where its keys are, at `/jwks`, and at the place that `/.well-known` names.
    pub site: Origin,
    published: Arc<Mutex<Option<String>>>,
}

impl Issuer {
    pub fn new() -> Self {
        let manager = JwtManager::builder(ISSUER).key(key()).audience("orders").build().unwrap();
        let published = Arc::new(Mutex::new(Some(manager.jwks())));
        let shown = Arc::clone(&published);
        let site = Origin::new(move |head, stream| {
            let host = super::field(head, "host").unwrap();
            let set = shown.lock().unwrap().clone();
            let body = match set {
                Some(_) if head.starts_with("GET /.well-known/openid-configuration ") => {
                    format!(r#"{{"issuer":"http://{host}","jwks_uri":"http://{host}/jwks"}}"#)
                }
                Some(set) => set,
                None => {
                    return write!(stream, "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n").is_ok();
                }
            };
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
            write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()).is_ok()
        });
        Self { manager, site, published }
    }

    /// From now on; or an outage.
    pub fn publish(&self, set: Option<String>) {
        *self.published.lock().unwrap() = set;
    }

    /// Its keys as the edge fetches them.
    pub fn section(&self) -> String {
        format!(
            "[[jwt.users.issuer]]\nname = \"{ISSUER}\"\naudiences = [\"orders\"]\n\
            jwks = \"http://{}/jwks\"\nallow_http = true\n",
            self.site.address
        )
    }

    pub fn token(&self, subject: &str) -> String {
        self.issue(Grant::new(subject))
    }

    pub fn issue(&self, grant: Grant) -> String {
        self.manager.issue(grant).unwrap().token
    }

    /// How often the keys were asked for.
    pub fn asked(&self) -> usize {
        self.site.heads().len()
    }

    pub fn wait_until_asked(&self, times: usize) {
        let start = std::time::Instant::now();
        while self.asked() < times {
            assert!(start.elapsed() < PATIENCE, "the keys are not asked for");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

pub fn key() -> SigningKey {
    SigningKey::generate(Algorithm::EdDsa).unwrap()
}
