//! `POST /network/add`, LocalAI's way to list a network with its explorer
//! (`core/http/endpoints/explorer/dashboard.go`): what a body asks for, and LocalAI's word for
//! each way in which it is wrong, in LocalAI's order of checks. Ours besides are the limits, and
//! the fields `bootstrap` and `publish_token`.
//!
//! The body comes from strangers. Of the token everything is checked here that is cheap; deriving
//! the secret of a LocalAI token is left to whoever bounds what that costs.

use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use crate::mesh::addr::HostPort;
use crate::mesh::networks::{MAX_BOOTSTRAP, MAX_DESCRIPTION_BYTES, MAX_NAME_BYTES};
use crate::mesh::token::TokenText;

/// Longest body that is read, in bytes: three times the longest texts, for what is escaped in them.
pub const MAX_BODY_BYTES: usize = 64 * 1024;
/// Longest address of a member, in bytes: a host name, a colon, a port.
const MAX_ADDRESS_BYTES: usize = 255 + 1 + 5;

/// What is answered when the network is new.
pub const ADDED: &str = "Token added";
/// What is answered, with 500, when it cannot be stored.
pub const CANNOT_ADD: &str = "Cannot add token";

/// Why a body was refused. Nothing was stored. The text of each is the answer's `error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum AddFault {
    /// Longer than [`MAX_BODY_BYTES`].
    #[error("Request is too large")]
    BodyTooLong,
    /// Not a JSON object with texts in it.
    #[error("Cannot parse JSON")]
    Json,
    /// No token, or an empty one.
    #[error("Token is required")]
    NoToken,
    /// No name, or an empty one.
    #[error("Name is required")]
    NoName,
    /// No description, or an empty one.
    #[error("Description is required")]
    NoDescription,
    /// Longer than [`MAX_NAME_BYTES`].
    #[error("Name is too long")]
    LongName,
    /// Longer than [`MAX_DESCRIPTION_BYTES`].
    #[error("Description is too long")]
    LongDescription,
    /// Neither a token of warren nor one of LocalAI, or one with impossible intervals or lengths.
    #[error("Invalid token")]
    Token,
    /// Not `HOST:PORT`, or more than [`MAX_BOOTSTRAP`] of them.
    #[error("Invalid bootstrap")]
    Bootstrap,
    /// The network is listed already, maybe with another spelling of its token.
    #[error("Token already exists")]
    Known,
}

impl AddFault {
    /// Its HTTP status.
    pub fn status(self) -> u16 {
        match self {
            Self::BodyTooLong | Self::LongName | Self::LongDescription => 413,
            _ => 400,
        }
    }
}

/// A network that somebody wants to have listed. It has no `Debug`: it holds a token.
pub struct NetworkAdd {
    /// Its token, white space around it cut off. All that [`TokenText::parse`] checks of it holds.
    pub token: Zeroizing<String>,
    /// What it is called, white space around it cut off.
    pub name: String,
    /// What is said of it, likewise.
    pub description: String,
    /// Where members may be reached: chosen by a stranger.
    pub bootstrap: Vec<HostPort>,
    /// Whether its token may be shown to everybody; LocalAI shows all.
    pub publish_token: bool,
}

impl NetworkAdd {
    /// Reads a body.
    ///
    /// As LocalAI's, an empty body and `null` are an object without fields, names of fields may be
    /// in any case, unknown ones are ignored, and of a field that comes twice the last one counts.
    ///
    /// # Errors
    /// The first check that fails, in LocalAI's order; the limits of name and description come
    /// before what a token must be, because a token is dear to read.
    pub fn read(body: &[u8]) -> Result<Self, AddFault> {
        if body.len() > MAX_BODY_BYTES {
            return Err(AddFault::BodyTooLong);
        }
        let fields = match body.trim_ascii() {
            b"" => Fields::default(),
            text => {
                let read: Option<Fields> =
                    serde_json::from_slice(text).map_err(|_| AddFault::Json)?;
                read.unwrap_or_default()
            }
        };
        let name = fields.name.trim();
        let description = fields.description.trim();
        let token = fields.token.trim();
        if token.is_empty() {
            return Err(AddFault::NoToken);
        }
        if name.is_empty() {
            return Err(AddFault::NoName);
        }
        if description.is_empty() {
            return Err(AddFault::NoDescription);
        }
        if name.len() > MAX_NAME_BYTES {
            return Err(AddFault::LongName);
        }
        if description.len() > MAX_DESCRIPTION_BYTES {
            return Err(AddFault::LongDescription);
        }
        TokenText::parse(token).map_err(|_| AddFault::Token)?;
        Ok(Self {
            token: Zeroizing::new(token.to_owned()),
            name: name.to_owned(),
            description: description.to_owned(),
            bootstrap: addresses(&fields.bootstrap)?,
            publish_token: fields.publish_token.unwrap_or(true),
        })
    }
}

fn addresses(texts: &[String]) -> Result<Vec<HostPort>, AddFault> {
    if texts.len() > MAX_BOOTSTRAP {
        return Err(AddFault::Bootstrap);
    }
    let read = |text: &String| {
        let text = text.trim();
        let at = (text.len() <= MAX_ADDRESS_BYTES).then(|| text.parse::<HostPort>().ok());
        let at = at.flatten().filter(|at| at.port() != 0);
        at.ok_or(AddFault::Bootstrap)
    };
    texts.iter().map(read).collect()
}

/// The body as it is written. What is absent is empty.
#[derive(Default)]
struct Fields {
    token: Zeroizing<String>,
    name: String,
    description: String,
    bootstrap: Vec<String>,
    publish_token: Option<bool>,
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(FieldsVisitor)
    }
}

/// Go's `encoding/json` matches names in any case, which derived code does not.
struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("an object with token, name and description")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Fields::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.to_ascii_lowercase().as_str() {
                "token" => fields.token = Zeroizing::new(text(&mut map)?),
                "name" => fields.name = text(&mut map)?,
                "description" => fields.description = text(&mut map)?,
                "bootstrap" => {
                    let read: Option<Vec<String>> = map.next_value()?;
                    fields.bootstrap = read.unwrap_or_default();
                }
                "publish_token" => fields.publish_token = map.next_value()?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(fields)
    }
}

/// A text; `null` leaves the field empty.
fn text<'de, A: MapAccess<'de>>(map: &mut A) -> Result<String, A::Error> {
    Ok(map.next_value::<Option<String>>()?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn token() -> String {
        let mut rng = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(7);
        let token = crate::mesh::token::Token::generate(&mut rng, 9_000, 360);
        token.unwrap().to_text().to_string()
    }

    fn fault(body: &[u8]) -> String {
        match NetworkAdd::read(body) {
            Ok(_) => "accepted".to_owned(),
            Err(fault) => fault.to_string(),
        }
    }

    fn fault_of(body: &Value) -> String {
        fault(body.to_string().as_bytes())
    }

    #[test]
    fn checks_come_in_localais_order() {
        let token = token();
        for (body, said) in [
            (json!([]), "Cannot parse JSON"),
            (json!("text"), "Cannot parse JSON"),
            (json!({"token": 1}), "Cannot parse JSON"),
            (json!({"name": ["x"]}), "Cannot parse JSON"),
            (json!(null), "Token is required"),
            (json!({}), "Token is required"),
            (
                json!({"name": "n", "description": "d"}),
                "Token is required",
            ),
            (json!({"token": ""}), "Token is required"),
            (json!({"token": null}), "Token is required"),
            (json!({"token": " \n"}), "Token is required"),
            (json!({"token": "x"}), "Name is required"),
            (
                json!({"token": "x", "description": "d"}),
                "Name is required",
            ),
            (
                json!({"token": "x", "name": "n"}),
                "Description is required",
            ),
            (
                json!({"token": "x", "name": "n", "description": "d"}),
                "Invalid token",
            ),
            (
                json!({"token": token, "name": "n", "description": "d"}),
                "accepted",
            ),
            (
                json!({"Token": token, "NAME": "n", "Description": "d", "more": [{}]}),
                "accepted",
            ),
        ] {
            assert_eq!(fault_of(&body), said, "{body}");
        }
        assert_eq!(fault(b""), "Token is required");
        assert_eq!(fault(b" \r\n"), "Token is required");
        assert_eq!(fault(b"{"), "Cannot parse JSON");
        assert_eq!(fault(b"{} {}"), "Cannot parse JSON");
        assert_eq!(fault(b"{\"token\":\"\xff\"}"), "Cannot parse JSON");
        assert_eq!(fault(br#"{"token":"\ud800"}"#), "Cannot parse JSON");
        assert_eq!(fault(&vec![b'['; MAX_BODY_BYTES]), "Cannot parse JSON");
    }

    #[test]
    fn texts_over_their_limits_are_refused_before_the_token_is_looked_at() {
        let with = |name: &str, description: &str| {
            let body = json!({"token": "x", "name": name, "description": description});
            let body = body.to_string();
            NetworkAdd::read(body.as_bytes()).err().unwrap()
        };
        let (name, description) = ("n".repeat(257), "d".repeat(4_097));
        assert_eq!(with(&name, "d"), AddFault::LongName);
        assert_eq!(with("n", &description), AddFault::LongDescription);
        assert_eq!(with(&name[1..], &description[1..]), AddFault::Token);
        let all = vec![b' '; MAX_BODY_BYTES + 1];
        assert_eq!(NetworkAdd::read(&all).err(), Some(AddFault::BodyTooLong));
        assert_eq!(AddFault::BodyTooLong.status(), 413);
        assert_eq!(AddFault::LongName.status(), 413);
        assert_eq!(AddFault::Known.status(), 400);
    }

    #[test]
    fn fields_of_ours_are_read_and_have_localais_meaning_where_they_are_absent() {
        let mut body =
            json!({"token": format!(" {}\n", token()), "name": " n ", "description": "d"});
        let read = |body: &Value| NetworkAdd::read(body.to_string().as_bytes());
        let plain = read(&body).ok().unwrap();
        assert!(plain.publish_token && plain.bootstrap.is_empty());
        assert_eq!(
            (plain.name.as_str(), plain.token.as_str()),
            ("n", &*token())
        );

        body["publish_token"] = json!(false);
        body["bootstrap"] = json!(["203.0.113.7:7717", "[2001:db8::7]:1", "atlas.example:9"]);
        let own = read(&body).ok().unwrap();
        assert!(!own.publish_token);
        let at: Vec<String> = own.bootstrap.iter().map(ToString::to_string).collect();
        assert_eq!(
            at,
            ["203.0.113.7:7717", "[2001:db8::7]:1", "atlas.example:9"]
        );

        let nine = vec!["h:1"; MAX_BOOTSTRAP + 1];
        for bad in [
            json!(["h"]),
            json!(["h:0"]),
            json!([""]),
            json!(["http://h:1"]),
            json!(nine),
        ] {
            body["bootstrap"] = bad;
            assert_eq!(read(&body).err(), Some(AddFault::Bootstrap), "{body}");
        }
        body["bootstrap"] = json!("h:1");
        assert_eq!(read(&body).err(), Some(AddFault::Json));
    }
}
