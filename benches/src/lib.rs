//! What the benches share: the hot paths, each defined once, and ways of measuring them.

#[cfg(feature = "allocations")]
mod compare;
pub mod hot;
mod way;

#[cfg(feature = "allocations")]
pub use compare::{Cost, compare, compare_in, print_table};
pub use way::{Way, With, counted};
