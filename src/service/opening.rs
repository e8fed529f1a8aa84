//! The first bytes of a stream that a peer opened.

use quinn::RecvStream;
use tokio::time::timeout;

use super::refused::{HEADER_LIMIT, ServeError};
use crate::mesh::stream::{MAX_HEADER_BYTES, Opening};

/// Reads exactly what says what a stream is for: what follows stays in the stream.
///
/// # Errors
/// [`ServeError::NoHeader`], [`ServeError::Header`]; the stream is left as it is.
pub async fn read_opening(recv: &mut RecvStream) -> Result<Opening, ServeError> {
    let mut bytes = [0; MAX_HEADER_BYTES];
    let reading = async {
        let mut have = 0;
        let mut want = Opening::wanted(&[]);
        loop {
            let part = bytes.get_mut(have..want).ok_or(ServeError::NoHeader)?;
            let read = recv.read_exact(part).await;
            read.map_err(|_| ServeError::NoHeader)?;
            have = want;
            if let Some((opening, _)) = Opening::decode(&bytes[..have])? {
                return Ok(opening);
            }
            want = Opening::wanted(&bytes[..have]);
        }
    };
    timeout(HEADER_LIMIT, reading)
        .await
        .map_err(|_| ServeError::NoHeader)?
}
