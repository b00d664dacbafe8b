//! What is measured, a file for each.

#[cfg(feature = "load")]
mod closed_loop;
#[cfg(feature = "caches")]
pub mod draws;
#[cfg(feature = "caches")]
pub mod growth;
#[cfg(feature = "caches")]
pub mod hit_ratio;
#[cfg(feature = "caches")]
pub mod in_process;
#[cfg(feature = "load")]
pub mod loopback;
#[cfg(feature = "load")]
pub mod open_loop;
#[cfg(feature = "load")]
pub mod second_tier;
#[cfg(feature = "load")]
pub mod stack;
#[cfg(feature = "load")]
pub mod stampede;
#[cfg(feature = "load")]
pub mod storm;
#[cfg(feature = "caches")]
pub mod storm_typed;
#[cfg(feature = "caches")]
pub mod trace;
#[cfg(feature = "caches")]
pub mod typed;
