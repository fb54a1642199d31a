//! Which versions of which APIs the brokers offer: as Apache Kafka 4.x, as far as the message types go.

use crate::fake::state::State;

/// (API key, lowest, highest version).
const RANGES: [(i16, i16, i16); 26] = [
    (0, 3, 13),
    (1, 4, 17),
    (2, 1, 10),
    (3, 0, 13),
    (8, 2, 9),
    (9, 1, 9),
    (10, 0, 5),
    (11, 0, 9),
    (12, 0, 4),
    (13, 0, 5),
    (14, 0, 5),
    (15, 0, 6),
    (16, 0, 5),
    (17, 0, 1),
    (18, 0, 4),
    (19, 2, 7),
    (20, 1, 6),
    (21, 0, 2),
    (22, 0, 5),
    (23, 2, 4),
    (32, 1, 4),
    (36, 0, 2),
    (42, 0, 2),
    (61, 0, 0),
    (68, 0, 1),
    (69, 0, 1),
];

/// The ranges with the limits that a test has set.
pub(crate) fn offered(state: &State) -> Vec<(i16, i16, i16)> {
    let limited = |(key, min, max): (i16, i16, i16)| {
        let max = state.settings.max_versions.get(&key).map_or(max, |limit| max.min(*limit));
        (min <= max).then_some((key, min, max))
    };
    RANGES.into_iter().filter_map(limited).collect()
}

pub(crate) fn offers(state: &State, key: i16, version: i16) -> bool {
    offered(state).iter().any(|(known, min, max)| *known == key && (*min..=*max).contains(&version))
}
