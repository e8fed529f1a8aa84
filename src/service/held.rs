//! Bytes on their way that had to wait.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};

use super::end::{CHUNKS, End, WriteFault};

/// Bytes that were read and could not be written yet, in order.
// Most often it is one piece, which then costs no allocation.
#[derive(Debug, Default)]
pub struct Held {
    /// Empty only when nothing waits.
    first: Bytes,
    rest: VecDeque<Bytes>,
}

impl Held {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// Adds bytes at the end; empty ones are dropped, since they could never be written off.
    pub fn push(&mut self, bytes: Bytes) {
        if self.first.is_empty() {
            self.first = bytes;
        } else if !bytes.is_empty() {
            self.rest.push_back(bytes);
        }
    }

    /// Everything, copied to the end of `into`.
    pub fn append_to(&self, into: &mut Vec<u8>) {
        into.reserve(self.len());
        for chunk in self.chunks() {
            into.extend_from_slice(chunk);
        }
    }

    /// Takes the first byte.
    pub fn take_u8(&mut self) -> Option<u8> {
        let byte = self.first.first().copied()?;
        self.advance(1);
        Some(byte)
    }

    /// Bytes waiting.
    pub fn len(&self) -> usize {
        self.chunks().map(Bytes::len).sum()
    }

    /// These bytes and nothing else.
    pub fn of(bytes: &[u8]) -> Self {
        let mut held = Self::default();
        held.push(Bytes::copy_from_slice(bytes));
        held
    }

    fn chunks(&self) -> impl Iterator<Item = &Bytes> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    fn advance(&mut self, mut count: usize) {
        while self.first.len() <= count {
            count -= self.first.len();
            match self.rest.pop_front() {
                Some(next) => self.first = next,
                None => {
                    self.first = Bytes::new();
                    return;
                }
            }
        }
        self.first.advance(count);
    }

    fn slices<'a>(&'a self, into: &mut [IoSlice<'a>; CHUNKS]) -> usize {
        let mut used = 0;
        for (slot, chunk) in into.iter_mut().zip(self.chunks()) {
            *slot = IoSlice::new(chunk);
            used += 1;
        }
        used
    }

    /// Writes until nothing waits.
    ///
    /// # Errors
    /// The writing side's failure; what was not written stays.
    pub fn poll_write<E: End>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut E,
    ) -> Poll<Result<(), WriteFault>> {
        while !self.is_empty() {
            let count = {
                let mut slices = [IoSlice::new(&[]); CHUNKS];
                let used = self.slices(&mut slices);
                match &slices[..used] {
                    [one] => ready!(to.poll_write(cx, one))?,
                    many => ready!(to.poll_write_vectored(cx, many))?,
                }
            };
            if count == 0 {
                return Poll::Ready(Err(WriteFault::Refused));
            }
            self.advance(count);
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_taken_off_across_chunks() {
        let mut held = Held::of(b"ab");
        held.push(Bytes::new());
        held.push(Bytes::from_static(b"cde"));
        held.push(Bytes::from_static(b"f"));
        held.advance(4);
        assert_eq!(held.len(), 2);
        assert_eq!(held.take_u8(), Some(b'e'));
        assert_eq!(held.take_u8(), Some(b'f'));
        assert!(held.is_empty() && held.take_u8().is_none());
    }
}
