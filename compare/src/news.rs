//! What goes over the broadcast tree, at the size it has when its author signs it.

use crate::Result;
use crate::candidate::ENTRY_BYTES;

/// Kind, accused, its boot and incarnation, accuser, signature.
const SUSPICION_BYTES: usize = 1 + 32 + 8 + 4 + 32 + 64;
/// Kind, author, its boot and incarnation, state, signature.
const STATEMENT_BYTES: usize = 1 + 32 + 8 + 4 + 1 + 64;

/// What is broadcast; the rest of its bytes are zeros.
pub(crate) enum News {
    Entry(u32),
    Suspicion {
        about: usize,
        incarnation: u32,
        by: usize,
    },
    Alive {
        about: usize,
        incarnation: u32,
    },
    Leave {
        about: usize,
    },
}

impl News {
    pub(crate) fn write(&self) -> Result<Vec<u8>> {
        let (bytes, fields) = match *self {
            Self::Entry(number) => (ENTRY_BYTES, [0, number, 0, 0]),
            Self::Suspicion {
                about,
                incarnation,
                by,
            } => (
                SUSPICION_BYTES,
                [1, u32::try_from(about)?, incarnation, u32::try_from(by)?],
            ),
            Self::Alive { about, incarnation } => {
                (STATEMENT_BYTES, [2, u32::try_from(about)?, incarnation, 0])
            }
            Self::Leave { about } => (STATEMENT_BYTES, [3, u32::try_from(about)?, 0, 0]),
        };
        let mut out: Vec<u8> = fields
            .iter()
            .flat_map(|field| field.to_be_bytes())
            .collect();
        out.resize(bytes, 0);
        Ok(out)
    }

    pub(crate) fn read(content: &[u8]) -> Option<Self> {
        let (fields, _) = content.as_chunks::<4>();
        let [kind, first, second, third] = *fields.first_chunk::<4>()?;
        let first = u32::from_be_bytes(first);
        let incarnation = u32::from_be_bytes(second);
        let about = first as usize;
        Some(match u32::from_be_bytes(kind) {
            0 => Self::Entry(first),
            1 => Self::Suspicion {
                about,
                incarnation,
                by: u32::from_be_bytes(third) as usize,
            },
            2 => Self::Alive { about, incarnation },
            3 => Self::Leave { about },
            _ => return None,
        })
    }
}
