//! What is tried again, when, where, and how often; in paused time.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod attempts;
mod backends;
mod support;
mod times;
