//! How many threads carry bytes.

use std::num::NonZeroU32;
use std::str::FromStr;
use std::thread::available_parallelism;

use warren::mesh::shard::{MAX_SHARDS, by_cores};

/// `--shards`: a number of threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shards(pub(crate) NonZeroU32);

impl Default for Shards {
    /// By the cores that this process may use.
    fn default() -> Self {
        let cores = available_parallelism().ok();
        let cores = cores.and_then(|cores| NonZeroU32::try_from(cores).ok());
        Self(by_cores(cores.unwrap_or(NonZeroU32::MIN)))
    }
}

impl FromStr for Shards {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let count = text
            .parse()
            .ok()
            .filter(|count: &NonZeroU32| count.get() <= MAX_SHARDS);
        count
            .map(Self)
            .ok_or_else(|| format!("{text:?} is not a number of threads; write 1 to {MAX_SHARDS}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_threads_are_taken_and_none_or_hundreds_are_not() {
        let read = |text: &str| text.parse::<Shards>().map(|shards| shards.0.get());
        assert_eq!((read("1"), read("64")), (Ok(1), Ok(64)));
        for wrong in ["0", "65", "-1", "two", ""] {
            assert!(read(wrong).unwrap_err().contains("1 to 64"), "{wrong:?}");
        }
        assert!(Shards::default().0.get() <= MAX_SHARDS);
    }
}
