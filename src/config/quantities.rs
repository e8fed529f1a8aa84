//! Durations, sizes and rates as people write them. Every refusal says what is expected.

use std::str::FromStr;
use std::time::Duration;

use warren::mesh::window::MIN_BUDGET;

/// A duration: `500ms`, `30s`, `2m`, `1h`, or such parts in a row as Go writes them, `1m30s`; a bare
/// number counts seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a duration; write 500ms, 30s, 2m or 1h");
        let is_bare = text.bytes().all(|b| b.is_ascii_digit());
        let bare = format!("{text}s");
        let mut rest = if is_bare { bare.as_str() } else { text };
        let mut millis: u64 = 0;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, behind) = rest.split_at(digits);
            let letters = behind.bytes().take_while(u8::is_ascii_lowercase).count();
            let (unit, next) = behind.split_at(letters);
            let number: u64 = number.parse().map_err(|_| wrong())?;
            let millis_per_unit = match unit {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                _ => return Err(wrong()),
            };
            let part = number.checked_mul(millis_per_unit).ok_or_else(wrong)?;
            millis = millis.checked_add(part).ok_or_else(wrong)?;
            rest = next;
        }
        Ok(Self(Duration::from_millis(millis)))
    }
}

/// How often somebody may do something: so many times in a second, or `off` for any number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct PerSecond(pub(crate) Option<f64>);

impl FromStr for PerSecond {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        let rate = text.parse().ok().filter(|rate| (1e-6..=1e6).contains(rate));
        match rate {
            Some(rate) => Ok(Self(Some(rate))),
            None => Err(format!(
                "{text:?} is not a number of times in a second; write 1, 0.1 or off"
            )),
        }
    }
}

/// A duration, or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpanOrOff(pub(crate) Option<Duration>);

impl FromStr for SpanOrOff {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        let span = text.parse::<Span>();
        span.map(|span| Self(Some(span.0)))
            .map_err(|why| format!("{why}, or off"))
    }
}

/// A number of bytes: `500k`, `64M`, `1G`, in powers of 1,000; a bare number counts bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a number of bytes; write 500k, 64M or 1G");
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let bytes_per_unit = match unit {
            "" => 1,
            "k" | "K" => 1_000,
            "m" | "M" => 1_000_000,
            "g" | "G" => 1_000_000_000,
            _ => return Err(wrong()),
        };
        let bytes = number.checked_mul(bytes_per_unit).ok_or_else(wrong)?;
        Ok(Self(bytes))
    }
}

/// What tunnels may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TunnelMemory(pub(crate) u64);

impl FromStr for TunnelMemory {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse()? {
            Bytes(bytes) if bytes < MIN_BUDGET => Err(format!(
                "{text} is too little: links need at least {MIN_BUDGET} bytes"
            )),
            Bytes(bytes) => Ok(Self(bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        let ms = |text: &str| text.parse::<Span>().map(|s| s.0.as_millis());
        assert_eq!(ms("500ms"), Ok(500));
        assert_eq!(ms("30"), Ok(30_000));
        assert_eq!(ms("2m"), Ok(120_000));
        assert_eq!(ms("1m30s500ms"), Ok(90_500));
        assert!(ms("1m30").is_err() && ms("m").is_err() && ms("+5").is_err());
        assert!(ms("2 m").is_err() && ms("").is_err() && ms("99999999999999999h").is_err());
    }
}
