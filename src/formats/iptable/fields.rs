//! One row: its fields by what they mean, whatever the variant calls or writes them.

use std::num::NonZeroU16;

use super::MAX_ROW_JSON_BYTES;
use super::fault::{Fault, Found};
use super::number::{Scalar, Written, speed};
use super::text;
use super::variant::{Shape, Unit, decoded};
use crate::formats::json::{Members, offset_in, offset_of, shown};
use crate::mesh::ip_table::{
    Carried, DEFAULT_PORT, Figures, Flags, Host, MAX_KEPT, MAX_KEY_BYTES, MAX_TEXT_BYTES, Place,
    Row, Source, parse_port,
};

/// The fields that versions of P2PRC have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Name,
    MachineUsername,
    Ipv4,
    Ipv6,
    Latency,
    Download,
    Upload,
    ServerPort,
    /// The documents' name for `ServerPort`.
    PortNo,
    UdpServerPort,
    BareMetalSshPort,
    Nat,
    EscapeImplementation,
    ProxyServer,
    UnSafeMode,
    PublicKey,
    CustomInformation,
}

impl Field {
    fn of(key: &str) -> Option<Self> {
        Some(match key.to_ascii_lowercase().as_str() {
            "name" => Self::Name,
            "machineusername" => Self::MachineUsername,
            "ipv4" => Self::Ipv4,
            "ipv6" => Self::Ipv6,
            "latency" => Self::Latency,
            "download" => Self::Download,
            "upload" => Self::Upload,
            "serverport" => Self::ServerPort,
            "port no" => Self::PortNo,
            "udpserverport" => Self::UdpServerPort,
            "baremetalsshport" => Self::BareMetalSshPort,
            "nat" => Self::Nat,
            "escapeimplementation" => Self::EscapeImplementation,
            "proxyserver" => Self::ProxyServer,
            "unsafemode" => Self::UnSafeMode,
            "publickey" => Self::PublicKey,
            "custominformation" => Self::CustomInformation,
            _ => return None,
        })
    }

    /// Two names of one field are the same field.
    fn bit(self) -> u32 {
        match self {
            Self::PortNo => 1 << Self::ServerPort as u32,
            field => 1 << field as u32,
        }
    }
}

/// What reading one element gave: a row unless it is none, and what is to be said of it.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) row: Option<(Row, Pending)>,
    pub(super) notes: Vec<Found>,
}

/// What of a row waits for the rest of the table.
#[derive(Debug)]
pub(super) struct Pending {
    /// Which element it was, from 1, and where that starts.
    pub(super) number: usize,
    pub(super) at: usize,
    latency: Option<Written>,
    latency_offset: usize,
}

impl Pending {
    pub(super) fn numbered(self, number: usize, at: usize) -> Self {
        Self { number, at, ..self }
    }

    /// Gives the row its latency, written in `unit`, and takes its custom information out of
    /// base64 if it is in it.
    ///
    /// # Errors
    /// What is wrong with the latency, which is unknown then.
    pub(super) fn settle(
        self,
        row: &mut Row,
        unit: Unit,
        base64: bool,
        lenient: bool,
    ) -> Result<(), Found> {
        let custom = &mut row.carried.custom_information;
        if base64 && let Some(text) = decoded(custom) {
            *custom = text;
        }
        let meant = self.latency.map(|written| written.meant(unit, lenient));
        let latency = meant.transpose().map_err(|fault| Found {
            offset: self.latency_offset,
            field: Some("latency".to_owned()),
            fault,
        })?;
        row.stated.latency = latency.flatten();
        Ok(())
    }
}

/// Reads one element. `json` is valid JSON but for the escapes in its strings.
///
/// # Errors
/// The first problem of the row.
pub(super) fn read(json: &str, shape: &mut Shape) -> Result<Outcome, Found> {
    let whole = |fault| Found {
        offset: 0,
        field: None,
        fault,
    };
    if json == "null" || json.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
        let shown = shown(json);
        return Ok(Outcome {
            row: None,
            notes: vec![whole(Fault::NotARow { shown })],
        });
    }
    if json.len() > MAX_ROW_JSON_BYTES {
        let len = json.len();
        return Err(whole(Fault::LongRow { len }));
    }
    if !json.starts_with('{') {
        return Err(whole(Fault::Type {
            shown: shown(json),
            expected: "a row, which is an object",
        }));
    }
    let members: Members<'_> = serde_json::from_str(json).map_err(|error| Found {
        offset: offset_of(json, error.line(), error.column()),
        field: None,
        fault: Fault::Text,
    })?;
    let mut builder = Builder::default();
    for (key, raw) in members.0 {
        let offset = offset_in(json, raw.get());
        let found = |fault| Found {
            offset,
            field: Some(shown(&key)),
            fault,
        };
        let read = builder.member(&key, raw.get(), offset, shape);
        if let Some(fault) = read.map_err(found)? {
            builder.notes.push(found(fault));
        }
    }
    let notes = std::mem::take(&mut builder.notes);
    let row = builder.row().map_err(whole)?;
    shape.add_row();
    Ok(Outcome {
        row: Some(row),
        notes,
    })
}

fn scalar(raw: &str) -> Result<Scalar<'_>, Fault> {
    Ok(match raw.as_bytes().first() {
        Some(b'"') => Scalar::Text(serde_json::from_str(raw).map_err(|_| Fault::Text)?),
        Some(b't') => Scalar::Bool(true),
        Some(b'f') => Scalar::Bool(false),
        Some(b'n') => Scalar::Null,
        Some(b'{' | b'[') => Scalar::Other,
        _ => Scalar::Number(raw),
    })
}

/// A row while its members are read.
#[derive(Default)]
struct Builder {
    ipv4: Option<Host>,
    ipv6: Option<Host>,
    port: Option<NonZeroU16>,
    latency: Option<Written>,
    latency_offset: usize,
    name: String,
    stated: Figures,
    flags: Flags,
    carried: Carried,
    notes: Vec<Found>,
    /// [`Field::bit`] of the fields that were there.
    seen: u32,
}

impl Builder {
    /// Takes one member; `Ok(Some(_))` is a note.
    fn member(
        &mut self,
        key: &str,
        raw: &str,
        offset: usize,
        shape: &mut Shape,
    ) -> Result<Option<Fault>, Fault> {
        let Some(field) = Field::of(key) else {
            shape.add_unknown(key);
            return self.keep(key, raw);
        };
        shape.add_field(field);
        let twice = self.seen & field.bit() != 0;
        self.seen |= field.bit();
        let value = scalar(raw)?;
        let Self {
            stated,
            flags,
            carried,
            ..
        } = &mut *self;
        let mut note = None;
        match field {
            Field::Ipv4 => self.ipv4 = host(value, raw)?,
            Field::Ipv6 => self.ipv6 = host(value, raw)?,
            Field::ServerPort | Field::PortNo => self.port = port(&value, raw)?,
            Field::Latency => {
                self.latency = keep_note(Written::read(&value, raw), &mut note);
                self.latency_offset = offset;
                shape.add_latency(self.latency);
            }
            Field::Download => stated.download = keep_note(speed(&value, raw), &mut note),
            Field::Upload => stated.upload = keep_note(speed(&value, raw), &mut note),
            Field::Nat => {
                shape.boolean |= matches!(value, Scalar::Bool(_));
                flags.nat = flag(value, raw)?;
            }
            Field::ProxyServer => {
                shape.boolean |= matches!(value, Scalar::Bool(_));
                flags.proxy_server = flag(value, raw)?;
            }
            Field::UnSafeMode => flags.unsafe_mode = flag(value, raw)?,
            Field::CustomInformation => {
                let null = matches!(value, Scalar::Null);
                carried.custom_information = words(value, raw)?;
                shape.add_custom(Some(carried.custom_information.as_str()).filter(|_| !null));
            }
            Field::Name => self.name = words(value, raw)?,
            Field::MachineUsername => carried.machine_username = words(value, raw)?,
            Field::UdpServerPort => carried.udp_server_port = digits(value, raw)?,
            Field::BareMetalSshPort => carried.bare_metal_ssh_port = digits(value, raw)?,
            Field::EscapeImplementation => carried.escape_implementation = words(value, raw)?,
            Field::PublicKey => carried.public_key = words(value, raw)?,
        }
        Ok(note.or(twice.then_some(Fault::Duplicate)))
    }

    /// Keeps a field that no version has.
    fn keep(&mut self, key: &str, raw: &str) -> Result<Option<Fault>, Fault> {
        if key.len() > MAX_KEY_BYTES {
            return Err(Fault::LongKey);
        }
        let max = text::MAX_DEPTH;
        let json = text::kept(raw).ok_or(Fault::Deep { max })?;
        let kept = &mut self.carried.kept;
        if let Some((_, old)) = kept.iter_mut().find(|(known, _)| known == key) {
            *old = json;
            return Ok(Some(Fault::Duplicate));
        }
        if kept.len() >= MAX_KEPT {
            return Err(Fault::ManyFields);
        }
        kept.push((key.to_owned(), json));
        Ok(None)
    }

    fn row(self) -> Result<(Row, Pending), Fault> {
        let first = self.ipv4.clone().or_else(|| self.ipv6.clone());
        let first = first.ok_or(Fault::NoAddress)?;
        let port = self.port.or(NonZeroU16::new(DEFAULT_PORT));
        let port = port.ok_or(Fault::NoAddress)?;
        let mut row = Row::new(Place::new(first, port), Source::Imported);
        if let (Some(_), Some(second)) = (self.ipv4, self.ipv6) {
            row.add_host(second);
        }
        row.name = self.name;
        row.stated = self.stated;
        row.flags = self.flags;
        row.carried = self.carried;
        let pending = Pending {
            number: 0,
            at: 0,
            latency: self.latency,
            latency_offset: self.latency_offset,
        };
        Ok((row, pending))
    }
}

/// A fault of a figure is a note: the row is as good without it.
fn keep_note<T>(read: Result<Option<T>, Fault>, note: &mut Option<Fault>) -> Option<T> {
    read.unwrap_or_else(|fault| {
        *note = Some(fault);
        None
    })
}

fn not(expected: &'static str, raw: &str) -> Fault {
    Fault::Type {
        shown: shown(raw),
        expected,
    }
}

fn words(value: Scalar<'_>, raw: &str) -> Result<String, Fault> {
    match value {
        Scalar::Null => Ok(String::new()),
        Scalar::Text(text) if text.len() > MAX_TEXT_BYTES => {
            Err(Fault::LongText { len: text.len() })
        }
        Scalar::Text(text) => Ok(text),
        _ => Err(not("text", raw)),
    }
}

/// A port that is only carried: as text, or as the number that the text would be.
fn digits(value: Scalar<'_>, raw: &str) -> Result<String, Fault> {
    match value {
        Scalar::Number(number) if parse_port(number).is_ok() => Ok(number.to_owned()),
        value => words(value, raw),
    }
}

fn host(value: Scalar<'_>, raw: &str) -> Result<Option<Host>, Fault> {
    let text = words(value, raw)?;
    if text.is_empty() {
        return Ok(None);
    }
    let shown = || shown(raw);
    text.parse().map(Some).map_err(|error| Fault::Address {
        shown: shown(),
        error,
    })
}

fn port(value: &Scalar<'_>, raw: &str) -> Result<Option<NonZeroU16>, Fault> {
    let digits = match value {
        Scalar::Null => return Ok(None),
        Scalar::Text(text) if text.is_empty() => return Ok(None),
        Scalar::Text(text) => text.as_str(),
        Scalar::Number(number) => number,
        Scalar::Bool(_) | Scalar::Other => "",
    };
    let shown = || shown(raw);
    parse_port(digits)
        .map(Some)
        .map_err(|_| Fault::Port { shown: shown() })
}

fn flag(value: Scalar<'_>, raw: &str) -> Result<bool, Fault> {
    match value {
        Scalar::Null => Ok(false),
        Scalar::Bool(flag) => Ok(flag),
        Scalar::Text(text) if text.eq_ignore_ascii_case("true") => Ok(true),
        Scalar::Text(text) if text.is_empty() || text.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err(not("true or false", raw)),
    }
}
