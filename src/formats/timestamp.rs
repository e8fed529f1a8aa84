//! Moments in JSON: RFC 3339 in UTC. Reads no clock.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::error::Parse;
use time::format_description::well_known::Rfc3339;

const NANOS_PER_MS: i128 = 1_000_000;

/// A moment, in milliseconds since the Unix epoch. Its text is RFC 3339 in UTC with as many
/// digits after the second as it needs, which is what Go calls `RFC3339Nano`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The moment of `unix_ms`, where 0 means that it is not known.
    pub fn known(unix_ms: u64) -> Option<Self> {
        (unix_ms != 0).then_some(Self(unix_ms))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // RFC 3339 ends with the year 9999, and so does what `time` represents.
        let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * NANOS_PER_MS);
        let text = moment.ok().and_then(|at| at.format(&Rfc3339).ok());
        f.write_str(text.as_deref().unwrap_or("9999-12-31T23:59:59.999Z"))
    }
}

impl FromStr for Timestamp {
    type Err = Parse;
    fn from_str(text: &str) -> Result<Self, Parse> {
        let moment = OffsetDateTime::parse(text, &Rfc3339)?;
        // Go writes its zero time, in the year 1, where there is none.
        let ms = moment.unix_timestamp_nanos() / NANOS_PER_MS;
        Ok(Self(u64::try_from(ms).unwrap_or(0)))
    }
}

impl TryFrom<String> for Timestamp {
    type Error = Parse;
    fn try_from(text: String) -> Result<Self, Parse> {
        text.parse()
    }
}

impl From<Timestamp> for String {
    fn from(at: Timestamp) -> String {
        at.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_read_as_they_are_written() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_700_000_000_000, "2023-11-14T22:13:20Z"),
            (1_700_000_000_120, "2023-11-14T22:13:20.12Z"),
        ] {
            assert_eq!(Timestamp(ms).to_string(), text);
            assert_eq!(text.parse::<Timestamp>().unwrap(), Timestamp(ms));
        }
        assert_eq!(Timestamp(u64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
        let abroad = "2023-11-14T23:13:20.123456789+01:00";
        assert_eq!(
            abroad.parse::<Timestamp>().unwrap(),
            Timestamp(1_700_000_000_123)
        );
        assert_eq!(
            "0001-01-01T00:00:00Z".parse::<Timestamp>().unwrap(),
            Timestamp(0)
        );
        assert!("yesterday".parse::<Timestamp>().is_err());
    }
}
