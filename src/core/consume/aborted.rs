//! Leaving out the records of aborted transactions (KIP-98), by the list that a read_committed fetch comes with.

use std::collections::HashSet;

/// The aborted transactions of one answer: each producer's are open from their first offset to its next abort mark.
#[derive(Debug, Default)]
pub(crate) struct Aborted {
    /// Producer id and first offset; the next to begin is last.
    ahead: Vec<(i64, i64)>,
    open: HashSet<i64>,
}

impl Aborted {
    /// Takes the list of an answer, in any order.
    pub(crate) fn new(mut transactions: Vec<(i64, i64)>) -> Aborted {
        transactions.sort_unstable_by_key(|(_, first)| std::cmp::Reverse(*first));
        Aborted { ahead: transactions, open: HashSet::new() }
    }

    /// Whether the batch of `producer` that ends at `last_offset` belongs to an aborted transaction.
    pub(crate) fn covers(&mut self, producer: i64, last_offset: i64) -> bool {
        while let Some((producer, _)) = self.ahead.pop_if(|(_, first)| *first <= last_offset) {
            self.open.insert(producer);
        }
        self.open.contains(&producer)
    }

    /// An abort mark of `producer` was passed: what it writes next belongs to another transaction.
    pub(crate) fn on_abort_mark(&mut self, producer: i64) {
        self.open.remove(&producer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_batches_between_the_first_offset_and_the_mark_are_covered() {
        let mut aborted = Aborted::new(vec![(9, 20), (7, 5)]);
        assert!(!aborted.covers(7, 4));
        assert!(aborted.covers(7, 6));
        assert!(!aborted.covers(8, 7), "another producer");
        aborted.on_abort_mark(7);
        assert!(!aborted.covers(7, 12), "the producer's next transaction");
        assert!(aborted.covers(9, 25));
    }

    #[test]
    fn a_producer_may_abort_twice_in_one_answer() {
        let mut aborted = Aborted::new(vec![(7, 0), (7, 10)]);
        assert!(aborted.covers(7, 1));
        aborted.on_abort_mark(7);
        assert!(!aborted.covers(7, 5));
        assert!(aborted.covers(7, 11));
    }
}
