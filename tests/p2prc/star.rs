//! Tables that go from node to node over these routes alone.

use super::*;

/// What P2PRC's updater does: sends its table to another, and takes what comes back.
fn gossip(from: &Node, to: &Node) {
    let dir = from.mesh.dir(from.name);
    let table = warren(&dir, &["iptable", "export"]).output().unwrap();
    let answer = to.post_table(&String::from_utf8(table.stdout).unwrap());
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("warren-left-out"), Some("0"));
    // Into the other's table the same way: it is the other's own route.
    let taken = from.post_table(answer.text());
    assert_eq!(taken.status, 200, "{}", taken.text());
}

#[test]
fn case_22_three_nodes_in_a_star_see_each_others_rows_without_internet() {
    // Three networks: nothing but these routes carries rows.
    let [root, one, two] = ["root", "one", "two"].map(Node::start);
    let nodes = [&root, &one, &two];
    for node in nodes {
        node.warren(&["iptable", "annotate", &format!("from {}", node.name)]);
    }
    for leaf in [&one, &two, &one] {
        gossip(leaf, &root);
    }
    for node in nodes {
        for of in nodes {
            let row = node.row(&of.at.to_string());
            let row = row.unwrap_or_else(|| panic!("{} does not know {}", node.name, of.name));
            assert_eq!(row["name"], of.name);
            assert_eq!(row["custom_information"], format!("from {}", of.name));
            let source = if node.name == of.name {
                "self"
            } else {
                "posted"
            };
            assert_eq!(row["source"], source);
        }
        assert_eq!(node.rows().len(), 3);
    }
    // P2PRC's `--amd`: what one says of itself anew, all see.
    // As P2PRC does, it goes to everybody in the table.
    two.warren(&["iptable", "annotate", "test message"]);
    for (from, to) in [(&two, &root), (&two, &one), (&one, &root)] {
        gossip(from, to);
    }
    for node in nodes {
        let row = node.row(&two.at.to_string()).unwrap();
        assert_eq!(
            row["custom_information"], "test message",
            "at {}",
            node.name
        );
    }
    // What was sent by nobody in particular is told to no member of the mesh.
    let told = || {
        let ledger = root.warren(&["ledger", "ls", "iptable"]);
        ledger["entries"].as_array().unwrap().len()
    };
    // Its own row is, in its own time.
    until("its own row is told", || (told() > 0).then_some(()));
    assert_eq!(told(), 1);
}

/// P2PRC's update: everybody in the table who was not asked yet is asked, so many times over.
fn update(from: &Node, nodes: &[Node], hops: usize) {
    let mut asked = vec![from.at.to_string()];
    for _ in 0..hops {
        for known in addresses(from) {
            if !asked.contains(&known) {
                let to = nodes.iter().find(|node| node.at.to_string() == known);
                gossip(from, to.unwrap());
                asked.push(known);
            }
        }
    }
}

fn addresses(node: &Node) -> Vec<String> {
    let rows = node.rows().into_iter();
    rows.map(|row| row["address"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn case_23_in_a_chain_of_four_an_update_reaches_as_far_as_its_hops() {
    // Two hops tell the first of the last, whom it asks with the third.
    for (hops, heard_by_the_last) in [(2, 1), (3, 4)] {
        let chain = ["first", "second", "third", "last"].map(Node::start);
        for pair in chain.windows(2) {
            pair[0].warren(&["iptable", "add", &pair[1].at.to_string()]);
        }
        for node in &chain {
            node.warren(&["iptable", "annotate", &format!("from {}", node.name)]);
        }
        update(&chain[0], &chain, hops);
        let known = [0, 3].map(|at: usize| addresses(&chain[at]).len());
        assert_eq!(known, [4, heard_by_the_last], "{hops} hops");
        // Whom the user named stays the user's.
        let source = |at: usize| {
            let row = chain[0].row(&chain[at].at.to_string());
            row.unwrap()["source"].as_str().unwrap().to_owned()
        };
        assert_eq!([1, 2, 3].map(source), ["configured", "posted", "posted"]);
    }
}

#[test]
fn rows_of_the_inside_are_neither_taken_from_the_outside_nor_told_to_it() {
    let node = Node::start("atlas");
    node.warren(&["iptable", "add", "10.9.9.9:8088", "--name", "inside"]);
    node.warren(&["iptable", "add", "9.9.9.9:8088", "--name", "outside"]);
    // Behind a proxy on this machine everybody is a stranger.
    let sent = document(&[
        row("loopback", "127.0.0.1", "1", ""),
        row("link", "169.254.169.254", "80", ""),
        row("private", "10.0.0.1", "22", ""),
        row("name", "localhost", "22", ""),
        row("global", "9.9.9.8", "8088", ""),
    ]);
    let answer = node.post_table_with("X-Forwarded-For: 9.9.9.7\r\n", &sent);
    assert_eq!(names(&answer), ["outside", "global"]);
    assert_eq!(answer.header("warren-left-out"), Some("4"));
    assert_eq!(node.rows().len(), 3);
    // This machine's own programs may speak of it.
    let answer = node.post_table(&sent);
    assert_eq!(answer.header("warren-left-out"), Some("0"));
    assert_eq!(node.rows().len(), 7);
}
