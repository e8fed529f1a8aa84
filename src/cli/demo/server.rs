//! A stand-in for a model server: answers OpenAI-shaped chat and says which node it is.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::sleep;
use warren::clock::Clock;

use crate::cli::fail::Failure;

/// How long a word takes, so that requests in flight can be seen.
const WORD: Duration = Duration::from_millis(60);
const MODEL: &str = "warren-demo";

#[derive(Deserialize)]
struct ChatRequest {
    #[serde(default)]
    messages: Vec<Message>,
    #[serde(default)]
    stream: bool,
}

#[derive(Deserialize)]
struct Message {
    content: Value,
}

/// Serves on a free loopback port until the process ends.
pub(super) async fn start(node: &str) -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let at = listener.local_addr()?;
    let app = Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/models", get(models))
        .with_state(Arc::<str>::from(node));
    tokio::spawn(async move {
        if let Err(e) = axum::serve(listener, app).await {
            tracing::error!("the demo's server at {at} ended: {e}");
        }
    });
    Ok(at)
}

async fn models(State(node): State<Arc<str>>) -> Json<Value> {
    let model = json!({ "id": MODEL, "object": "model", "owned_by": &*node });
    Json(json!({ "object": "list", "data": [model] }))
}

async fn chat(State(node): State<Arc<str>>, Json(request): Json<ChatRequest>) -> Response {
    let asked = request.messages.last().map(|message| &message.content);
    let asked = asked.and_then(Value::as_str).unwrap_or("nothing");
    let text = format!("This is {node}. You said: {asked}");
    let words: Vec<String> = text.split_inclusive(' ').map(str::to_owned).collect();
    if request.stream {
        return stream_words(&node, words).into_response();
    }
    for _ in &words {
        sleep(WORD).await;
    }
    let message = json!({ "role": "assistant", "content": text });
    let choice = json!({ "index": 0, "message": message, "finish_reason": "stop" });
    let mut document = head(&node, "chat.completion");
    document["choices"] = json!([choice]);
    Json(document).into_response()
}

fn head(node: &str, object: &str) -> Value {
    json!({
        "id": "chatcmpl-demo",
        "object": object,
        "created": Clock::default().now().unix_s(),
        "model": MODEL,
        "system_fingerprint": node,
    })
}

fn stream_words(
    node: &str,
    words: Vec<String>,
) -> Sse<impl stream::Stream<Item = Result<Event, Infallible>> + use<>> {
    let mut chunks: Vec<String> = words
        .into_iter()
        .map(|word| chunk(node, &json!({ "content": word }), None))
        .collect();
    chunks.push(chunk(node, &json!({}), Some("stop")));
    chunks.push("[DONE]".to_owned());
    Sse::new(stream::unfold(chunks.into_iter(), |mut chunks| async {
        let chunk = chunks.next()?;
        sleep(WORD).await;
        Some((Ok(Event::default().data(chunk)), chunks))
    }))
}

fn chunk(node: &str, delta: &Value, finish: Option<&str>) -> String {
    let mut document = head(node, "chat.completion.chunk");
    document["choices"] = json!([{ "index": 0, "delta": delta, "finish_reason": finish }]);
    document.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::traffic::ask;

    #[tokio::test]
    async fn it_answers_as_openai_does_and_says_which_node_it_is() {
        let at = start("node-7").await.unwrap();
        let answer = ask(at, r#"{"messages":[{"role":"user","content":"hi"}]}"#)
            .await
            .unwrap();
        assert!(answer.contains("This is node-7. You said: hi"), "{answer}");
        assert!(answer.contains(r#""object":"chat.completion""#));

        let answer = ask(at, r#"{"messages":[],"stream":true}"#).await.unwrap();
        assert!(answer.contains("text/event-stream"), "{answer}");
        assert!(answer.contains("data: [DONE]"), "{answer}");
    }
}
