//! The secret of a LocalAI token (B17). Its keys come from a generator that is not meant for
//! cryptography and every knock can be tested against a guess offline, so each guess is made dear.

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

use super::TokenError;
use crate::formats::localai::LocalAiToken;
use crate::mesh::keys::Secret;

const SALT: &[u8] = b"warren/1 localai\0";
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 1;

/// Argon2id over everything the token says. Costs 64 MiB and about 0.1 s.
pub(super) fn secret_of(token: &LocalAiToken) -> Result<Secret, TokenError> {
    let failed = |error: argon2::Error| TokenError::Stretch(error.to_string());
    let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(32)).map_err(failed)?;
    let mut secret = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(&token.key_material(), SALT, secret.as_mut())
        .map_err(failed)?;
    Ok(Secret::new(*secret))
}
