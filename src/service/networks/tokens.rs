//! Tokens as they come in. The secret of a LocalAI token is made with Argon2id, which is dear on
//! purpose: what was derived once is remembered, and two are derived at a time (security
//! amendment B17).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use tokio::sync::Semaphore;

use super::NetworksError;
use crate::formats::localai::LocalAiToken;
use crate::mesh::keys::Secret;
use crate::mesh::networks::Networks;
use crate::mesh::token::{Token, TokenKind, TokenText};

/// Secrets derived at a time; each takes 64 MiB.
pub(super) const AT_A_TIME: usize = 2;
/// Secrets remembered of tokens that are in no row.
const MAX_STRANGE: usize = 1024;

/// The hash of everything a LocalAI token says.
type Material = [u8; 32];

pub(super) struct Tokens {
    turns: Semaphore,
    /// Secrets by what they were derived from; `None` until one is asked for.
    derived: Mutex<Option<HashMap<Material, Secret>>>,
}

impl Default for Tokens {
    fn default() -> Self {
        Self {
            turns: Semaphore::new(AT_A_TIME),
            derived: Mutex::default(),
        }
    }
}

impl Tokens {
    /// The token of a text.
    pub(super) async fn read(
        &self,
        text: &str,
        networks: &Networks,
    ) -> Result<Token, NetworksError> {
        self.derive(TokenText::parse(text)?, networks).await
    }

    /// The token of a text that was checked before.
    pub(super) async fn derive(
        &self,
        text: TokenText,
        networks: &Networks,
    ) -> Result<Token, NetworksError> {
        let localai = match text {
            TokenText::Native(token) => return Ok(token),
            TokenText::LocalAi(localai) => localai,
        };
        let material = material(&localai);
        if let Some(secret) = self.known(&material, networks) {
            return Ok(Token::from_localai(localai, secret));
        }
        let turn = self.turns.acquire().await;
        let _turn = turn.map_err(|_| NetworksError::Closed)?;
        if let Some(secret) = self.known(&material, networks) {
            return Ok(Token::from_localai(localai, secret));
        }
        let token = tokio::task::spawn_blocking(move || Token::stretch(localai));
        let token = token.await.map_err(|_| NetworksError::Closed)??;
        if let Some(derived) = &mut *self.derived() {
            if derived.len() >= networks.len() + MAX_STRANGE {
                *derived = of_rows(networks);
            }
            derived.insert(material, token.secret().clone());
        }
        Ok(token)
    }

    /// The token of a text that was checked before, if that costs nothing.
    pub(super) fn at_hand(&self, text: &TokenText, networks: &Networks) -> Option<Token> {
        match text {
            TokenText::Native(token) => Some(token.clone()),
            TokenText::LocalAi(localai) => {
                let secret = self.known(&material(localai), networks)?;
                Some(Token::from_localai(localai.clone(), secret))
            }
        }
    }

    fn known(&self, material: &Material, networks: &Networks) -> Option<Secret> {
        let mut derived = self.derived();
        let derived = derived.get_or_insert_with(|| of_rows(networks));
        derived.get(material).cloned()
    }

    fn derived(&self) -> MutexGuard<'_, Option<HashMap<Material, Secret>>> {
        // Nothing that runs under this lock leaves the map half changed.
        self.derived.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was derived when the rows came in.
fn of_rows(networks: &Networks) -> HashMap<Material, Secret> {
    let tokens = networks.iter().map(|row| &row.token);
    let tokens = tokens.filter(|token| token.kind() == TokenKind::LocalAi);
    let derived = tokens.filter_map(|token| {
        let localai = LocalAiToken::parse(&token.to_text()).ok()?;
        Some((material(&localai), token.secret().clone()))
    });
    derived.collect()
}

fn material(token: &LocalAiToken) -> Material {
    let mut material = Material::default();
    material.copy_from_slice(digest(&SHA256, &token.key_material()).as_ref());
    material
}
