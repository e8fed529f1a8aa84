//! Which network a node belongs to: the token given, stored, or made.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::NodeError;
use super::refusal::store_error;
use crate::mesh::keys::{Interval, Secret};
use crate::mesh::token::{Token, TokenText};
use crate::store::{StoreError, files};

/// The token given, else the stored one, else, if there are intervals for it, that of a new
/// network. It is not stored yet.
///
/// # Errors
/// `no_token`, `other_network`, or what is wrong with the token.
pub(super) async fn token(
    dir: &Path,
    given: Option<&TokenText>,
    found: Option<(Interval, Interval)>,
) -> Result<Token, NodeError> {
    let stored = files::load_token(dir).map_err(store_error)?;
    let text = match (given, &stored, found) {
        (Some(given), ..) => given.clone(),
        (None, Some(stored), _) => TokenText::parse(stored).map_err(|error| {
            let message = format!("the token stored in {}: {error}", dir.display());
            NodeError::new("usage", message).with_hint("give the right one once with --token-file")
        })?,
        (None, None, Some(intervals)) => found_network(intervals)?,
        (None, None, None) => {
            return Err(
                NodeError::new("no_token", "no token: none given, none stored")
                    .with_hint("`warren up` founds a network and prints how others join it"),
            );
        }
    };
    let token = with_secret(dir.to_owned(), text).await?;
    // A token of another network over the stored one would mix two networks' ledgers.
    if let Some(stored) = stored
        .as_deref()
        .and_then(|text| TokenText::parse(text).ok())
    {
        let stored = with_secret(dir.to_owned(), stored).await?;
        if !stored.same_network(&token) {
            let message = format!("{} belongs to another network", dir.display());
            return Err(NodeError::new("other_network", message)
                .with_hint("`warren leave` forgets the old network; or use another --data-dir"));
        }
    }
    Ok(token)
}

fn found_network((crypto, discovery): (Interval, Interval)) -> Result<TokenText, NodeError> {
    let mut seed = Zeroizing::new([0; 32]);
    aws_lc_rs::rand::fill(seed.as_mut_slice())
        .map_err(|_| NodeError::new("refused", "the operating system gives no random numbers"))?;
    let token = Token::new(Secret::new(*seed), crypto.seconds(), discovery.seconds());
    let token = token.map_err(|error| NodeError::new("usage", error.to_string()))?;
    Ok(TokenText::Native(token))
}

/// A LocalAI token's secret costs 64 MiB and a tenth of a second to derive: once per token, then
/// it is read from a file next to it.
async fn with_secret(dir: PathBuf, text: TokenText) -> Result<Token, NodeError> {
    let localai = match text {
        TokenText::Native(token) => return Ok(token),
        TokenText::LocalAi(localai) => localai,
    };
    let derive = move || {
        let mut key = [0; 32];
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, localai.text().as_bytes());
        key.copy_from_slice(hash.as_ref());
        if let Some(kept) = files::load_localai_secret(&dir, &key)? {
            return Ok(Ok(Token::from_localai(localai, Secret::new(*kept))));
        }
        let token = Token::parse(localai.text());
        if let Ok(token) = &token {
            files::save_localai_secret(&dir, &key, token.secret().expose())?;
        }
        Ok(token)
    };
    let derived: Result<Result<Token, _>, StoreError> =
        match tokio::task::spawn_blocking(derive).await {
            Ok(derived) => derived,
            Err(_) => return Err(NodeError::new("usage", "reading the token was interrupted")),
        };
    derived
        .map_err(store_error)?
        .map_err(|error| NodeError::new("usage", error.to_string()))
}
