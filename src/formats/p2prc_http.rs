//! What requests to P2PRC's routes mean and what is answered, without any I/O. The bodies are
//! P2PRC's, byte for byte where a program reads them; the status codes say what happened, where
//! P2PRC answers 200 to everything. `schema/vectors/p2prc_http.json` has examples.
//!
//! | request | answer |
//! |---|---|
//! | `GET /server_info` | what the machine is: P2PRC's ping |
//! | `GET /50` | [`DOWNLOAD_BYTES`] |
//! | `GET`, `POST /upload` | reads a form with a file ([`UploadForm`]) |
//! | `POST /IpTable` | reads a form with a table ([`TableForm`]), answers with the merged one |
//! | `GET /FRPPort`, `/FRPport` | the port of an FRP server, or 501 where there is none |

use std::borrow::Borrow;

use serde::Serialize;

use super::iptable::{self, IpTableError, Options, Profile};
use super::multipart::{Form, FormError, Part, Piece};
use crate::mesh::ip_table::Row;

/// Bytes of `GET /50`: P2PRC's clients reckon with 50 MB, however many come.
pub const DOWNLOAD_BYTES: u64 = 50_000_000;
/// Longest upload that is read, with all that stands around the file, in bytes.
pub const MAX_UPLOAD_BYTES: u64 = 256 * 1024 * 1024;
/// Longest `POST /IpTable` that is read, in bytes.
pub const MAX_TABLE_BYTES: u64 = 1024 * 1024;
/// Most rows of a table that is sent.
pub const MAX_ROWS: usize = 1_000;
/// Longest table that is answered, in bytes.
pub const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// Longest name of a file that is repeated, in bytes.
const MAX_FILE_NAME_BYTES: usize = 255;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json; charset=utf-8";

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// What the machine is.
    ServerInfo,
    /// Bytes to measure with.
    Download,
    /// Takes bytes to measure with.
    Upload,
    /// Takes a table, and gives the merged one.
    Table,
    /// The port of an FRP server.
    FrpPort,
}

/// Where a request leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To a handler.
    To(Asked),
    /// To a path that answers only these methods.
    Not(&'static str),
    /// Nowhere.
    Nowhere,
}

/// Finds what a request asks for. Paths are case-sensitive, as P2PRC's; of `FRPPort` its documents
/// have another spelling than its code.
pub fn route(method: &str, path: &str) -> Route {
    let (asked, methods) = match path {
        "/server_info" => (Asked::ServerInfo, "GET"),
        "/50" => (Asked::Download, "GET"),
        "/upload" => (Asked::Upload, "GET, POST"),
        "/IpTable" => (Asked::Table, "POST"),
        "/FRPPort" | "/FRPport" => (Asked::FrpPort, "GET"),
        _ => return Route::Nowhere,
    };
    match methods.split(", ").any(|known| known == method) {
        true => Route::To(asked),
        false => Route::Not(methods),
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Its content type.
    pub kind: &'static str,
    /// Its bytes.
    pub body: Vec<u8>,
}

impl Answer {
    fn text(status: u16, text: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            kind: TEXT,
            body: text.into(),
        }
    }

    /// A refusal: `error: ` and why, as P2PRC writes its own.
    pub fn refusal(status: u16, why: &str) -> Self {
        Self::text(status, format!("error: {why}\n"))
    }

    /// Answers `GET /server_info`.
    pub fn server_info(machine: &Machine) -> Self {
        match serde_json::to_vec(machine) {
            Ok(body) => Self {
                status: 200,
                kind: JSON,
                body,
            },
            Err(error) => Self::refusal(500, &error.to_string()),
        }
    }

    /// Answers a table that was taken with the merged one.
    pub fn table<R: Borrow<Row>>(rows: impl IntoIterator<Item = R>) -> Self {
        let mut body = Vec::new();
        let mut fits: Vec<R> = Vec::new();
        for row in rows {
            // Each row has at most 60 KiB, which JSON makes six times as long at the worst.
            let mut one = Vec::new();
            let written = iptable::write(&mut one, [row.borrow()], Profile::Current);
            if written.is_err() || body.len() + one.len() > MAX_ANSWER_BYTES {
                break;
            }
            body.extend(one);
            fits.push(row);
        }
        body.clear();
        match iptable::write(&mut body, fits, Profile::Current) {
            Ok(()) => Self {
                status: 200,
                kind: JSON,
                body,
            },
            Err(error) => Self::refusal(500, &error.to_string()),
        }
    }

    /// Answers an upload that was read wholly.
    pub fn uploaded(file: &str) -> Self {
        Self::text(200, format!("'{file}' uploaded!"))
    }

    /// Answers the question for an FRP server with its port. P2PRC's client reads all of the body
    /// as a number.
    pub fn frp_port(port: u16) -> Self {
        Self::text(200, port.to_string())
    }

    /// Answers the question for an FRP server where there is none. A client that takes the text for a port fails.
    pub fn no_frp() -> Self {
        Self::refusal(
            501,
            "no FRP server runs here; a service is published with `warren publish`",
        )
    }

    /// Answers a path that leads nowhere, as P2PRC does.
    pub fn nowhere() -> Self {
        Self::text(404, "404 page not found")
    }
}

/// What `/server_info` says, under P2PRC's names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// What it is called.
    #[serde(rename = "Hostname")]
    pub hostname: String,
    /// Its operating system.
    #[serde(rename = "Platform")]
    pub platform: String,
    /// Its processor.
    #[serde(rename = "CPU")]
    pub cpu: String,
    /// Its memory, in MiB.
    #[serde(rename = "RAM")]
    pub ram_mib: u64,
    /// Its disk, in MiB.
    #[serde(rename = "Disk")]
    pub disk_mib: u64,
    /// Its graphics card: never known here.
    #[serde(rename = "GPU")]
    pub gpu: Option<()>,
}

/// Why a form was not taken. Nothing of it was stored.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BadRequest {
    /// The body is no form.
    #[error(transparent)]
    Form(#[from] FormError),
    /// It has no file of that name. P2PRC's words.
    #[error("http: no such file: the form has no file in the field {0:?}")]
    NoFile(&'static str),
    /// It has two of them.
    #[error("the form has the field {0:?} twice")]
    Twice(&'static str),
    /// The body is longer than what is read.
    #[error("the body is longer than the {0} bytes that are read")]
    TooLong(u64),
    /// The table cannot be read.
    #[error("the IP table cannot be read: {0}")]
    Table(#[from] IpTableError),
    /// The table has too many rows.
    #[error("the IP table has {0} rows, at most {MAX_ROWS} are read")]
    TooManyRows(usize),
}

impl BadRequest {
    /// The answer: a 4xx with the reason.
    pub fn answer(&self) -> Answer {
        let status = match self {
            Self::Form(FormError::NotAForm) => 415,
            Self::TooLong(_) | Self::TooManyRows(_) => 413,
            _ => 400,
        };
        Answer::refusal(status, &self.to_string())
    }
}

/// The form of `/upload`: counts the bytes of its file and keeps none.
#[derive(Clone, Debug)]
pub struct UploadForm {
    form: Field,
    bytes: u64,
}

impl UploadForm {
    /// A form of that content type.
    ///
    /// # Errors
    /// [`BadRequest::Form`].
    pub fn new(content_type: Option<&str>) -> Result<Self, BadRequest> {
        Ok(Self {
            form: Field::new(content_type, "file", MAX_UPLOAD_BYTES)?,
            bytes: 0,
        })
    }

    /// Reads on.
    ///
    /// # Errors
    /// [`BadRequest`].
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), BadRequest> {
        let count = &mut self.bytes;
        self.form.feed(bytes, |data| {
            let more = u64::try_from(data.len()).unwrap_or(u64::MAX);
            *count = count.saturating_add(more);
        })
    }

    /// The body is over. Returns the name of the file and how many bytes it had.
    ///
    /// # Errors
    /// [`BadRequest`].
    pub fn end(self) -> Result<(String, u64), BadRequest> {
        let mut name = self.form.end()?;
        while name.len() > MAX_FILE_NAME_BYTES {
            name.pop();
        }
        Ok((name, self.bytes))
    }
}

/// The form of `/IpTable`.
#[derive(Clone, Debug)]
pub struct TableForm {
    form: Field,
    document: Vec<u8>,
}

impl TableForm {
    /// A form of that content type.
    ///
    /// # Errors
    /// [`BadRequest::Form`].
    pub fn new(content_type: Option<&str>) -> Result<Self, BadRequest> {
        Ok(Self {
            form: Field::new(content_type, "json", MAX_TABLE_BYTES)?,
            document: Vec::new(),
        })
    }

    /// Reads on.
    ///
    /// # Errors
    /// [`BadRequest`].
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), BadRequest> {
        let document = &mut self.document;
        self.form
            .feed(bytes, |data| document.extend_from_slice(data))
    }

    /// The body is over. Returns the rows of its table: all of them, or none if one is bad. The
    /// table is read strictly, for it comes over the network.
    ///
    /// # Errors
    /// [`BadRequest`].
    pub fn end(self) -> Result<Vec<Row>, BadRequest> {
        self.form.end()?;
        let read = iptable::read(&self.document, Options::default())?;
        match read.report.rows {
            ..=MAX_ROWS => Ok(read.rows),
            rows => Err(BadRequest::TooManyRows(rows)),
        }
    }
}

/// The one file of a form that counts; others are skipped.
#[derive(Clone, Debug)]
struct Field {
    form: Form,
    wanted: &'static str,
    /// Name of its file, once it was there.
    file: Option<String>,
    is_open: bool,
    /// Bytes that may still come, and how many there were at first.
    left: u64,
    limit: u64,
}

impl Field {
    fn new(
        content_type: Option<&str>,
        wanted: &'static str,
        limit: u64,
    ) -> Result<Self, BadRequest> {
        Ok(Self {
            form: Form::new(content_type)?,
            wanted,
            file: None,
            is_open: false,
            left: limit,
            limit,
        })
    }

    fn feed(&mut self, bytes: &[u8], mut tell: impl FnMut(&[u8])) -> Result<(), BadRequest> {
        let more = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let left = self.left.checked_sub(more);
        self.left = left.ok_or(BadRequest::TooLong(self.limit))?;
        let (file, is_open, wanted) = (&mut self.file, &mut self.is_open, self.wanted);
        let mut twice = false;
        let fed = self.form.feed(bytes, |piece| match piece {
            Piece::Part(Part { name, file: given }) => {
                let given = given.filter(|_| name == wanted);
                *is_open = given.is_some();
                twice |= given.is_some() && file.is_some();
                if let Some(given) = given {
                    file.get_or_insert(given);
                }
            }
            Piece::Data(data) if *is_open && !twice => tell(data),
            Piece::Data(_) => {}
        });
        // It came before whatever else is wrong.
        match twice {
            true => Err(BadRequest::Twice(self.wanted)),
            false => Ok(fed?),
        }
    }

    fn end(self) -> Result<String, BadRequest> {
        self.form.end()?;
        self.file.ok_or(BadRequest::NoFile(self.wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn the_published_vectors_hold() {
        let text = include_str!("../../schema/vectors/p2prc_http.json");
        let vectors: Value = serde_json::from_str(text).unwrap();
        let cases = vectors["requests"].as_array().unwrap();
        assert!(cases.len() > 20);
        let mut wrong = Vec::new();
        for case in cases {
            let word = |key: &str| case[key].as_str().unwrap_or_default();
            let kind = case["type"].as_str();
            let frp_port = case["frp_port"]
                .as_u64()
                .map(|port| port.try_into().unwrap());
            let answer = match (frp_port, route(word("method"), word("path"))) {
                (Some(port), Route::To(Asked::FrpPort)) => Answer::frp_port(port),
                _ => answer(word("method"), word("path"), kind, word("body")),
            };
            let body = String::from_utf8(answer.body).unwrap();
            let said = (u64::from(answer.status), answer.kind, body.as_str());
            let expected = case["status"].as_u64().unwrap();
            if said != (expected, word("answer_type"), word("answer")) {
                wrong.push(format!("{}: {said:?}", word("why")));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    /// What a node with an empty table and this machine answers; `/50` with its length only.
    fn answer(method: &str, path: &str, kind: Option<&str>, body: &str) -> Answer {
        let taken = || match route(method, path) {
            Route::To(Asked::ServerInfo) => Ok(Answer::server_info(&Machine {
                hostname: "atlas".to_owned(),
                platform: "linux".to_owned(),
                cpu: "AMD EPYC".to_owned(),
                ram_mib: 64_000,
                disk_mib: 900_000,
                gpu: None,
            })),
            Route::To(Asked::Download) => Ok(Answer::text(200, DOWNLOAD_BYTES.to_string())),
            Route::To(Asked::FrpPort) => Ok(Answer::no_frp()),
            Route::To(Asked::Upload) => {
                let mut form = UploadForm::new(kind)?;
                form.feed(body.as_bytes())?;
                form.end().map(|(name, _)| Answer::uploaded(&name))
            }
            Route::To(Asked::Table) => {
                let mut form = TableForm::new(kind)?;
                form.feed(body.as_bytes())?;
                form.end().map(Answer::table)
            }
            Route::Not(methods) => Ok(Answer::refusal(405, &format!("it answers {methods}"))),
            Route::Nowhere => Ok(Answer::nowhere()),
        };
        taken().unwrap_or_else(|bad: BadRequest| bad.answer())
    }

    const KIND: Option<&str> = Some("multipart/form-data; boundary=X");

    fn form(field: &str, file: &str, body: &str) -> String {
        format!(
            "--X\r\nContent-Disposition: form-data; name=\"{field}\"; filename=\"{file}\"\r\n\r\n\
             {body}\r\n--X--\r\n"
        )
    }

    #[test]
    fn an_upload_is_counted_and_not_kept() {
        let body = form("file", "a.bin", &"x".repeat(100_000));
        let mut upload = UploadForm::new(KIND).unwrap();
        for bytes in body.as_bytes().chunks(777) {
            upload.feed(bytes).unwrap();
        }
        assert_eq!(upload.end(), Ok(("a.bin".to_owned(), 100_000)));
        let long = form("file", &"ä".repeat(1_000), "x");
        let mut upload = UploadForm::new(KIND).unwrap();
        upload.feed(long.as_bytes()).unwrap();
        assert_eq!(upload.end().unwrap().0.len(), 254);
    }

    #[test]
    fn bodies_and_tables_end_at_their_limits() {
        let mut table = TableForm::new(KIND).unwrap();
        let piece = vec![b'x'; 300_000];
        let refused = (0..4).find_map(|_| table.feed(&piece).err());
        // Neither the form's beginning nor the limit is there: the first fault is told.
        assert_eq!(refused, Some(FormError::Preamble.into()));
        let mut table = TableForm::new(KIND).unwrap();
        table
            .feed(
                form("json", "t", "")
                    .trim_end_matches("\r\n--X--\r\n")
                    .as_bytes(),
            )
            .unwrap();
        let refused = (0..4).find_map(|_| table.feed(&piece).err());
        assert_eq!(refused, Some(BadRequest::TooLong(MAX_TABLE_BYTES)));
        assert_eq!(refused.unwrap().answer().status, 413);

        let rows = vec!["{\"ipv4\":\"9.9.9.9\"}"; MAX_ROWS + 1].join(",");
        let mut table = TableForm::new(KIND).unwrap();
        let body = form("json", "t", &format!("{{\"ip_address\":[{rows}]}}"));
        table.feed(body.as_bytes()).unwrap();
        assert_eq!(table.end(), Err(BadRequest::TooManyRows(MAX_ROWS + 1)));
    }

    #[test]
    fn a_long_table_is_cut_where_its_answer_would_be_too_long() {
        let mut row = Row::new(
            "9.9.9.9".parse().unwrap(),
            crate::mesh::ip_table::Source::Imported,
        );
        row.carried.public_key = "\u{1}".repeat(16_000);
        let answer = Answer::table(std::iter::repeat_n(row, 100));
        assert!(answer.body.len() <= MAX_ANSWER_BYTES);
        let read = iptable::read(&answer.body, Options::default());
        assert!(read.is_err() || read.unwrap().report.rows < 100);
    }
}
