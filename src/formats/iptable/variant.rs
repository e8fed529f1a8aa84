//! Which version of P2PRC a table is from, and what that says of its figures.

use std::fmt;

use super::fields::Field;
use super::number::Written;

/// A table whose whole latencies are all below this has them in milliseconds: as nanoseconds no
/// request over HTTP is that fast, as milliseconds nobody waits longer.
const LEAST_NANOSECONDS: u64 = 10_000;

/// A form of the table. `V1` to `V14` were written by P2PRC, `D1` to `D4` stand in its documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Variant {
    /// 2021-03-20: `ipv4`, `latency`, `download`, `upload`.
    V1,
    /// 2021-03-21: the same, with the latency in nanoseconds.
    V2,
    /// v1.0.0: `ipv6`.
    V3,
    /// v1.1.0: `serverport`.
    V4,
    /// 2022-12: `proxyport`.
    V5,
    /// 2023-01-17: `Name`.
    V6,
    /// 2023-01-24: `NAT` as text, `EscapeImplementation`.
    V7,
    /// v1.1.1 and v2.0.0: `CustomInformation` in base64.
    V8,
    /// 2023-09: `CustomInformation` as text.
    V9,
    /// 2023-12: `BareMetalSSHPort`.
    V10,
    /// 2024-08: `ProxyServer` as text.
    V11,
    /// v3.0.0: `MachineUsername`, `UnSafeMode`, `PublicKey`.
    V12,
    /// 2025-04: `NAT` and `ProxyServer` as booleans.
    V13,
    /// 2026-01 and later: `UDPServerPort`.
    V14,
    /// 2021-05: all figures in quotes.
    D1,
    /// 2021-07: `port no`, and a comma missing.
    D2,
    /// 2023-06 and later: `D2` with a comma too many.
    D3,
    /// 2025: the fields of `V12`, with the latency in quotes.
    D4,
}

impl Variant {
    /// In which unit it has latencies that are unquoted whole numbers. In quotes they are always
    /// milliseconds.
    pub fn latency_unit(self) -> Unit {
        match self {
            Self::V1 | Self::D1 | Self::D2 | Self::D3 => Unit::Milliseconds,
            _ => Unit::Nanoseconds,
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A unit of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// 10⁻³ s.
    Milliseconds,
    /// 10⁻⁹ s.
    Nanoseconds,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Milliseconds => "milliseconds",
            Self::Nanoseconds => "nanoseconds",
        })
    }
}

/// What all rows together look like.
#[derive(Debug, Default)]
pub(super) struct Shape {
    /// Bit `Field as u32` of every field that a row has.
    seen: u32,
    rows: usize,
    /// `NAT` or `ProxyServer` is a boolean somewhere.
    pub(super) boolean: bool,
    proxy_port: bool,
    quoted: bool,
    fraction: bool,
    least: Option<u64>,
    /// `CustomInformation` is null somewhere, which only base64 can be.
    custom_null: bool,
    /// It is text that is no base64 of text.
    custom_text: bool,
}

impl Shape {
    pub(super) fn add_row(&mut self) {
        self.rows += 1;
    }

    pub(super) fn add_field(&mut self, field: Field) {
        self.seen |= 1 << field as u32;
    }

    pub(super) fn add_unknown(&mut self, key: &str) {
        self.proxy_port |= key.eq_ignore_ascii_case("proxyport");
    }

    pub(super) fn add_latency(&mut self, written: Option<Written>) {
        match written {
            Some(Written::Quoted(_)) => self.quoted = true,
            Some(Written::Fraction(_)) => self.fraction = true,
            Some(Written::Integer(ns)) if ns > 0 => {
                self.least = Some(self.least.map_or(ns, |least| least.min(ns)));
            }
            _ => {}
        }
    }

    /// `None` is null.
    pub(super) fn add_custom(&mut self, text: Option<&str>) {
        match text {
            None => self.custom_null = true,
            Some(text) => self.custom_text |= !text.is_empty() && decoded(text).is_none(),
        }
    }

    fn has(&self, field: Field) -> bool {
        self.seen & (1 << field as u32) != 0
    }

    /// What it is: by the newest field that is there. `None` without rows.
    pub(super) fn variant(&self, trailing_comma: bool) -> Option<Variant> {
        use Variant as V;
        let of_v12 = [Field::MachineUsername, Field::UnSafeMode, Field::PublicKey];
        let variant = if self.rows == 0 {
            return None;
        } else if self.has(Field::UdpServerPort) {
            V::V14
        } else if of_v12.into_iter().any(|field| self.has(field)) {
            match (self.quoted, self.boolean) {
                (true, _) => V::D4,
                (false, true) => V::V13,
                (false, false) => V::V12,
            }
        } else if self.has(Field::ProxyServer) {
            V::V11
        } else if self.has(Field::BareMetalSshPort) {
            V::V10
        } else if self.has(Field::CustomInformation) {
            match self.boolean || (self.custom_text && !self.custom_null) {
                true => V::V9,
                false => V::V8,
            }
        } else if self.has(Field::Nat) || self.has(Field::EscapeImplementation) {
            V::V7
        } else {
            self.early(trailing_comma)
        };
        Some(variant)
    }

    /// What came before the keys were capitalised.
    fn early(&self, trailing_comma: bool) -> Variant {
        use Variant as V;
        if self.has(Field::PortNo) {
            return if trailing_comma { V::D3 } else { V::D2 };
        }
        let milliseconds =
            self.fraction || self.least.is_none_or(|least| least < LEAST_NANOSECONDS);
        match () {
            () if self.has(Field::Name) => V::V6,
            () if self.proxy_port => V::V5,
            () if self.has(Field::ServerPort) => V::V4,
            () if self.has(Field::Ipv6) => V::V3,
            () if self.quoted => V::D1,
            () if milliseconds => V::V1,
            () => V::V2,
        }
    }
}

/// The text that base64 stands for, if it is base64 of text that a person could have meant.
pub(super) fn decoded(base64: &str) -> Option<String> {
    let bytes = data_encoding::BASE64.decode(base64.as_bytes()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let strange = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    (!text.chars().any(strange)).then_some(text)
}
