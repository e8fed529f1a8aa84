//! The page: one document with its style and its script, all of it in this program. The browser is
//! told to take nothing from anywhere else, to run nothing inside the document, and to make no
//! markup out of text.

use aws_lc_rs::digest::{SHA256, digest};
use axum::Json;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use data_encoding::HEXLOWER;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Uri, header};
use serde_json::json;

use super::Shared;
use super::answers::{Tagged, page_type, wants_html};
use super::door::Scheme;
use super::prefix::Base;
use crate::mesh::records::VERSION;

/// What the page may do. `base` is our own, set from a prefix that was checked.
pub(super) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self'; connect-src 'self'; base-uri 'self'; form-action 'none'; \
    frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

const INDEX: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/explorer.css");
const SCRIPT: &str = include_str!("page/explorer.js");
const ICON: &str = include_str!("page/favicon.svg");
const OPENAPI: &str = include_str!("../../../schema/explorer.openapi.json");
/// What `GET /` calls itself.
const TITLE: &str = "Network Explorer";

/// What never changes while the program runs.
pub(super) struct Assets {
    icon: Tagged,
    style: Tagged,
    script: Tagged,
    openapi: Tagged,
}

impl Assets {
    pub(super) fn new() -> Self {
        Self {
            icon: asset("image/svg+xml", ICON),
            style: asset("text/css; charset=utf-8", STYLE),
            script: asset("text/javascript; charset=utf-8", SCRIPT),
            openapi: asset("application/json", OPENAPI),
        }
    }
}

fn asset(kind: &'static str, text: &'static str) -> Tagged {
    Tagged {
        kind: HeaderValue::from_static(kind),
        tag: tag(text.as_bytes()),
        body: Bytes::from_static(text.as_bytes()),
    }
}

/// A name for bytes.
fn tag(bytes: &[u8]) -> HeaderValue {
    let digest = digest(&SHA256, bytes);
    let name = HEXLOWER.encode(digest.as_ref().get(..12).unwrap_or_default());
    HeaderValue::from_str(&format!("\"{name}\"")).unwrap_or(HeaderValue::from_static("\"0\""))
}

/// `GET /`: the page, or for programs what answers here, as LocalAI tells them apart.
pub(super) async fn home(
    Extension(base): Extension<Base>,
    Extension(scheme): Extension<Scheme>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let mut response = match wants_html(&headers) {
        true => document(&base).answer(&headers),
        false => {
            let answer = json!({
                "Title": TITLE,
                "Version": VERSION,
                "BaseURL": base_url(&base, scheme, &uri, &headers),
            });
            Json(answer).into_response()
        }
    };
    let vary = HeaderValue::from_static("Accept, X-Forwarded-Prefix");
    response.headers_mut().insert(header::VARY, vary);
    response
}

/// The base holds nothing that means anything in HTML ([`super::prefix`]).
fn document(base: &Base) -> Tagged {
    let text = INDEX
        .replace("{base}", &base.0)
        .replace("{version}", VERSION);
    Tagged {
        kind: page_type(),
        tag: tag(text.as_bytes()),
        body: text.into(),
    }
}

/// Where the client sees this server.
fn base_url(base: &Base, scheme: Scheme, uri: &Uri, headers: &HeaderMap) -> String {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let forwarded = text("x-forwarded-proto");
    let scheme = match (forwarded, scheme) {
        (Some("https"), _) | (None, Scheme::Https) => "https",
        _ => "http",
    };
    let named = |name| text(name).and_then(|host| host.parse::<Authority>().ok());
    let host = named("x-forwarded-host")
        .or_else(|| named("host"))
        .or_else(|| uri.authority().cloned());
    let host = host.map_or_else(|| "localhost".to_owned(), |host| host.to_string());
    format!("{scheme}://{host}{}", base.0)
}

pub(super) async fn icon(State(site): Shared, headers: HeaderMap) -> Response {
    site.assets.icon.answer(&headers)
}

pub(super) async fn style(State(site): Shared, headers: HeaderMap) -> Response {
    site.assets.style.answer(&headers)
}

pub(super) async fn script(State(site): Shared, headers: HeaderMap) -> Response {
    site.assets.script.answer(&headers)
}

pub(super) async fn openapi(State(site): Shared, headers: HeaderMap) -> Response {
    site.assets.openapi.answer(&headers)
}
