//! What becomes of rows, case by case of what P2PRC gets wrong (`reference/p2prc.md` §6), and as
//! laws over random tables.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::formats::iptable::{Options, Profile, read, write};
use crate::mesh::id::Identity;
use crate::mesh::ip_table::{Carried, Latency, Method, Speed, State};

fn node(n: u8) -> NodeId {
    Identity::from_seed(&[n; 32]).id()
}

fn place(text: &str) -> Place {
    text.parse().unwrap()
}

fn row(at: &str, name: &str) -> Row {
    let mut row = Row::new(place(at), Source::Imported);
    row.name = name.to_owned();
    row
}

fn told(author: u8, at: &str, name: &str, own: bool) -> Told {
    let mut row = row(at, name);
    row.source = Source::Learnt(node(author));
    Told {
        row: row.into(),
        own,
    }
}

fn import(table: &mut Table, rows: Vec<Row>, source: Source, replace: bool) -> Merged {
    let (edits, merged) = table.import(rows, source, replace).unwrap();
    table.apply(edits);
    merged
}

fn table(rows: Vec<Row>) -> Table {
    let mut table = Table::default();
    import(&mut table, rows, Source::Imported, false);
    table
}

fn names(table: &Table) -> Vec<String> {
    let rows = table.list();
    rows.iter()
        .map(|row| format!("{} {}", row.place, row.name))
        .collect()
}

fn answer(ms: f64, mbps: f64) -> Probe {
    Probe::Answered(Measured {
        at_ms: 7,
        method: Method::P2prc,
        least: Latency::from_ms(ms),
        median: Latency::from_ms(ms),
        download: Speed::from_mbps(mbps),
        upload: None,
    })
}

fn probe(table: &mut Table, online: bool, results: &[(&str, Probe)]) -> Recorded {
    let results = results.iter().map(|(at, probe)| (place(at), *probe));
    let (edits, recorded) = table.record(&Round {
        at_ms: 9,
        online,
        results: results.collect(),
    });
    table.apply(edits);
    recorded
}

#[test]
fn case_15_the_same_address_on_another_port_is_another_machine() {
    let table = table(vec![
        row("192.0.2.1:1", "a"),
        row("192.0.2.1:2", "b"),
        row("192.0.2.1:1", "c"),
    ]);
    assert_eq!(names(&table), ["192.0.2.1:1 c", "192.0.2.1:2 b"]);
}

#[test]
fn case_16_the_port_counts_for_ipv6_as_it_does_for_ipv4() {
    let table = table(vec![
        row("[2001:db8::1]:1", "a"),
        row("[2001:db8::1]:2", "b"),
    ]);
    assert_eq!(names(&table), ["[2001:db8::1]:1 a", "[2001:db8::1]:2 b"]);
}

#[test]
fn case_18_a_machine_that_cannot_be_reached_from_outside_is_kept_and_not_told() {
    let machine = |at: &str, nat: bool, escape: &str| {
        let mut row = row(at, "");
        row.flags.nat = nat;
        row.carried.escape_implementation = escape.to_owned();
        row
    };
    let table = table(vec![
        machine("192.0.2.1", true, "None"),
        machine("192.0.2.2", true, "FRP"),
        machine("192.0.2.3", false, "None"),
    ]);
    assert_eq!(table.list().len(), 3);
    let shared = table.shared(node(1));
    let told: Vec<_> = shared.iter().map(|row| row.place.to_string()).collect();
    assert_eq!(told, ["192.0.2.2:8088", "192.0.2.3:8088"]);
}

#[test]
fn case_17_a_machine_is_found_by_either_address_and_has_one_row() {
    let mut both = row("192.0.2.1", "a");
    both.add_host("2001:db8::1".parse().unwrap());
    let mut table = table(vec![both]);
    let merged = import(
        &mut table,
        vec![row("[2001:db8::1]", "b")],
        Source::Imported,
        false,
    );
    assert_eq!((merged.added, merged.changed), (0, 1));
    assert_eq!(names(&table), ["192.0.2.1:8088 b"]);
    assert_eq!(table.get(&place("[2001:db8::1]")).unwrap().name, "b");

    // The address that more machines reach becomes the key; the old key finds nothing of its own.
    let mut six = Table::default();
    import(
        &mut six,
        vec![row("[2001:db8::1]", "a")],
        Source::Imported,
        false,
    );
    let mut four = row("192.0.2.1", "");
    four.add_host("2001:db8::1".parse().unwrap());
    import(&mut six, vec![four], Source::Imported, false);
    assert_eq!(names(&six), ["192.0.2.1:8088 a"]);
}

#[test]
fn an_import_says_what_is_new_and_leaves_what_it_does_not_say() {
    let mut table = table(vec![row("192.0.2.1", "a"), row("192.0.2.2", "b")]);
    probe(&mut table, true, &[("192.0.2.1", answer(3.0, 10.0))]);
    import(
        &mut table,
        vec![row("192.0.2.3", "c")],
        Source::Configured,
        false,
    );

    let mut news = row("192.0.2.1", "");
    news.carried.custom_information = "news".to_owned();
    let rows = vec![
        news,
        row("192.0.2.2", "b"),
        row("192.0.2.3", ""),
        row("192.0.2.4", "d"),
    ];
    let merged = import(&mut table, rows.clone(), Source::Imported, false);
    assert_eq!((merged.added, merged.changed, merged.unchanged), (1, 1, 2));
    let first = table.get(&place("192.0.2.1")).unwrap();
    assert_eq!((first.name.as_str(), first.measured.is_some()), ("a", true));
    assert_eq!(first.carried.custom_information, "news");
    let third = table.get(&place("192.0.2.3")).unwrap();
    assert_eq!(
        (third.name.as_str(), third.source),
        ("c", Source::Configured)
    );
    assert_eq!(
        import(&mut table, rows, Source::Imported, false).unchanged,
        4
    );
}

#[test]
fn case_41_replacing_leaves_just_what_is_given_and_this_nodes_row() {
    let mut table = table(vec![row("192.0.2.1", "a"), row("192.0.2.2", "b")]);
    probe(&mut table, true, &[("192.0.2.1", answer(3.0, 10.0))]);
    let own = Row::new(place("192.0.2.9"), Source::Imported);
    table.apply(table.annotate("me".to_owned(), None, Some(own)).unwrap());
    let rows = vec![row("192.0.2.1", "")];
    let merged = import(&mut table, rows, Source::Configured, true);
    assert_eq!((merged.removed, merged.changed), (1, 1));
    assert_eq!(names(&table), ["192.0.2.1:8088 ", "192.0.2.9:8088 "]);
    let kept = table.get(&place("192.0.2.1")).unwrap();
    assert!(kept.measured.is_some() && kept.source == Source::Configured);
    assert_eq!(
        table.import(vec![], Source::Imported, true),
        Err(Refused::Empty),
        "an empty document emptied the table"
    );
}

#[test]
fn case_20_each_machine_keeps_its_own_text_and_no_remote_row_replaces_the_own_one() {
    let mut a = row("192.0.2.1", "a");
    a.carried.custom_information = "x".to_owned();
    let mut table = table(vec![a]);
    let mut b = told(2, "192.0.2.2", "b", true);
    Arc::make_mut(&mut b.row).carried.custom_information = "y".to_owned();
    let mut forged = told(2, "192.0.2.1", "forged", true);
    Arc::make_mut(&mut forged.row).carried.custom_information = "z".to_owned();
    table.set_told([b, forged]);
    let texts: Vec<_> = table
        .list()
        .iter()
        .map(|r| r.carried.custom_information.clone())
        .collect();
    assert_eq!(texts, ["x", "y"]);
    assert_eq!(names(&table), ["192.0.2.1:8088 a", "192.0.2.2:8088 b"]);

    let own = Row::new(place("192.0.2.9"), Source::Own);
    table.apply(table.annotate("mine".to_owned(), None, Some(own)).unwrap());
    table.set_told([told(2, "192.0.2.9", "forged", true)]);
    let mine = table.get(&place("192.0.2.9")).unwrap();
    assert_eq!((mine.name.as_str(), mine.source), ("", Source::Own));
    let mut forged = row("192.0.2.9", "forged");
    forged.carried.custom_information = "forged".to_owned();
    let merged = import(&mut table, vec![forged], Source::Imported, false);
    assert_eq!(merged.own, 1);
    assert_eq!(
        table
            .get(&place("192.0.2.9"))
            .unwrap()
            .carried
            .custom_information,
        "mine"
    );
}

#[test]
fn the_row_of_this_node_is_one_wherever_it_is() {
    let mut table = table(vec![row("192.0.2.1", "atlas"), row("192.0.2.2", "b")]);
    assert_eq!(table.annotate("x".to_owned(), None, None), None);
    let at = Some(place("192.0.2.1"));
    table.apply(table.annotate("one".to_owned(), at, None).unwrap());
    assert_eq!(
        table.own().unwrap().name,
        "atlas",
        "what was known of it stays"
    );
    let at = Some(place("192.0.2.9"));
    table.apply(table.annotate("two".to_owned(), at, None).unwrap());
    assert_eq!(names(&table), ["192.0.2.2:8088 b", "192.0.2.9:8088 atlas"]);
    table.apply(table.annotate("three".to_owned(), None, None).unwrap());
    assert_eq!(table.own().unwrap().carried.custom_information, "three");
    assert_eq!(table.list().len(), 2);
}

#[test]
fn what_a_machine_says_of_itself_fills_what_the_user_left_open() {
    let mut table = table(vec![row("192.0.2.1", "")]);
    table.set_told([told(2, "192.0.2.1", "hearsay", false)]);
    assert_eq!(names(&table), ["192.0.2.1:8088 "]);
    table.set_told([
        told(2, "192.0.2.1", "hearsay", false),
        told(3, "192.0.2.1", "itself", true),
    ]);
    assert_eq!(names(&table), ["192.0.2.1:8088 itself"]);
    assert_eq!(table.list()[0].source, Source::Imported);
    // W5: a key or an account is no text to show; nobody puts one into a row of the user.
    let mut login = told(3, "192.0.2.1", "itself", true);
    let carried = &mut Arc::make_mut(&mut login.row).carried;
    carried.public_key = "ssh-ed25519 AAAA".to_owned();
    carried.machine_username = "root".to_owned();
    table.set_told([login]);
    let shown = &table.list()[0];
    assert_eq!(
        (shown.name.as_str(), &shown.carried),
        ("itself", &Carried::default())
    );
    // It is shown, not copied: what it says next is shown next.
    table.set_told([told(3, "192.0.2.1", "renamed", true)]);
    assert_eq!(names(&table), ["192.0.2.1:8088 renamed"]);
}

#[test]
fn case_26_a_lost_probe_makes_suspect_several_unreachable_and_none_removes() {
    let mut table = table(vec![row("192.0.2.1", "a"), row("192.0.2.2", "b")]);
    table.set_told([told(2, "192.0.2.3", "c", true)]);
    let state = |table: &Table, at: &str| table.get(&place(at)).unwrap().state();
    assert_eq!(state(&table, "192.0.2.1"), State::Unknown);
    let good = ("192.0.2.2", answer(5.0, 0.0));
    for expected in [
        State::Suspect,
        State::Suspect,
        State::Unreachable,
        State::Unreachable,
    ] {
        let missed = [
            ("192.0.2.1", Probe::Missed),
            ("192.0.2.3", Probe::Missed),
            good,
        ];
        let recorded = probe(&mut table, false, &missed);
        assert_eq!((recorded.answered, recorded.missed), (1, 2));
        assert_eq!(state(&table, "192.0.2.1"), expected);
        assert_eq!(state(&table, "192.0.2.3"), expected);
        assert_eq!(state(&table, "192.0.2.2"), State::Reachable);
        assert_eq!(table.list().len(), 3, "a miss removed a row");
    }
    // Without --all only hearsay goes, and it stays away while it is the same.
    let (edits, gone) = table.prune(false);
    assert_eq!(gone.len(), 1);
    table.apply(edits);
    assert_eq!(names(&table), ["192.0.2.1:8088 a", "192.0.2.2:8088 b"]);
    table.set_told([told(2, "192.0.2.3", "c", true)]);
    assert_eq!(table.list().len(), 2);
    table.set_told([told(2, "192.0.2.3", "moved", true)]);
    assert_eq!(table.list().len(), 3);
    let (edits, gone) = table.prune(true);
    assert_eq!(gone.len(), 1);
    table.apply(edits);
    assert_eq!(names(&table), ["192.0.2.2:8088 b", "192.0.2.3:8088 moved"]);
    // What was noted of a machine goes with the last one who tells of it.
    assert_eq!(table.kept.len(), 2);
    table.set_told([]);
    table.apply(table.prune(false).0);
    assert_eq!(table.kept.len(), 1);
}

#[test]
fn case_45_of_the_machines_that_are_due_only_hearsay_that_is_unreachable_goes() {
    let mut table = table(vec![row("192.0.2.1", "imported")]);
    let configured = vec![row("192.0.2.2", "configured")];
    import(&mut table, configured, Source::Configured, false);
    let at = ["192.0.2.3", "192.0.2.4", "192.0.2.5"];
    table.set_told(at.map(|at| told(2, at, "told", false)));
    let dead = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"];
    for _ in 0..3 {
        let missed = dead.map(|at| (at, Probe::Missed));
        probe(&mut table, true, &missed);
    }
    probe(&mut table, true, &[("192.0.2.5", Probe::Missed)]);
    // The fourth is not due, the fifth is no more than suspect.
    let due = [
        "192.0.2.1",
        "192.0.2.2",
        "192.0.2.3",
        "192.0.2.5",
        "192.0.2.9",
    ];
    let (edits, gone) = table.prune_among(&due.map(place).into());
    let gone: Vec<_> = gone.iter().map(|row| row.place.clone()).collect();
    assert_eq!(gone, [place("192.0.2.3")]);
    table.apply(edits);
    assert_eq!(table.list().len(), 4);
    assert_eq!(table.prune_among(&BTreeSet::new()).1, []);
}

#[test]
fn case_45_a_member_that_went_comes_back_when_it_answers_and_one_that_was_removed_does_not() {
    let (away, removed, hearsay) = ("192.0.2.1", "192.0.2.2", "192.0.2.3");
    let tell = |table: &mut Table| {
        table.set_told([
            told(2, away, "away", true),
            told(3, removed, "removed", true),
            told(3, hearsay, "hearsay", false),
        ]);
    };
    let mut table = Table::default();
    tell(&mut table);
    for _ in 0..3 {
        let missed = [away, removed, hearsay].map(|at| (at, Probe::Missed));
        probe(&mut table, true, &missed);
    }
    table.apply(table.remove(&place(removed)).unwrap());
    let due = [away, hearsay].map(place).into();
    table.apply(table.prune_among(&due).0);
    assert_eq!(names(&table), Vec::<String>::new());
    tell(&mut table);
    let pruned = |table: &Table| {
        let rows = table.pruned();
        rows.iter().map(|row| row.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(pruned(&table), ["away"], "others are not asked again");
    probe(&mut table, true, &[(away, Probe::Missed)]);
    assert_eq!(names(&table), Vec::<String>::new());
    let answers = [away, removed].map(|at| (at, answer(5.0, 0.0)));
    let recorded = probe(&mut table, true, &answers);
    assert_eq!((recorded.answered, recorded.gone), (1, 1));
    assert_eq!(names(&table), ["192.0.2.1:8088 away"]);
    assert_eq!(table.list()[0].state(), State::Reachable);
    assert_eq!(pruned(&table), Vec::<String>::new());
}

#[test]
fn case_26_an_outage_of_this_machine_itself_is_nobodys_miss() {
    let mut table = table(vec![row("192.0.2.1", "a"), row("192.0.2.2", "b")]);
    let all = [("192.0.2.1", Probe::Missed), ("192.0.2.2", Probe::Missed)];
    for _ in 0..5 {
        let recorded = probe(&mut table, false, &all);
        assert_eq!((recorded.excused, recorded.missed), (2, 0));
    }
    assert!(table.list().iter().all(|row| row.state() == State::Unknown));
    assert_eq!(
        probe(&mut table, true, &all).missed,
        2,
        "links are up: it counts"
    );
}

#[test]
fn a_measurement_keeps_the_figures_that_it_did_not_take() {
    let mut table = table(vec![row("192.0.2.1", "a")]);
    probe(&mut table, true, &[("192.0.2.1", answer(5.0, 80.0))]);
    probe(&mut table, true, &[("192.0.2.1", Probe::Missed)]);
    let results = [
        ("192.0.2.1", answer(4.0, 0.0)),
        ("192.0.2.7", Probe::Missed),
    ];
    assert_eq!(probe(&mut table, true, &results).gone, 1);
    let row = table.get(&place("192.0.2.1")).unwrap();
    let measured = row.measured.unwrap();
    assert_eq!(measured.least, Latency::from_ms(4.0));
    assert_eq!(measured.download, Speed::from_mbps(80.0));
    assert_eq!(row.state(), State::Reachable);
}

#[test]
fn removing_holds_against_others_who_tell_of_it_until_they_say_something_new() {
    let mut table = table(vec![row("192.0.2.1", "a")]);
    table.set_told([told(2, "192.0.2.1", "b", false)]);
    table.apply(table.remove(&place("192.0.2.1")).unwrap());
    assert_eq!(names(&table), [""; 0]);
    assert_eq!(table.remove(&place("192.0.2.1")), None);
    table.set_told([told(2, "192.0.2.1", "c", false)]);
    assert_eq!(names(&table), ["192.0.2.1:8088 c"]);
    // And the user's own word undoes it.
    table.set_told([told(2, "192.0.2.1", "b", false)]);
    assert_eq!(
        import(
            &mut table,
            vec![row("192.0.2.1", "")],
            Source::Configured,
            false
        )
        .added,
        1
    );
    assert_eq!(table.list()[0].source, Source::Configured);
}

#[test]
fn a_table_that_everybody_imported_is_told_once() {
    let mut ids = [(1, node(1)), (2, node(2))];
    ids.sort_by_key(|(_, id)| *id);
    let [(_, low), (_, high)] = ids;
    let table_of = |me: NodeId, other: u8| {
        let mut table = table(vec![row("192.0.2.1", "a")]);
        table.set_told([told(other, "192.0.2.1", "a", false)]);
        table.shared(me).len()
    };
    assert_eq!(table_of(low, ids[1].0), 1);
    assert_eq!(table_of(high, ids[0].0), 0);

    let rows = (0..200).map(|n| row(&format!("192.0.2.{n}"), "")).collect();
    let mut table = table(rows);
    let own = Row::new(place("192.0.3.9"), Source::Own);
    table.apply(table.annotate("me".to_owned(), None, Some(own)).unwrap());
    let shared = table.shared(low);
    assert_eq!(shared.len(), MAX_SHARED);
    assert_eq!(
        shared[0].source,
        Source::Own,
        "this node itself comes first"
    );
}

fn any_row() -> impl Strategy<Value = Row> {
    let host = prop_oneof![
        (0u8..6).prop_map(|n| format!("192.0.2.{n}")),
        (0u8..4).prop_map(|n| format!("2001:db8::{n}")),
        (0u8..4).prop_map(|n| format!("h{n}.example")),
    ];
    let second = prop::option::of((0u8..4).prop_map(|n| format!("2001:db8::{n}")));
    let texts = ("[a-z\u{1b}ü]{0,3}", "[ -~]{0,3}", any::<bool>());
    let figures = (prop::option::of(10_000u64..1 << 40), 0u16..300);
    (host, second, 1u16..3, texts, figures).prop_map(|(host, second, port, texts, figures)| {
        let port = std::num::NonZeroU16::new(port).unwrap();
        let mut row = Row::new(Place::new(host.parse().unwrap(), port), Source::Imported);
        if let Some(second) = second {
            row.add_host(second.parse().unwrap());
        }
        (row.name, row.carried.custom_information, row.flags.nat) = texts;
        row.stated.latency = figures.0.and_then(Latency::from_ns);
        row.stated.download = Speed::from_mbps(f64::from(figures.1));
        row
    })
}

fn any_told() -> impl Strategy<Value = Told> {
    (any_row(), 1u8..5, any::<bool>()).prop_map(|(mut row, author, own)| {
        row.source = Source::Learnt(node(author));
        row.stated = Default::default();
        Told {
            row: row.into(),
            own,
        }
    })
}

fn text(rows: &[Arc<Row>], profile: Profile) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, rows.iter().map(|row| &**row), profile).unwrap();
    out
}

proptest! {
    #[test]
    fn import_export_import_is_the_identity(
        rows in prop::collection::vec(any_row(), 1..12),
        others in prop::collection::vec(any_row(), 0..6),
    ) {
        let first = table(rows);
        let list = first.list();
        for profile in [Profile::Current, Profile::Legacy] {
            let document = text(&list, profile);
            let read = read(&document, Options::default()).unwrap();
            let second = table(read.rows.clone());
            prop_assert_eq!(&second.list(), &list);
            prop_assert_eq!(text(&second.list(), profile), document);
            // And into the table that it came from it brings nothing.
            let (edits, merged) = first.import(read.rows.clone(), Source::Imported, false).unwrap();
            prop_assert!(edits.is_empty(), "{edits:?} {merged:?}");
            let (edits, _) = first.import(read.rows.clone(), Source::Imported, true).unwrap();
            prop_assert!(edits.is_empty(), "{edits:?}");
            // Whatever was there, a table that is replaced is what was given.
            let mut other = table(others.clone());
            import(&mut other, read.rows, Source::Imported, true);
            prop_assert_eq!(&other.list(), &list);
        }
    }

    #[test]
    fn case_21_what_others_tell_is_the_same_in_any_order_and_told_twice(
        rows in prop::collection::vec(any_row(), 0..6),
        all in prop::collection::vec(any_told(), 0..12),
        seed in any::<u64>(),
    ) {
        // An author has one entry for a place.
        let mut by_slot = BTreeMap::new();
        for told in all {
            by_slot.insert((told.row.place.clone(), author(&told.row)), told);
        }
        let all: Vec<Told> = by_slot.into_values().collect();
        let mut shuffled = all.clone();
        let n = shuffled.len().max(1);
        shuffled.rotate_left(usize::try_from(seed % 97).unwrap() % n);
        shuffled.reverse();
        shuffled.extend(all.clone());
        let mut one = table(rows);
        let kept = one.list();
        one.set_told(all);
        let list = one.list();
        one.set_told(shuffled);
        prop_assert_eq!(&one.list(), &list);
        for row in &list {
            prop_assert!(row.measured.is_none());
        }
        // Nothing that the user gave is replaced or gone.
        for row in kept {
            let now = one.get(&row.place).unwrap();
            prop_assert_eq!(now.source, row.source);
            prop_assert_eq!(now.stated, row.stated);
            prop_assert!(row.name.is_empty() || now.name == row.name);
        }
    }

    #[test]
    fn the_index_of_second_addresses_is_what_the_rows_say(
        imports in prop::collection::vec((prop::collection::vec(any_row(), 1..5), any::<bool>()), 1..6),
        removed in prop::collection::vec(any_row(), 0..4),
    ) {
        let mut table = Table::default();
        for (rows, replace) in imports {
            import(&mut table, rows, Source::Imported, replace);
        }
        for row in removed {
            if let Some(edits) = table.remove(&row.place) {
                table.apply(edits);
            }
        }
        let fresh = Table::new(table.list().iter().map(|row| Row::clone(row)).collect());
        prop_assert_eq!(&table.kept, &fresh.kept);
        for (second, first) in &table.second {
            prop_assert!(table.kept[first].places().any(|place| place == *second));
        }
        for row in table.list() {
            for place in row.places() {
                prop_assert!(table.get(&place).is_some());
            }
        }
    }
}
