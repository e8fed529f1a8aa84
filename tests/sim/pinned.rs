//! Worlds in which something once went wrong. A new one is added with what is mended.

use crate::world::churn::Churn;

/// Departed nodes were shown as online, because a node that had been cut off believed alone in a
/// start of theirs, because what was said against them came a moment after their last word or not
/// at all, or because nobody was left who would be believed.
#[test]
fn no_departed_node_comes_back_by_hearsay() {
    for seed in [
        15, 16, 18, 21, 27, 80, 131, 182, 187, 214, 222, 322, 399, 967, 1_060, 1_902, 2_136, 2_278,
        2_564, 3_011, 5_054, 5_397, 9_629, 13_820,
    ] {
        let found = Churn::run(seed, None);
        assert!(found.faults > 0);
        assert_eq!((found.ghosts, found.unseen), (0, 0), "seed {seed}");
    }
}

/// A few of what the benchmark `scale` runs by the thousand.
#[test]
fn a_network_in_which_all_goes_wrong_knows_who_is_there() {
    for seed in 1_000..1_012 {
        let found = Churn::run(seed, None);
        assert_eq!((found.ghosts, found.unseen), (0, 0), "seed {seed}");
    }
}
