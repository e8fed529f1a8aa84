//! Rows that somebody sent who has proven nothing, and what such a one is told.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Edits, Table, is_shut_in};
use crate::mesh::ip_table::{Carried, Figures, MAX_ROWS, Place, Row, Scope, Source, State};

/// Most rows of strangers that are kept.
pub const MAX_POSTED: usize = 4_096;
/// Longest content of one of them, in bytes.
pub const MAX_POSTED_BYTES: usize = 4 * 1024;
/// Most rows that a stranger is told.
pub const MAX_TOLD_ROWS: usize = 1_000;

/// Who sends rows or asks for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// Its address.
    pub ip: IpAddr,
    /// From how far away it speaks.
    pub scope: Scope,
}

/// What became of rows that were sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Posted {
    /// Machines that were not known.
    pub added: usize,
    /// Machines that said something new of themselves.
    pub changed: usize,
    /// Machines that somebody else's word, or nothing new, was said of.
    pub unchanged: usize,
    /// Rows that were not taken: addresses that the sender must not give, machines behind a NAT,
    /// rows that are too long, rows for which there is no room.
    pub left_out: usize,
}

impl Table {
    /// Takes in what `from` says of machines, at most `room` new ones. It replaces nothing but
    /// what strangers sent before, and that only where `from` speaks of itself; `own` is the row
    /// of this node should it not be in the table. Figures, keys and accounts are never taken.
    pub fn post(
        &self,
        rows: Vec<Row>,
        from: Stranger,
        own: Option<&Row>,
        room: usize,
    ) -> (Edits, Posted) {
        let kept = self.kept.values();
        let strangers = kept.filter(|row| row.source == Source::Posted).count();
        let room = room
            .min(MAX_POSTED.saturating_sub(strangers))
            .min(MAX_ROWS.saturating_sub(self.kept.len()));
        let mut posted = Posted::default();
        let mut put: BTreeMap<Place, Row> = BTreeMap::new();
        for row in rows {
            let Some(row) = admitted(row, from.scope) else {
                posted.left_out += 1;
                continue;
            };
            let is_own =
                own.is_some_and(|own| own.places().any(|at| row.places().any(|r| r == at)));
            let known = self.known(&row).or_else(|| {
                let mut places = row.places();
                places.find_map(|at| put.get(&at).cloned().map(Arc::new))
            });
            match known {
                _ if is_own => posted.unchanged += 1,
                None if posted.added < room => {
                    posted.added += 1;
                    put.insert(row.place.clone(), row);
                }
                None => posted.left_out += 1,
                Some(known) => match said_of_itself(row, &known, from) {
                    Some(row) => {
                        posted.changed += 1;
                        put.insert(row.place.clone(), row);
                    }
                    None => posted.unchanged += 1,
                },
            }
        }
        let put = put.into_values().map(Arc::new).collect();
        let edits = Edits {
            put,
            remove: Vec::new(),
        };
        (edits, posted)
    }

    /// What a stranger is told, at most [`MAX_TOLD_ROWS`]: this node, then what its user gave,
    /// what members tell, what strangers sent. Left out are machines that do not answer, those
    /// behind a NAT, and addresses that do not reach as far as the stranger.
    pub fn tell(&self, to: Stranger, own: Option<Row>) -> Vec<Arc<Row>> {
        let mut rows = self.list();
        if self.own().is_none() {
            rows.extend(own.map(Arc::new));
        }
        rows.retain(|row| !is_shut_in(row) && row.state() != State::Unreachable);
        let mut rows: Vec<_> = rows
            .into_iter()
            .filter_map(|row| as_told(row, to.scope))
            .collect();
        rows.sort_by_key(|row| match row.source {
            Source::Own => 0,
            Source::Configured => 1,
            Source::Imported => 2,
            Source::Learnt(_) => 3,
            Source::Posted => 4,
        });
        rows.truncate(MAX_TOLD_ROWS);
        rows
    }

    /// The row of the same machine, whoever spoke of it.
    fn known(&self, row: &Row) -> Option<Arc<Row>> {
        let told = || self.told_of(row).map(|told| Arc::clone(&told.row));
        self.kept_of(row).cloned().or_else(told)
    }
}

/// A row with those of its addresses that `to` may learn.
fn as_told(row: Arc<Row>, to: Scope) -> Option<Arc<Row>> {
    if row.hosts().all(|host| to.may_learn(host)) {
        return Some(row);
    }
    let first = row.hosts().find(|host| to.may_learn(host))?;
    let mut told = Row::clone(&row);
    told.place = Place::new(first.clone(), row.place.port());
    told.other = None;
    Some(told.into())
}

/// What is taken of a row, if anything is.
fn admitted(row: Row, from: Scope) -> Option<Row> {
    let may_give = from.may_give(row.place.host());
    if !may_give || is_shut_in(&row) || row.content_bytes() > MAX_POSTED_BYTES {
        return None;
    }
    let carried = row.carried;
    let mut flags = row.flags;
    flags.unsafe_mode = false;
    Some(Row {
        other: row.other.filter(|host| from.may_give(host)),
        name: printable(&row.name),
        source: Source::Posted,
        stated: Figures::default(),
        measured: None,
        flags,
        carried: Carried {
            escape_implementation: printable(&carried.escape_implementation),
            udp_server_port: printable(&carried.udp_server_port),
            custom_information: printable(&carried.custom_information),
            // P2PRC lets the owners of these in. What is not passed on lets nobody in.
            machine_username: String::new(),
            bare_metal_ssh_port: String::new(),
            public_key: String::new(),
            kept: Vec::new(),
        },
        ..row
    })
}

/// `row` in the place of what was `known`, if the machine itself says it and it is news. Machines
/// behind one address cannot be told apart.
fn said_of_itself(row: Row, known: &Row, from: Stranger) -> Option<Row> {
    let itself = row.place.host().ip() == Some(from.ip.to_canonical());
    if known.source != Source::Posted || known.place != row.place || !itself {
        return None;
    }
    // A second address that is another's stays there.
    let row = Row {
        other: known.other.clone(),
        measured: known.measured,
        misses: known.misses,
        ..row
    };
    (row != *known).then_some(row)
}

/// Text without what a terminal would act on.
fn printable(text: &str) -> String {
    let chars = text.chars();
    chars
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Place {
        text.parse().unwrap()
    }

    fn row(at: &str, text: &str) -> Row {
        let mut row = Row::new(place(at), Source::Imported);
        row.name = text.to_owned();
        row.carried.custom_information = text.to_owned();
        row
    }

    fn from(ip: &str) -> Stranger {
        let ip = ip.parse().unwrap();
        let scope = Scope::of(ip).unwrap();
        Stranger { ip, scope }
    }

    fn post(table: &mut Table, rows: Vec<Row>, by: &str) -> Posted {
        let (edits, posted) = table.post(rows, from(by), None, usize::MAX);
        table.apply(edits);
        posted
    }

    #[test]
    fn case_39_a_stranger_puts_no_address_of_the_inside_into_the_table() {
        let mut table = Table::default();
        let rows = || {
            [
                "127.0.0.1",
                "10.0.0.1",
                "169.254.169.254",
                "[fe80::1]",
                "localhost",
                "9.9.9.9",
            ]
            .map(|at| row(at, "x"))
            .to_vec()
        };
        let posted = post(&mut table, rows(), "1.1.1.1");
        assert_eq!((posted.added, posted.left_out), (1, 5));
        assert_eq!(table.list()[0].place, place("9.9.9.9"));
        let posted = post(&mut table, rows(), "127.0.0.1");
        assert_eq!((posted.added, posted.unchanged), (5, 1));
        let told = |ip: &str| table.tell(from(ip), None).len();
        assert_eq!((told("1.1.1.1"), told("127.0.0.1")), (1, 6));
    }

    #[test]
    fn a_strangers_word_replaces_only_what_it_said_of_itself() {
        let mut table = Table::new(vec![row("9.9.9.1", "users")]);
        let mut own = row("9.9.9.2", "own");
        own.source = Source::Own;
        table.apply(Edits {
            put: vec![own.into()],
            remove: Vec::new(),
        });
        post(&mut table, vec![row("9.9.9.3", "first")], "9.9.9.3");
        let forged = ["9.9.9.1", "9.9.9.2", "9.9.9.3"].map(|at| row(at, "forged"));
        let posted = post(&mut table, forged.to_vec(), "9.9.9.4");
        assert_eq!((posted.unchanged, posted.changed), (3, 0));
        let posted = post(&mut table, vec![row("9.9.9.3", "second")], "9.9.9.3");
        assert_eq!(posted.changed, 1);
        let name = |at: &str| table.get(&place(at)).unwrap().name.clone();
        assert_eq!(
            ["9.9.9.1", "9.9.9.2", "9.9.9.3"].map(name),
            ["users", "own", "second"]
        );
        // What the user says of it goes before, and takes nothing from it.
        let import = table.import(vec![row("9.9.9.3", "")], Source::Imported, false);
        table.apply(import.unwrap().0);
        let taken = table.get(&place("9.9.9.3")).unwrap();
        assert_eq!((taken.source, taken.name.as_str()), (Source::Imported, ""));
    }

    #[test]
    fn keys_figures_and_controls_of_a_stranger_are_not_kept() {
        let mut table = Table::default();
        let mut sent = row("9.9.9.9", "a\u{1b}[31m");
        sent.flags.unsafe_mode = true;
        sent.carried.public_key = "ssh-rsa AAAA\n".to_owned();
        sent.carried.machine_username = "root".to_owned();
        sent.carried.kept.push(("x".to_owned(), "1".to_owned()));
        sent.stated.latency = crate::mesh::ip_table::Latency::from_ms(1.0);
        post(&mut table, vec![sent], "1.1.1.1");
        let kept = table.get(&place("9.9.9.9")).unwrap();
        let mut expected = row("9.9.9.9", "a\u{fffd}[31m");
        expected.source = Source::Posted;
        assert_eq!(*kept, expected);
    }

    #[test]
    fn strangers_have_only_so_much_room_and_their_rows_may_go() {
        let mut table = Table::default();
        let rows = |count: u32, from: u32| -> Vec<Row> {
            let ip = |n: u32| std::net::Ipv4Addr::from(0x0900_0000 + from + n);
            (0..count).map(|n| row(&ip(n).to_string(), "x")).collect()
        };
        let (_, posted) = table.post(rows(9, 0), from("1.1.1.1"), None, 5);
        assert_eq!((posted.added, posted.left_out), (5, 4));
        assert_eq!(
            post(&mut table, rows(5_000, 0), "1.1.1.1").added,
            MAX_POSTED
        );
        assert_eq!(post(&mut table, rows(1, 9_000), "1.1.1.1").left_out, 1);
        assert_eq!(table.tell(from("1.1.1.1"), None).len(), MAX_TOLD_ROWS);
        let long = row("9.9.9.9", &"x".repeat(MAX_POSTED_BYTES));
        assert_eq!(
            post(&mut Table::default(), vec![long], "1.1.1.1").left_out,
            1
        );

        let at = table.list()[0].place.clone();
        for _ in 0..3 {
            let round = super::super::Round {
                at_ms: 1,
                online: true,
                results: vec![(at.clone(), super::super::Probe::Missed)],
            };
            table.apply(table.record(&round).0);
        }
        assert!(
            table
                .tell(from("1.1.1.1"), None)
                .iter()
                .all(|row| row.place != at)
        );
        let (edits, gone) = table.prune(false);
        assert_eq!(gone.len(), 1);
        table.apply(edits);
        assert_eq!(table.get(&at), None);
        assert_eq!(table.list().len(), MAX_POSTED - 1);
    }

    #[test]
    fn this_node_is_told_first_and_its_own_row_is_its_own() {
        let table = Table::new(vec![row("9.9.9.1", "users")]);
        let mut own = row("9.9.9.9", "me");
        own.source = Source::Own;
        let told = table.tell(from("1.1.1.1"), Some(own.clone()));
        assert_eq!(told[0].name, "me");
        // Of two addresses each is told the ones that it can reach.
        let mut both = own.clone();
        both.add_host("fd00::1".parse().unwrap());
        let told = |by| table.tell(from(by), Some(both.clone()))[0].hosts().count();
        assert_eq!((told("1.1.1.1"), told("10.0.0.1")), (1, 2));
        both.place = place("10.0.0.9");
        both.other = Some("9.9.9.9".parse().unwrap());
        let told = table.tell(from("1.1.1.1"), Some(both));
        assert_eq!((&told[0].place, &told[0].other), (&place("9.9.9.9"), &None));
        let forged = vec![row("9.9.9.9", "forged")];
        let (edits, posted) = table.post(forged, from("9.9.9.9"), Some(&own), 9);
        assert!(edits.is_empty() && posted.unchanged == 1);
        let mut shut_in = row("9.9.9.2", "behind");
        shut_in.flags.nat = true;
        shut_in.carried.escape_implementation = "None".to_owned();
        let (edits, posted) = table.post(vec![shut_in], from("9.9.9.2"), None, 9);
        assert!(edits.is_empty() && posted.left_out == 1);
    }
}
