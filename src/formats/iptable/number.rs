//! Figures as documents write them: what they mean depends on the whole table.

use super::fault::Fault;
use super::variant::Unit;
use crate::formats::json::shown;
use crate::mesh::ip_table::{Latency, Speed};

/// A value of a row that may hold a number.
pub(super) enum Scalar<'r> {
    Null,
    Bool(bool),
    /// A JSON number, as written.
    Number(&'r str),
    Text(String),
    /// An object or a list.
    Other,
}

/// A latency whose unit is not known yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Written {
    /// Unquoted digits: nanoseconds, or milliseconds in the first variant.
    Integer(u64),
    /// Unquoted, with a fraction or an exponent: milliseconds where that is allowed.
    Fraction(f64),
    /// In quotes, as documented: milliseconds.
    Quoted(f64),
}

impl Written {
    /// `None` where nothing is stated.
    pub(super) fn read(scalar: &Scalar<'_>, raw: &str) -> Result<Option<Self>, Fault> {
        let bad = || Fault::Figure {
            shown: shown(raw),
            what: "latency",
        };
        match scalar {
            Scalar::Null => Ok(None),
            Scalar::Text(text) if text.is_empty() => Ok(None),
            Scalar::Text(text) => Ok(Some(Self::Quoted(amount(text).ok_or_else(bad)?))),
            Scalar::Number(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                let ns: i64 = digits.parse().map_err(|_| bad())?;
                Ok(Some(Self::Integer(ns.unsigned_abs())))
            }
            Scalar::Number(digits) => Ok(Some(Self::Fraction(amount(digits).ok_or_else(bad)?))),
            Scalar::Bool(_) | Scalar::Other => Err(bad()),
        }
    }

    /// What it means. `fractions`: whether a fraction is milliseconds in every variant.
    pub(super) fn meant(self, unit: Unit, fractions: bool) -> Result<Option<Latency>, Fault> {
        match (self, unit) {
            (Self::Integer(ns), Unit::Nanoseconds) => Ok(Latency::from_ns(ns)),
            (Self::Integer(ms), Unit::Milliseconds) => {
                // Past u32 it is unknown in any unit.
                Ok(Latency::from_ms(
                    u32::try_from(ms).map_or(f64::MAX, f64::from),
                ))
            }
            (Self::Quoted(ms), _) | (Self::Fraction(ms), Unit::Milliseconds) => {
                Ok(Latency::from_ms(ms))
            }
            (Self::Fraction(ms), Unit::Nanoseconds) if fractions => Ok(Latency::from_ms(ms)),
            (Self::Fraction(number), Unit::Nanoseconds) => Err(Fault::Figure {
                shown: shown(&number.to_string()),
                what: "whole number of nanoseconds",
            }),
        }
    }
}

/// A speed; 0 and nothing are unknown.
pub(super) fn speed(scalar: &Scalar<'_>, raw: &str) -> Result<Option<Speed>, Fault> {
    let bad = || Fault::Figure {
        shown: shown(raw),
        what: "speed in Mbit/s",
    };
    let mbps = match scalar {
        Scalar::Null => return Ok(None),
        Scalar::Text(text) if text.is_empty() => return Ok(None),
        Scalar::Text(text) => amount(text),
        Scalar::Number(digits) => amount(digits),
        Scalar::Bool(_) | Scalar::Other => None,
    };
    match mbps.ok_or_else(bad)? {
        0.0 => Ok(None),
        mbps => Speed::from_mbps(mbps).map(Some).ok_or_else(bad),
    }
}

/// A finite number that is not negative, in decimal digits.
fn amount(text: &str) -> Option<f64> {
    let decimal = text
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    let number = text.parse::<f64>().ok().filter(|_| decimal)?;
    (number.is_finite() && number >= 0.0).then_some(number)
}
