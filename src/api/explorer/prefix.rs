//! `X-Forwarded-Prefix`: where a proxy shows this server under a path of its own. The path is taken
//! off before routes are looked for, as LocalAI does, and links begin with it. The header is a
//! stranger's word until a proxy sets it, so only what is plainly a path is believed.

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Uri};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

const HEADER: &str = "x-forwarded-prefix";
/// Longest prefix that is believed, in bytes.
const MAX_BYTES: usize = 128;

/// The path that links begin with: `/` at both ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Base(pub(super) String);

impl Base {
    /// What the headers say, or `/`.
    fn of(headers: &HeaderMap) -> Self {
        let given = headers.get(HEADER).and_then(|value| value.to_str().ok());
        let prefix = given.and_then(valid).unwrap_or_default();
        Self(format!("{prefix}/"))
    }

    /// The path without the prefix, if it has it.
    fn strip<'a>(&self, path: &'a str) -> Option<&'a str> {
        let prefix = self.0.strip_suffix('/')?;
        let rest = path.strip_prefix(prefix)?;
        match rest {
            "" => Some("/"),
            _ => rest.starts_with('/').then_some(rest),
        }
    }
}

/// A prefix without a slash at its end; empty for the root.
fn valid(text: &str) -> Option<&str> {
    let prefix = text.trim_end_matches('/');
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
    let is_path = prefix.is_empty()
        || (prefix.starts_with('/')
            && prefix.len() <= MAX_BYTES
            && prefix.bytes().all(plain)
            && prefix
                .split('/')
                .skip(1)
                .all(|part| !matches!(part, "" | "." | "..")));
    is_path.then_some(prefix)
}

/// The same routes, found without the prefix. Handlers find the [`Base`] among the extensions.
pub(super) fn stripped(routes: Router) -> Router {
    Router::new().fallback(forward).with_state(routes)
}

async fn forward(State(routes): State<Router>, mut request: Request) -> Response {
    let base = Base::of(request.headers());
    if let Some(uri) = base
        .strip(request.uri().path())
        .and_then(|path| with_path(request.uri(), path))
    {
        *request.uri_mut() = uri;
    }
    request.extensions_mut().insert(base);
    match TowerToHyperService::new(routes).call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
    .into_response()
}

fn with_path(uri: &Uri, path: &str) -> Option<Uri> {
    let target = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    target.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_paths_are_believed() {
        for (given, base) in [
            ("", "/"),
            ("/", "/"),
            ("/explorer", "/explorer/"),
            ("/a/b-1/", "/a/b-1/"),
            ("explorer", "/"),
            ("//evil.example", "/"),
            ("/a//b", "/"),
            ("/..", "/"),
            ("/a/../b", "/"),
            ("/\"><script>", "/"),
            ("/a b", "/"),
            ("https://evil.example", "/"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, given.parse().unwrap());
            assert_eq!(Base::of(&headers).0, base, "{given}");
        }
        let long = format!("/{}", "x".repeat(MAX_BYTES));
        assert_eq!(valid(&long), None);
        assert_eq!(Base::of(&HeaderMap::new()).0, "/");
    }

    #[test]
    fn the_prefix_is_taken_off_where_it_is() {
        let base = Base("/explorer/".to_owned());
        for (path, rest) in [
            ("/explorer", Some("/")),
            ("/explorer/", Some("/")),
            ("/explorer/networks", Some("/networks")),
            ("/explorers", None),
            ("/networks", None),
        ] {
            assert_eq!(base.strip(path), rest, "{path}");
        }
        let uri: Uri = "/explorer/api?q=a%20b".parse().unwrap();
        assert_eq!(with_path(&uri, "/api").unwrap(), "/api?q=a%20b");
    }
}
