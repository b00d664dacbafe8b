//! What a node did, as it tells it once the run is over: one line of text each.

use serde::{Deserialize, Serialize};
use tower_keep_store::Reach;

/// How many keys there are, and how many groups they fall into. A group is a tag.
pub const KEYS: usize = 16;
pub const GROUPS: usize = 4;

/// Nanoseconds of the machine's monotonic clock.
pub type Instant = u64;

pub const NEVER: Instant = Instant::MAX;

/// What nodes store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Value {
    pub version: u32,
    /// When a fill began to fetch it, or a caller to set it. What is only validated keeps this.
    pub as_of: Instant,
}

/// Something that a node did, or noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// A read that began at `began` returned this value of `key`.
    Read { key: usize, began: Instant, seen: Value },
    /// What a read at the very end, when all is quiet, returned.
    Last { key: usize, seen: Value },
    /// A value of `key` was set, from `called` on until `returned`.
    Set { key: usize, called: Instant, returned: Instant },
    /// An invalidation that was called at `called` and had returned at `returned`. It has been with
    /// the second tier since `spread` at the latest.
    Invalidated { scope: Scope, called: Instant, returned: Instant, spread: Instant },
    /// At `at`, the node began or ceased to be in step.
    Step { is_in: bool, at: Instant },
}

/// What an invalidation covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Key(usize),
    Group(usize),
    Everything,
}

impl Scope {
    pub fn covers(self, key: usize) -> bool {
        match self {
            Self::Key(only) => key == only,
            Self::Group(group) => key % GROUPS == group,
            Self::Everything => true,
        }
    }
}

impl Record {
    /// An invalidation that returned `reach`.
    pub fn invalidated(scope: Scope, called: Instant, returned: Instant, reach: Reach) -> Self {
        let spread = if reach == Reach::Everywhere { returned } else { NEVER };
        Self::Invalidated { scope, called, returned, spread }
    }

    pub fn to_line(self) -> String {
        match self {
            Self::Read { key, began, seen: Value { version, as_of } } => {
                format!("read {key} {began} {version} {as_of}")
            }
            Self::Last { key, seen: Value { version, as_of } } => {
                format!("last {key} {version} {as_of}")
            }
            Self::Set { key, called, returned } => format!("set {key} {called} {returned}"),
            Self::Invalidated { scope, called, returned, spread } => {
                let (kind, number) = match scope {
                    Scope::Key(key) => ("key", key),
                    Scope::Group(group) => ("group", group),
                    Scope::Everything => ("everything", 0),
                };
                format!("{kind} {number} {called} {returned} {spread}")
            }
            Self::Step { is_in, at } => format!("step {} {at}", u8::from(is_in)),
        }
    }

    pub fn from_line(line: &str) -> Self {
        let (kind, numbers) = line.split_once(' ').unwrap();
        let numbers: Vec<u64> = numbers.split(' ').map(|number| number.parse().unwrap()).collect();
        let small = |at: usize| usize::try_from(numbers[at]).unwrap();
        let seen = |at: usize| {
            let version = u32::try_from(numbers[at]).unwrap();
            Value { version, as_of: numbers[at + 1] }
        };
        let scope = match kind {
            "read" => return Self::Read { key: small(0), began: numbers[1], seen: seen(2) },
            "last" => return Self::Last { key: small(0), seen: seen(1) },
            "set" => {
                return Self::Set { key: small(0), called: numbers[1], returned: numbers[2] };
            }
            "step" => return Self::Step { is_in: numbers[0] == 1, at: numbers[1] },
            "key" => Scope::Key(small(0)),
            "group" => Scope::Group(small(0)),
            "everything" => Scope::Everything,
            kind => panic!("{kind}"),
        };
        let (called, returned, spread) = (numbers[1], numbers[2], numbers[3]);
        Self::Invalidated { scope, called, returned, spread }
    }
}
