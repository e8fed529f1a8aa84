//! The key that requests must carry where the operator asks for one.

use zeroize::Zeroizing;

/// Shortest key: what is shorter can be guessed.
const MIN_BYTES: usize = 16;
/// Longest key that is read, in bytes.
const MAX_BYTES: usize = 512;

/// Not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key has {MIN_BYTES} to {MAX_BYTES} visible ASCII characters, without spaces")]
pub struct KeyError;

/// What admits a request. It has no `Debug` and is wiped when dropped.
#[derive(Clone)]
pub struct Key(Zeroizing<String>);

impl Key {
    /// A key of this text.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn new(text: &str) -> Result<Self, KeyError> {
        let fits = (MIN_BYTES..=MAX_BYTES).contains(&text.len());
        match fits && text.bytes().all(|b| b.is_ascii_graphic()) {
            true => Ok(Self(Zeroizing::new(format!("Bearer {text}")))),
            false => Err(KeyError),
        }
    }

    /// Whether the `Authorization` header carries this key. Takes the same time wherever they
    /// differ.
    pub(super) fn admits(&self, header: &[u8]) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(self.0.as_bytes(), header).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_itself_is_admitted() {
        let key = Key::new("0123456789abcdef").ok().unwrap();
        assert!(key.admits(b"Bearer 0123456789abcdef"));
        for other in [
            "",
            "Bearer ",
            "Bearer 0123456789abcdeF",
            "Bearer 0123456789abcdef ",
            "0123456789abcdef",
        ] {
            assert!(!key.admits(other.as_bytes()), "{other}");
        }
        for bad in ["", "short", "0123456789 abcdef", "0123456789abcde\u{e4}"] {
            assert!(Key::new(bad).is_err(), "{bad}");
        }
    }
}
