//! Tokens of LocalAI and edgevpn: base64 of a YAML document (edgevpn `pkg/config`, `YAMLConnectionConfig`).
//!
//! Unknown keys are ignored, as LocalAI does. Everything else is strict, because LocalAI's own
//! reader can be crashed by a token: bounds are checked before a value is believed, and YAML's
//! ways to say one thing twice (duplicate keys, anchors, tags, merges, several documents) are
//! refused by name. This module derives nothing and keeps secrets out of its errors.

use std::fmt;

use aws_lc_rs::hmac;
use data_encoding::BASE64;
use zeroize::Zeroizing;

use crate::mesh::keys::Interval;

mod yaml;

pub use yaml::YamlError;

/// Longest key, room, rendezvous or mdns text, in bytes.
pub const MAX_TEXT_BYTES: usize = 1024;
/// Fewer characters than this in `otp.crypto.key` or `room` can be guessed.
pub const MIN_SECRET_CHARS: usize = 16;
/// Characters of base64 that an HMAC-SHA256 has: no code is longer. LocalAI panics beyond.
pub const MAX_CODE_CHARS: u32 = 44;

/// Why text is not a LocalAI token that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LocalAiError {
    /// Not standard base64 with padding.
    #[error("it is not base64")]
    Base64,
    /// The base64 does not hold text.
    #[error("inside its base64 is no UTF-8 text")]
    Utf8,
    /// The text is not the YAML that tokens are made of.
    #[error("inside its base64: {0}")]
    Yaml(#[from] YamlError),
    /// A number that is absent, not written in plain digits, or out of bounds.
    #[error("{field} must be a number from {min} to {max}")]
    Number {
        /// Dotted name of the field.
        field: &'static str,
        /// Smallest value allowed.
        min: u32,
        /// Greatest value allowed.
        max: u32,
    },
    /// A mapping or list where text belongs.
    #[error("{field} must be text")]
    NotText {
        /// Dotted name of the field.
        field: &'static str,
    },
    /// A secret that is absent or can be guessed.
    #[error("{field} has {len} characters, at least {MIN_SECRET_CHARS} are needed to be secret")]
    Weak {
        /// Dotted name of the field.
        field: &'static str,
        /// Characters given.
        len: usize,
    },
    /// A text that is too long.
    #[error("{field} is {len} bytes, at most {MAX_TEXT_BYTES} are read")]
    TooLong {
        /// Dotted name of the field.
        field: &'static str,
        /// Bytes given.
        len: usize,
    },
}

/// One rotating key of the document: `otp.crypto` or `otp.dht`.
#[derive(Clone)]
struct Otp {
    key: Zeroizing<String>,
    interval: Interval,
    length: u32,
}

/// A checked LocalAI token. Its `Debug` shows nothing of it.
#[derive(Clone)]
pub struct LocalAiToken {
    text: Zeroizing<String>,
    crypto: Otp,
    dht: Otp,
    room: Zeroizing<String>,
    rendezvous: Zeroizing<String>,
    mdns: Zeroizing<String>,
}

impl LocalAiToken {
    /// Checks a token, white space around it ignored. The caller bounds its length
    /// (`mesh::token::MAX_TOKEN_BYTES`).
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn parse(text: &str) -> Result<Self, LocalAiError> {
        let text = text.trim();
        let bytes = BASE64
            .decode(text.as_bytes())
            .map(Zeroizing::new)
            .map_err(|_| LocalAiError::Base64)?;
        let document = std::str::from_utf8(&bytes).map_err(|_| LocalAiError::Utf8)?;
        let fields = yaml::read(document)?;
        let token = Self {
            text: Zeroizing::new(text.to_owned()),
            crypto: Otp {
                key: secret_text(&fields, "otp.crypto.key")?,
                interval: interval(&fields, "otp.crypto.interval")?,
                length: number(&fields, "otp.crypto.length", 1, MAX_CODE_CHARS)?,
            },
            dht: Otp {
                key: plain_text(&fields, "otp.dht.key")?,
                interval: interval(&fields, "otp.dht.interval")?,
                length: number(&fields, "otp.dht.length", 1, MAX_CODE_CHARS)?,
            },
            room: secret_text(&fields, "room")?,
            rendezvous: plain_text(&fields, "rendezvous")?,
            mdns: plain_text(&fields, "mdns")?,
        };
        const MESSAGE_SIZE: &str = "max_message_size";
        if fields.get(MESSAGE_SIZE).is_some() {
            // Not used here; LocalAI refuses what is no number, and so the whole token.
            number(&fields, MESSAGE_SIZE, 0, i32::MAX.unsigned_abs())?;
        }
        Ok(token)
    }

    /// The token's text, without white space around it: the network's secret.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// As [`LocalAiToken::text`], taken out.
    pub fn into_text(self) -> Zeroizing<String> {
        self.text
    }

    /// `otp.crypto.interval`.
    pub fn crypto_interval(&self) -> Interval {
        self.crypto.interval
    }

    /// `otp.dht.interval`.
    pub fn discovery_interval(&self) -> Interval {
        self.dht.interval
    }

    /// Everything the token says, for the derivation of a secret (security amendment B17):
    /// `u16 length || bytes` of `otp.crypto.key`, `otp.dht.key`, `room`, `rendezvous`, `mdns`,
    /// then as u32 crypto interval and length, dht interval and length; big endian.
    pub fn key_material(&self) -> Zeroizing<Vec<u8>> {
        let texts = [
            &self.crypto.key,
            &self.dht.key,
            &self.room,
            &self.rendezvous,
            &self.mdns,
        ];
        let len: usize = texts.iter().map(|t| 2 + t.len()).sum::<usize>() + 4 * 4;
        let mut material = Zeroizing::new(Vec::with_capacity(len));
        for text in texts {
            // Lengths in front: "ab" and "c" are another token than "a" and "bc".
            let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
            material.extend_from_slice(&len.to_be_bytes());
            material.extend_from_slice(text.as_bytes());
        }
        for otp in [&self.crypto, &self.dht] {
            material.extend_from_slice(&otp.interval.seconds().to_be_bytes());
            material.extend_from_slice(&otp.length.to_be_bytes());
        }
        material
    }
}

impl fmt::Debug for LocalAiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LocalAiToken(secret)")
    }
}

fn number(
    fields: &yaml::Fields,
    field: &'static str,
    min: u32,
    max: u32,
) -> Result<u32, LocalAiError> {
    fields
        .get(field)
        .and_then(yaml::Value::as_number)
        .filter(|n| (min..=max).contains(n))
        .ok_or(LocalAiError::Number { field, min, max })
}

fn interval(fields: &yaml::Fields, field: &'static str) -> Result<Interval, LocalAiError> {
    let max = Interval::MAX_S;
    let seconds = number(fields, field, 1, max)?;
    Interval::new(seconds).map_err(|_| LocalAiError::Number { field, min: 1, max })
}

/// A text that may be absent, as in LocalAI.
fn plain_text(
    fields: &yaml::Fields,
    field: &'static str,
) -> Result<Zeroizing<String>, LocalAiError> {
    let text = match fields.get(field) {
        Some(value) => value.as_text().ok_or(LocalAiError::NotText { field })?,
        None => "",
    };
    if text.len() > MAX_TEXT_BYTES {
        let len = text.len();
        return Err(LocalAiError::TooLong { field, len });
    }
    Ok(Zeroizing::new(text.to_owned()))
}

fn secret_text(
    fields: &yaml::Fields,
    field: &'static str,
) -> Result<Zeroizing<String>, LocalAiError> {
    let text = plain_text(fields, field)?;
    let len = text.chars().count();
    if len < MIN_SECRET_CHARS {
        return Err(LocalAiError::Weak { field, len });
    }
    Ok(text)
}

/// LocalAI's rotating code at `unix_s` (seconds since the Unix epoch): the first `length`
/// characters of base64 of HMAC-SHA256 over the big-endian u64 number of the interval, keyed
/// with the text itself (edgevpn `pkg/crypto`, `TOTP`).
///
/// # Errors
/// Refuses lengths outside 1 to [`MAX_CODE_CHARS`], where LocalAI panics.
pub fn code(
    key: &str,
    interval: Interval,
    length: u32,
    unix_s: u64,
) -> Result<Zeroizing<String>, LocalAiError> {
    let (min, max) = (1, MAX_CODE_CHARS);
    let keep = usize::try_from(length)
        .ok()
        .filter(|_| (min..=max).contains(&length))
        .ok_or(LocalAiError::Number {
            field: "length",
            min,
            max,
        })?;
    let step = unix_s / u64::from(interval.seconds());
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    let mac = hmac::sign(&key, &step.to_be_bytes());
    let mut code = Zeroizing::new(BASE64.encode(mac.as_ref()));
    code.truncate(keep);
    Ok(code)
}

#[cfg(test)]
mod tests;
