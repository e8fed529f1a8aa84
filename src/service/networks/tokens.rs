//! Tokens as they come in. The secret of a LocalAI token is made with Argon2id, which is dear on
//! purpose: what was derived once is remembered, and two are derived at a time (security
//! amendment B17).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use tokio::sync::Semaphore;

use super::NetworksError;
use crate::mesh::keys::Secret;
use crate::mesh::networks::Networks;
use crate::mesh::token::{Token, TokenKind, TokenText};

/// Secrets derived at a time; each takes 64 MiB.
pub(super) const AT_A_TIME: usize = 2;
/// Secrets remembered of tokens that are in no row.
const MAX_STRANGE: usize = 1024;

/// The hash of a token's text. Another spelling is derived again, which is cheaper than to read
/// the YAML of every row to know it.
type TextHash = [u8; 32];

pub(super) struct Tokens {
    turns: Semaphore,
    /// Secrets by the text they were derived from; `None` until one is asked for.
    derived: Mutex<Option<HashMap<TextHash, Secret>>>,
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
        let hash = hash(localai.text());
        if let Some(secret) = self.known(&hash, networks) {
            return Ok(Token::from_localai(localai, secret));
        }
        let turn = self.turns.acquire().await;
        let _turn = turn.map_err(|_| NetworksError::Closed)?;
        if let Some(secret) = self.known(&hash, networks) {
            return Ok(Token::from_localai(localai, secret));
        }
        let token = tokio::task::spawn_blocking(move || Token::stretch(localai));
        let token = token.await.map_err(|_| NetworksError::Closed)??;
        if let Some(derived) = &mut *self.derived() {
            if derived.len() >= networks.len() + MAX_STRANGE {
                *derived = of_rows(networks);
            }
            derived.insert(hash, token.secret().clone());
        }
        Ok(token)
    }

    /// The token of a text that was checked before, if that costs nothing.
    pub(super) fn at_hand(&self, text: &TokenText, networks: &Networks) -> Option<Token> {
        match text {
            TokenText::Native(token) => Some(token.clone()),
            TokenText::LocalAi(localai) => {
                let secret = self.known(&hash(localai.text()), networks)?;
                Some(Token::from_localai(localai.clone(), secret))
            }
        }
    }

    fn known(&self, hash: &TextHash, networks: &Networks) -> Option<Secret> {
        let mut derived = self.derived();
        let derived = derived.get_or_insert_with(|| of_rows(networks));
        derived.get(hash).cloned()
    }

    fn derived(&self) -> MutexGuard<'_, Option<HashMap<TextHash, Secret>>> {
        // Nothing that runs under this lock leaves the map half changed.
        self.derived.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was derived when the rows came in.
fn of_rows(networks: &Networks) -> HashMap<TextHash, Secret> {
    let tokens = networks.iter().map(|row| &row.token);
    let tokens = tokens.filter(|token| token.kind() == TokenKind::LocalAi);
    let derived = tokens.map(|token| (hash(&token.to_text()), token.secret().clone()));
    derived.collect()
}

fn hash(text: &str) -> TextHash {
    let mut hash = TextHash::default();
    hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    hash
}
