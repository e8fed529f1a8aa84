//! What somebody who wants to use a network types: warren's own commands, and LocalAI's where
//! LocalAI reads the token. Tokens, addresses and network ids come from strangers and end up in
//! other people's shells, so everything is quoted, and what cannot be shown as it is makes no
//! command at all.

use std::borrow::Cow;

use serde::Serialize;
use zeroize::Zeroizing;

use crate::mesh::addr::HostPort;
use crate::mesh::name::Name;
use crate::mesh::networks::{Cluster, ClusterKind, Network};
use crate::mesh::token::TokenKind;

/// A command and what it is for.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct JoinCommand {
    /// What it does.
    pub title: String,
    /// For a POSIX shell. Holds the token.
    pub command: String,
}

/// The commands for a network: for each of its clusters, or for the network as such where it
/// shows none.
pub fn join_commands(network: &Network) -> Vec<JoinCommand> {
    let token = network.token.to_text();
    let bootstrap = &network.bootstrap;
    let clusters = network.clusters.as_deref().unwrap_or_default();
    if clusters.is_empty() {
        let command = warren(&token, &["up"], None, bootstrap);
        return vec![titled("Join with warren", None, command)];
    }
    let mut commands = Vec::new();
    for cluster in clusters {
        of_cluster(
            &token,
            network.token.kind(),
            cluster,
            bootstrap,
            &mut commands,
        );
    }
    commands
}

fn of_cluster(
    token: &Zeroizing<String>,
    kind: TokenKind,
    cluster: &Cluster,
    bootstrap: &[HostPort],
    into: &mut Vec<JoinCommand>,
) {
    let id = Some(cluster.network_id.as_str()).filter(|id| !id.is_empty());
    // Our own command line takes no other ids.
    if id.is_none_or(|id| id.parse::<Name>().is_ok()) {
        let own: &[(&str, &[&str])] = match cluster.kind {
            ClusterKind::Federated => &[
                (
                    "Use it through one address, with warren",
                    &["federated", "--address", ":8080"],
                ),
                (
                    "Offer a server to it, with warren",
                    &["expose", "federated", "127.0.0.1:8000"],
                ),
            ],
            ClusterKind::Worker | ClusterKind::MlxWorker => &[("Join with warren", &["up"])],
        };
        for (title, words) in own {
            into.push(titled(title, id, warren(token, words, id, bootstrap)));
        }
    }
    let is_shown_as_it_is = id.is_none_or(|id| id.bytes().all(|b| (b' '..=b'~').contains(&b)));
    if cluster.kind == ClusterKind::Federated && kind == TokenKind::LocalAi && is_shown_as_it_is {
        into.push(titled(
            "Use it with LocalAI in Docker",
            id,
            localai_docker(token, id),
        ));
        into.push(titled("Use it with LocalAI", id, localai(token, id)));
    }
}

fn titled(title: &str, id: Option<&str>, command: String) -> JoinCommand {
    let title = match id {
        Some(id) => format!("{title} ({id})"),
        None => title.to_owned(),
    };
    JoinCommand { title, command }
}

/// In the environment the token is not seen by other users of the machine.
fn warren(token: &str, words: &[&str], id: Option<&str>, bootstrap: &[HostPort]) -> String {
    let mut command = format!("WARREN_TOKEN={} warren", quoted(token));
    for word in words {
        command.push(' ');
        command.push_str(&quoted(word));
    }
    if let Some(id) = id {
        // With `=` an id may begin with a dash.
        command.push_str(&format!(" --network-id={}", quoted(id)));
    }
    for at in bootstrap {
        command.push_str(&format!(" --connect {}", quoted(&at.to_string())));
    }
    command
}

/// As LocalAI's page has it (`core/http/views/explorer.html`), quoted.
fn localai_docker(token: &str, id: Option<&str>) -> String {
    let id = id.map_or_else(String::new, |id| {
        format!(" -e LOCALAI_P2P_NETWORK_ID={}", quoted(id))
    });
    format!(
        "docker run -d --restart=always -e ADDRESS=\":80\"{id} -e LOCALAI_P2P_LOGLEVEL=debug \
         --name local-ai -e TOKEN={} --net host -ti localai/localai:master federated --debug",
        quoted(token)
    )
}

fn localai(token: &str, id: Option<&str>) -> String {
    let id = id.map_or_else(String::new, |id| {
        format!(" LOCALAI_P2P_NETWORK_ID={}", quoted(id))
    });
    format!(
        "ADDRESS=\":80\"{id} LOCALAI_P2P_LOGLEVEL=debug TOKEN={} local-ai federated --debug",
        quoted(token)
    )
}

/// One word for a POSIX shell, whatever is in it (POSIX.1-2024, Shell §2.2.2).
fn quoted(text: &str) -> Cow<'_, str> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._/:@%+,=".contains(&b);
    match !text.is_empty() && text.bytes().all(is_plain) {
        true => Cow::Borrowed(text),
        false => Cow::Owned(format!("'{}'", text.replace('\'', r"'\''"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_so_that_a_shell_gives_them_back() {
        for text in [
            "",
            "plain-1._/:@%+,=",
            "two words",
            "$(touch x)",
            "`id`",
            "a'b''c",
            "\"><script>",
            "!history",
            "*",
            "~",
            "back\\slash",
            "#",
            "a;b|c&d",
        ] {
            let script = format!("printf %s {}", quoted(text));
            let said = std::process::Command::new("sh")
                .args(["-c", &script])
                .output();
            assert_eq!(said.unwrap().stdout, text.as_bytes(), "{script}");
        }
        assert_eq!(quoted("plain"), "plain");
        assert_eq!(quoted("a'b"), r"'a'\''b'");
    }
}
