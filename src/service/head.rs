//! Reads just enough of an HTTP/1 request to answer it with an error page. Pure; it meets bytes
//! of anybody who can reach the ingress, so everything is bounded and nothing is an error that
//! matters: what cannot be read is answered plainly.

/// Longest request head that is read.
pub const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Most header fields that are read.
pub const MAX_HEADERS: usize = 64;
/// Longest method that counts as one; the longest registered has 17 characters.
const MAX_METHOD_BYTES: usize = 20;

/// What an error page depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// `HEAD`: the answer has no body.
    pub is_head: bool,
    /// The client would rather have HTML than JSON.
    pub wants_html: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// How long the body is.
    pub body: Body,
}

/// Where a request's body ends. Feed it the bytes behind the head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Body {
    /// There is none, or it is over.
    #[default]
    Over,
    /// So many bytes are left.
    Length(u64),
    /// Chunks, in this state.
    Chunked(Chunked),
}

/// Place within a chunked body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunked {
    /// In a chunk's size; `size` so far, `extension` once a `;` or space was seen.
    Size {
        /// So far.
        size: u64,
        /// The rest of the line does not count.
        extension: bool,
    },
    /// So many bytes of data are left, with their CRLF.
    Data(u64),
    /// In the trailer, in a line that has so many characters.
    Trailer(u64),
}

/// Why bytes are not a request head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeadError {
    /// Not HTTP/1.
    #[error("not an HTTP/1 request: {0}")]
    Syntax(httparse::Error),
    /// No end within [`MAX_HEAD_BYTES`].
    #[error("request head is longer than {MAX_HEAD_BYTES} bytes")]
    TooLong,
}

/// Reads a head from the start of `bytes`: `None` while more is needed, else the head and how
/// many bytes it took.
///
/// # Errors
/// The bytes cannot become a head within the limits.
pub fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, HeadError> {
    let bytes = &bytes[..bytes.len().min(MAX_HEAD_BYTES)];
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let used = match request.parse(bytes).map_err(HeadError::Syntax)? {
        httparse::Status::Complete(used) => used,
        httparse::Status::Partial if bytes.len() == MAX_HEAD_BYTES => {
            return Err(HeadError::TooLong);
        }
        httparse::Status::Partial => return Ok(None),
    };
    let values = |name: &'static str| {
        let named = request.headers.iter();
        named
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .filter_map(|header| std::str::from_utf8(header.value).ok())
    };
    let has =
        |name, word: &str| values(name).any(|value| value.to_ascii_lowercase().contains(word));
    let length = values("content-length").find_map(|value| value.trim().parse().ok());
    let body = if has("transfer-encoding", "chunked") {
        Body::Chunked(Chunked::START)
    } else {
        length.map_or(Body::Over, Body::of_length)
    };
    let head = Head {
        is_head: request.method == Some("HEAD"),
        wants_html: prefers_html(values("accept")),
        expects_continue: has("expect", "100-continue"),
        body,
    };
    Ok(Some((head, used)))
}

/// Whether a client speaks HTTP/1: `None` until its first line is complete or cannot be one.
pub fn looks_like_request(bytes: &[u8]) -> Option<bool> {
    let method = bytes.iter().take_while(|&&byte| byte != b' ');
    let method_fits = method.clone().count() <= MAX_METHOD_BYTES
        && method
            .clone()
            .all(|byte| byte.is_ascii_uppercase() || *byte == b'-');
    if !method_fits || bytes.first() == Some(&b' ') {
        return Some(false);
    }
    let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
        return (bytes.len() >= MAX_HEAD_BYTES).then_some(false);
    };
    let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
    Some(line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0"))
}

/// Whether HTML is named in `Accept`, with a weight of at least JSON's. `*/*` alone is what
/// programs send.
fn prefers_html<'a>(accept: impl Iterator<Item = &'a str>) -> bool {
    let (mut html, mut json) = (0.0_f32, 0.0_f32);
    for range in accept.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts
            .find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")))
            .map_or(1.0, |weight| weight.parse().unwrap_or(0.0));
        match kind.as_str() {
            "text/html" | "application/xhtml+xml" => html = html.max(weight),
            "application/json" => json = json.max(weight),
            _ => {}
        }
    }
    html > 0.0 && html >= json
}

impl Body {
    fn of_length(length: u64) -> Self {
        match length {
            0 => Self::Over,
            length => Self::Length(length),
        }
    }

    /// Whether nothing more belongs to this body.
    pub fn is_over(&self) -> bool {
        *self == Self::Over
    }

    /// Takes the next bytes of the connection.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.is_over() {
            let used = match self {
                Self::Over => return,
                Self::Length(left) => take(left, bytes),
                Self::Chunked(Chunked::Data(left)) => take(left, bytes),
                Self::Chunked(_) => 1,
            };
            let (now, rest) = bytes.split_at(used);
            bytes = rest;
            self.step(now.first().copied().unwrap_or_default());
        }
    }

    /// After bytes were taken: the next state. `byte` is the one a line state was given.
    fn step(&mut self, byte: u8) {
        *self = match std::mem::take(self) {
            Self::Over | Self::Length(0) => Self::Over,
            Self::Length(left) => Self::Length(left),
            Self::Chunked(Chunked::Data(0)) => Self::Chunked(Chunked::START),
            Self::Chunked(Chunked::Data(left)) => Self::Chunked(Chunked::Data(left)),
            Self::Chunked(line) => line.next(byte).map_or(Self::Over, Self::Chunked),
        };
    }
}

fn take(left: &mut u64, bytes: &[u8]) -> usize {
    let used = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
    *left -= used as u64;
    used
}

impl Chunked {
    const START: Self = Self::Size {
        size: 0,
        extension: false,
    };

    /// The state behind one byte of a line; `None` at the end of the body, or where it makes
    /// no sense any more.
    fn next(self, byte: u8) -> Option<Self> {
        const CRLF: u64 = 2;
        match self {
            Self::Size { size: 0, .. } if byte == b'\n' => Some(Self::Trailer(0)),
            Self::Size { size, .. } if byte == b'\n' => Some(Self::Data(size.checked_add(CRLF)?)),
            Self::Size { size, extension } => {
                let digit = char::from(byte).to_digit(16).filter(|_| !extension);
                let Some(digit) = digit else {
                    let extension = extension || matches!(byte, b';' | b' ' | b'\t' | b'\r');
                    return extension.then_some(Self::Size { size, extension });
                };
                let size = size.checked_mul(16)?.checked_add(u64::from(digit))?;
                Some(Self::Size { size, extension })
            }
            Self::Data(left) => Some(Self::Data(left)),
            Self::Trailer(0) if byte == b'\n' => None,
            Self::Trailer(_) if byte == b'\n' => Some(Self::Trailer(0)),
            Self::Trailer(length) if byte == b'\r' => Some(Self::Trailer(length)),
            Self::Trailer(length) => Some(Self::Trailer(length.saturating_add(1))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head(text: &str) -> Head {
        parse(text.as_bytes()).unwrap().unwrap().0
    }

    #[test]
    fn only_an_http_1_request_line_looks_like_one() {
        assert_eq!(looks_like_request(b"GET / HTTP/1.1\r\n"), Some(true));
        assert_eq!(looks_like_request(b"GET / HTTP/1.0\nHost"), Some(true));
        assert_eq!(looks_like_request(b""), None);
        assert_eq!(looks_like_request(b"POST /v1/chat"), None);
        for other in [
            &b"\x16\x03\x01"[..],
            b"PRI * HTTP/2.0\r\n",
            b"GET key\r\n",
            b"SSH-2.0-x\r\n",
            b"get / HTTP/1.1\r\n",
            b" GET / HTTP/1.1\r\n",
            b"*1\r\n$4\r\nPING\r\n",
        ] {
            assert_eq!(looks_like_request(other), Some(false), "{other:?}");
        }
        let endless = [b"GET /".to_vec(), vec![b'a'; MAX_HEAD_BYTES]].concat();
        assert_eq!(looks_like_request(&endless), Some(false));
    }

    #[test]
    fn a_head_says_what_the_page_needs() {
        let curl = head(
            "POST / HTTP/1.1\r\nAccept: */*\r\ncontent-length: 12\r\nExpect: 100-Continue\r\n\r\n",
        );
        assert!(!curl.wants_html && curl.expects_continue);
        assert_eq!(curl.body, Body::Length(12));
        let browser =
            head("HEAD / HTTP/1.1\r\nAccept: text/html,application/xml;q=0.9,*/*;q=0.8\r\n\r\n");
        assert!(browser.wants_html && browser.is_head && browser.body.is_over());
        let picky = head("GET / HTTP/1.1\r\nAccept: text/html;q=0.5, application/json\r\n\r\n");
        assert!(!picky.wants_html);
        let both =
            head("POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(both.body, Body::Chunked(Chunked::START), "chunked wins");
    }

    #[test]
    fn heads_have_limits() {
        let endless = [
            b"GET / HTTP/1.1\r\nA: ".to_vec(),
            vec![b'a'; MAX_HEAD_BYTES],
        ]
        .concat();
        assert_eq!(parse(&endless), Err(HeadError::TooLong));
        let many = format!(
            "GET / HTTP/1.1\r\n{}\r\n",
            "A: b\r\n".repeat(MAX_HEADERS + 1)
        );
        assert_eq!(
            parse(many.as_bytes()),
            Err(HeadError::Syntax(httparse::Error::TooManyHeaders))
        );
    }

    #[test]
    fn a_chunked_body_ends_after_its_trailer() {
        let text = b"5;x=1\r\nhello\r\nA\r\n0123456789\r\n0\r\nT: 1\r\n\r\n";
        for cut in 0..text.len() {
            let mut body = Body::Chunked(Chunked::START);
            body.feed(&text[..cut]);
            assert!(!body.is_over(), "{cut}");
            body.feed(&text[cut..]);
            assert!(body.is_over(), "{cut}");
        }
        let mut nonsense = Body::Chunked(Chunked::START);
        nonsense.feed(b"zz");
        assert!(nonsense.is_over(), "what makes no sense is not waited for");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = looks_like_request(&bytes);
            let mut body = Body::Chunked(Chunked::START);
            body.feed(&bytes);
            if let Ok(Some((_, used))) = parse(&bytes) {
                prop_assert!(used <= bytes.len());
            }
        }
    }
}
