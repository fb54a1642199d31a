//! The spool's engine on a disk that does its worst, beside a model of what it must hold.
//!
//! `INDELIBLE_SEED` replays one life, `INDELIBLE_TRACE` prints its operations, `INDELIBLE_TEST_SCALE` multiplies the
//! number of lives.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]
#![allow(clippy::disallowed_methods, reason = "a test may look at the clock")]

#[cfg(test)]
mod damage;
#[cfg(all(test, unix))]
mod directory;
pub(crate) mod fuzz;
mod generate;
#[cfg(test)]
mod life;
#[cfg(test)]
mod lives;
mod model;
#[cfg(test)]
mod stories;
