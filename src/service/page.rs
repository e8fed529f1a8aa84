//! Our own HTTP answers, for when no node can serve. Texts as LocalAI's (`core/p2p/federated_server.go`),
//! but as proper HTTP: the request is read first, so that closing the socket does not destroy
//! the answer on its way (unread bytes make the kernel send RST).

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::client::Client;
use super::end::End;
use super::head::{self, Body, Head, MAX_HEAD_BYTES};

/// How long the rest of a request's head may take.
const HEAD_LIMIT: Duration = Duration::from_secs(5);
/// How long, and how much of, a request's body is read before it is answered anyway.
const BODY_LIMIT: Duration = Duration::from_secs(2);
const MAX_BODY_BYTES: usize = 1024 * 1024;
const READ_BYTES: usize = 4096;

/// Which answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// 503: no node can serve now; worth trying again.
    NoNodes,
    /// 404: the node that was asked for is not known or not online.
    NodeNotFound,
}

impl Page {
    fn status(self) -> &'static str {
        match self {
            Self::NoNodes => "503 Service Unavailable",
            Self::NodeNotFound => "404 Not Found",
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::NoNodes => "Sorry, waiting for nodes to connect",
            Self::NodeNotFound => "Node not found",
        }
    }

    /// The whole answer to a request with this head.
    pub fn response(self, head: &Head) -> Vec<u8> {
        let (kind, body) = if head.wants_html {
            let body = format!("<html><body><h1>{}</h1></body></html>\r\n", self.message());
            ("text/html; charset=utf-8", body)
        } else {
            ("application/json", self.json())
        };
        let retry = match self {
            Self::NoNodes => "Retry-After: 1\r\n",
            Self::NodeNotFound => "",
        };
        let mut response = format!(
            "HTTP/1.1 {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{retry}\
             Cache-Control: no-store\r\nConnection: close\r\n\r\n",
            self.status(),
            body.len(),
        );
        if !head.is_head {
            response.push_str(&body);
        }
        response.into_bytes()
    }

    fn json(self) -> String {
        let (kind, code) = match self {
            Self::NoNodes => ("server_error", "no_nodes"),
            Self::NodeNotFound => ("invalid_request_error", "node_not_found"),
        };
        let error = serde_json::json!({
            "error": {"message": self.message(), "type": kind, "param": null, "code": code}
        });
        format!("{error}\n")
    }
}

/// Reads the request that starts with `bytes`, answers it, and closes.
///
/// # Errors
/// The client went away.
pub async fn answer(client: &mut Client, bytes: Vec<u8>, page: Page) -> io::Result<()> {
    let (head, rest) = read_head(client, bytes).await;
    // A client that waits for "100 Continue" gets the final answer instead (RFC 9110 §10.1.1).
    if !head.expects_continue || !rest.is_empty() {
        let reading = read_body(client, head.body.clone(), &rest);
        // Whatever is left unread, the answer goes out.
        let _ = timeout(BODY_LIMIT, reading).await;
    }
    client.write_all(&page.response(&head)).await?;
    client.shutdown().await?;
    client.hang_up().await;
    Ok(())
}

/// The head, or a plain one if none can be read, and the bytes behind it.
async fn read_head(client: &mut Client, mut bytes: Vec<u8>) -> (Head, Vec<u8>) {
    let reading = async {
        loop {
            match head::parse(&bytes) {
                Ok(Some((head, used))) => return Some((head, bytes.split_off(used))),
                Ok(None) => {}
                Err(_) => return None,
            }
            let room = MAX_HEAD_BYTES - bytes.len().min(MAX_HEAD_BYTES);
            let mut part = [0; READ_BYTES];
            let part = &mut part[..room.min(READ_BYTES)];
            match client.read(part).await {
                Ok(count @ 1..) => bytes.extend_from_slice(&part[..count]),
                Ok(0) | Err(_) => return None,
            }
        }
    };
    let read = timeout(HEAD_LIMIT, reading).await;
    read.ok().flatten().unwrap_or_default()
}

async fn read_body(client: &mut Client, mut body: Body, rest: &[u8]) {
    body.feed(rest);
    let mut total = rest.len();
    let mut part = [0; READ_BYTES];
    while !body.is_over() && total < MAX_BODY_BYTES {
        match client.read(&mut part).await {
            Ok(count @ 1..) => {
                body.feed(&part[..count]);
                total += count;
            }
            Ok(0) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(page: Page, head: &Head) -> String {
        String::from_utf8(page.response(head)).unwrap()
    }

    #[test]
    fn programs_get_an_error_as_openai_shapes_it() {
        let answer = text(Page::NoNodes, &Head::default());
        assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
        assert!(answer.contains("\r\nRetry-After: 1\r\n"));
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())));
        let error: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(error["error"]["code"], "no_nodes");
        assert_eq!(
            error["error"]["message"],
            "Sorry, waiting for nodes to connect"
        );
        assert!(error["error"]["param"].is_null());
    }

    #[test]
    fn browsers_get_localais_page_and_head_gets_no_body() {
        let mut head = Head {
            wants_html: true,
            ..Head::default()
        };
        let answer = text(Page::NodeNotFound, &head);
        assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"));
        assert!(answer.ends_with("<html><body><h1>Node not found</h1></body></html>\r\n"));
        assert!(!answer.contains("Retry-After"));
        head.is_head = true;
        assert!(text(Page::NodeNotFound, &head).ends_with("\r\n\r\n"));
    }
}
