//! Ways of picking one of several backends: ours, and those of peers.

mod ours;
mod pingora;
mod tower;

use std::fmt;
use std::sync::Arc;

/// Does it so many times.
pub type Run = Arc<dyn Fn(u64) + Send + Sync>;

/// A way of picking a backend, and of giving it back.
#[derive(Clone)]
pub struct Way {
    /// Whose it is, and what.
    pub name: &'static str,
    /// By one thread, that has it for itself.
    pub alone: Run,
    /// By one of several threads that share it.
    pub shared: Run,
}

impl Way {
    /// A way that needs nothing more to be shared.
    fn new(name: &'static str, run: impl Fn(u64) + Send + Sync + 'static) -> Self {
        let run: Run = Arc::new(run);
        Self { name, alone: Arc::clone(&run), shared: run }
    }
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Way").field(&self.name).finish()
    }
}

/// All ways, each over `backends` backends.
///
/// # Errors
///
/// What a balancer says against its settings.
pub fn ways(backends: usize) -> Result<Vec<Way>, Box<dyn std::error::Error>> {
    let mut ways = ours::ways(backends)?;
    ways.extend(tower::ways(backends));
    ways.extend(pingora::ways(backends)?);
    Ok(ways)
}

/// The weight of a backend: 1, 2 and 3 in turn, where there are weights.
fn weight(backend: usize) -> usize {
    1 + backend % 3
}

/// A key as long as an address of IPv6, another one at each turn.
fn key(turn: u64) -> [u8; 16] {
    u128::from(turn).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_le_bytes()
}
