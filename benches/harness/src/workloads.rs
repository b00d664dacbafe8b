//! What is measured, a file for each.

pub mod draws;
pub mod growth;
pub mod hit_ratio;
pub mod in_process;
pub mod typed;
