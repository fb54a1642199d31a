//! The spool's engine on a disk that does its worst, beside a model of what it must hold.
//!
//! `INDELIBLE_SEED` replays one life, `INDELIBLE_TRACE` prints its operations, `INDELIBLE_TEST_SCALE` multiplies the
//! number of lives.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]
#![allow(clippy::disallowed_methods, reason = "a test may look at the clock")]

mod damage;
#[cfg(unix)]
mod directory;
mod generate;
mod life;
mod model;
mod stories;

use super::faulty::Random;
use crate::config::Durability;
use life::Life;
use proto_tests::real::scaled;
use std::time::{SystemTime, UNIX_EPOCH};

/// Tells the seed of a life that ends badly.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("INDELIBLE_SEED={}", self.0);
        }
    }
}

fn lives(rounds: u32, mut live: impl FnMut(u64)) {
    let given = std::env::var("INDELIBLE_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let mut random = Random(now);
    for _ in 0..if given.is_some() { 1 } else { scaled(rounds) } {
        let seed = Seed(given.unwrap_or_else(|| random.next()));
        live(seed.0);
    }
}

fn random_life(seed: u64, durability: Durability) {
    let mut life = Life::new(seed, durability);
    if life.random.chance(10) {
        // Larger than a quarter of a segment: they do not fill segments evenly.
        life.generator.largest = 20_000;
        life.generator.backlog = 12;
    }
    for _ in 0..20 + life.random.below(40) {
        if life.random.chance(25) {
            life.disturb();
        }
        match life.random.below(100) {
            0..=64 => life.commit(),
            65..=79 => life.maintain(),
            80..=89 => life.read_some(),
            90..=93 => life.close(),
            _ => life.crash(),
        }
        if life.random.chance(30) {
            life.heal();
        }
    }
    life.heal();
    life.crash();
}

#[test]
fn what_is_acknowledged_survives_power_cuts() {
    lives(1000, |seed| random_life(seed, Durability::PowerLoss));
}

#[test]
fn what_is_acknowledged_survives_the_process() {
    lives(500, |seed| random_life(seed, Durability::ProcessCrash));
}
