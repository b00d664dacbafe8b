//! Whether one who takes part does what it is measured for.

use std::time::Duration;

use super::Contender;
use crate::BoxError;
use crate::ask::ask;
use crate::pipeline;
use crate::site::{PATH, Site};

/// How often a cache may ask the handler before it answers from what it has stored.
const ATTEMPTS: usize = 50;

/// Nothing else asks for this.
const ID: u64 = 4_000_000_000;

/// Its answers must have the right content, and a cache's must soon be its own.
pub(super) fn check(contender: &Contender, site: Site) -> Result<(), BoxError> {
    let path = format!("{PATH}{ID}");
    let address = &contender.member.address;
    if contender.word == "pipeline" {
        let fields = pipeline::fields()?;
        let answer = ask(address, &path, &fields.each_ref().map(String::as_str))?;
        let status = ask(address, &path, &[]).map(|it| it.head);
        return match status {
            Err(_) if !answer.body.is_empty() => Ok(()),
            _ => Err("it answers somebody without a token".into()),
        };
    }
    for _ in 0..ATTEMPTS {
        let before = contender.calls()?;
        let answer = ask(address, &path, &[])?;
        if answer.body != site.body() {
            let length = answer.body.len();
            return Err(
                format!("it sends other content, of {length} bytes: {}", answer.head).into()
            );
        }
        if !contender.is_cache || contender.calls()? == before {
            return Ok(());
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    Err("it asks the handler each time".into())
}
