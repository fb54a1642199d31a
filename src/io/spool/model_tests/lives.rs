//! Random lives.

use super::fuzz::Written;
use super::life::Life;
use crate::config::Durability;
use crate::io::spool::faulty::Random;
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

pub(super) fn lives(rounds: u32, mut live: impl FnMut(u64)) {
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
    lives(250, |seed| random_life(seed, Durability::PowerLoss));
}

#[test]
fn what_is_acknowledged_survives_the_process() {
    lives(150, |seed| random_life(seed, Durability::ProcessCrash));
}

/// Found by the fuzz target: a segment whose number is beyond all measure.
#[test]
fn a_number_beyond_all_measure() {
    Written::new(3).recover(&[0xfb, 0x37, 0x0b, 0xfb, 0x0b, 0xfb, 0x0b, 0xfb], |_, open| open());
}

/// Found by the fuzz target: a file that is gone, and another whose head is that of its earlier life.
#[test]
fn a_file_gone_and_a_head_of_yesterday() {
    let edits = [0x3b, 0x8e, 0, 0, 0x32, 0, 0, 0, 0xff, 0, 0, 0, 0x10, 0x6f, 0x70, 0];
    Written::new(4).recover(&edits, |_, open| open());
}

/// The fuzz target's own checks, with edits by chance.
#[test]
fn random_edits() {
    let stories: Vec<Written> = (0..2).map(Written::new).collect();
    lives(300, |seed| {
        let mut random = Random(seed);
        let edits: Vec<u8> = (0..8 * (1 + random.below(3))).map(|_| random.next() as u8).collect();
        stories[random.below(2)].recover(&edits, |_, open| open());
    });
}
