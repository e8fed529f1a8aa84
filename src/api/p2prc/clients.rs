//! What each client of P2PRC's routes has left. Time is an argument.

use std::net::IpAddr;
use std::time::Duration;

use crate::api::clients::{self, Allowance, Site, V6, Who};
use crate::mesh::rate::Rate;

/// Connections of one client at once.
const MAX_CONNECTIONS: usize = 16;
/// FRP servers of one client at once: P2PRC asks for two, for itself and for SSH.
const MAX_SERVERS: usize = 4;
/// New machines that one client may bring at once, and how long until as many are free again.
const NEW_ROWS: f64 = 256.0;
const NEW_ROWS_PERIOD_S: f64 = 3_600.0;

/// P2PRC nodes of one provider's customer are one client.
const BY: V6 = V6::Customer;

/// What a request costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cost {
    /// Any request.
    Request,
    /// A table besides.
    Table,
    /// A download besides.
    Download,
    /// An upload besides.
    Upload,
    /// An FRP server besides.
    Server,
}

impl Cost {
    /// Seconds after which one more is allowed.
    pub(super) fn retry_after(self) -> &'static str {
        match self {
            Self::Request => "1",
            Self::Table | Self::Download | Self::Upload => "5",
            Self::Server => "60",
        }
    }
}

/// Whether two addresses are those of one client.
pub(super) fn are_one(a: IpAddr, b: IpAddr) -> bool {
    Site::of(a, BY) == Site::of(b, BY)
}

/// Every client with less than everything left.
pub(super) struct Clients(clients::Clients<Client>);

impl Default for Clients {
    fn default() -> Self {
        Self(clients::Clients::new(Client::default(), BY))
    }
}

#[derive(Clone)]
struct Client {
    requests: Rate,
    tables: Rate,
    downloads: Rate,
    uploads: Rate,
    rows: Rate,
    servers: Rate,
    connections: usize,
    running: usize,
}

impl Default for Client {
    fn default() -> Self {
        // A probe of ours asks some dozen times in a second, uploads twice and downloads once.
        Self {
            requests: Rate::new(10.0, 100.0),
            tables: Rate::new(0.2, 10.0),
            downloads: Rate::new(0.2, 5.0),
            uploads: Rate::new(0.2, 10.0),
            rows: Rate::new(NEW_ROWS / NEW_ROWS_PERIOD_S, NEW_ROWS),
            servers: Rate::new(1.0 / 60.0, 4.0),
            connections: 0,
            running: 0,
        }
    }
}

impl Allowance for Client {
    fn is_whole(&self, now: Duration) -> bool {
        let rates = [
            &self.requests,
            &self.tables,
            &self.downloads,
            &self.uploads,
            &self.rows,
            &self.servers,
        ];
        self.connections + self.running == 0 && rates.iter().all(|rate| rate.is_full(now))
    }
}

impl Clients {
    /// Takes one more connection of a client, unless it has too many.
    pub(super) fn enter(&mut self, ip: IpAddr, now: Duration) -> Option<Who> {
        let who = self.0.who(ip, now);
        let client = self.client(who);
        let taken = client.connections < MAX_CONNECTIONS;
        client.connections += usize::from(taken);
        taken.then_some(who)
    }

    /// A connection that was taken has ended.
    pub(super) fn leave(&mut self, who: Who) {
        let client = self.client(who);
        client.connections = client.connections.saturating_sub(1);
    }

    /// Takes one more FRP server of a client, unless it has too many.
    pub(super) fn begin_server(&mut self, who: Who) -> bool {
        let client = self.client(who);
        let taken = client.running < MAX_SERVERS;
        client.running += usize::from(taken);
        taken
    }

    /// An FRP server that was taken has ended.
    pub(super) fn end_server(&mut self, who: Who) {
        let client = self.client(who);
        client.running = client.running.saturating_sub(1);
    }

    /// Whether a client may do what costs that.
    pub(super) fn charge(&mut self, who: Who, now: Duration, cost: Cost) -> bool {
        let client = self.client(who);
        let rate = match cost {
            Cost::Request => &mut client.requests,
            Cost::Table => &mut client.tables,
            Cost::Download => &mut client.downloads,
            Cost::Upload => &mut client.uploads,
            Cost::Server => &mut client.servers,
        };
        rate.take(now, 1.0)
    }

    /// How many new machines a client may bring.
    pub(super) fn room(&mut self, who: Who, now: Duration) -> usize {
        self.client(who).rows.whole(now)
    }

    /// A client has brought new machines.
    pub(super) fn took(&mut self, who: Who, now: Duration, rows: usize) {
        let rates = &mut self.client(who).rows;
        // Two requests at once may have been given the same room; neither is given more of it.
        let rows = rows.min(rates.whole(now));
        rates.take(now, u32::try_from(rows).map_or(f64::MAX, f64::from));
    }

    fn client(&mut self, who: Who) -> &mut Client {
        self.0.allowance(who)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::clients::MAX_CLIENTS;

    fn ip(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from(0x0900_0000 + n).into()
    }

    const NOW: Duration = Duration::from_secs(1_000);

    #[test]
    fn a_client_has_its_own_allowance_and_gets_it_back() {
        let mut clients = Clients::default();
        let [first, second] = [0, 1].map(|n| clients.enter(ip(n), NOW).unwrap());
        for who in [first, second] {
            let passed = (0..500).filter(|_| clients.charge(who, NOW, Cost::Request));
            assert_eq!(passed.count(), 100);
            let tables = (0..50).filter(|_| clients.charge(who, NOW, Cost::Table));
            assert_eq!(tables.count(), 10);
        }
        let later = NOW + Duration::from_secs(5);
        assert!(clients.charge(first, later, Cost::Table));
        assert!(!clients.charge(first, later, Cost::Table));
        assert_eq!(clients.room(first, NOW), 256);
        clients.took(first, NOW, 200);
        assert_eq!(clients.room(first, NOW), 56);
        clients.took(first, NOW, 200);
        assert_eq!(clients.room(first, NOW), 0);
    }

    #[test]
    fn connections_of_a_client_end_at_a_number_and_come_back_when_they_end() {
        let mut clients = Clients::default();
        let entered: Vec<_> = (0..99).filter_map(|_| clients.enter(ip(1), NOW)).collect();
        assert_eq!(entered.len(), MAX_CONNECTIONS);
        assert!(clients.enter(ip(2), NOW).is_some());
        clients.leave(entered[0]);
        assert!(clients.enter(ip(1), NOW).is_some());
        assert!(clients.enter(ip(1), NOW).is_none());
        // Addresses of one IPv6 customer are one client.
        let v6 = |n: u16| IpAddr::from([0x2a00, 1, 2, n, 0, 0, 0, n]);
        let entered = (0..99).filter(|n| clients.enter(v6(*n), NOW).is_some());
        assert_eq!(entered.count(), MAX_CONNECTIONS);
    }

    #[test]
    fn a_client_with_a_server_is_not_forgotten_and_has_only_so_many() {
        let mut clients = Clients::default();
        let who = clients.enter(ip(1), NOW).unwrap();
        assert_eq!((0..9).filter(|_| clients.begin_server(who)).count(), 4);
        clients.leave(who);
        clients.end_server(who);
        let most = u32::try_from(MAX_CLIENTS).unwrap();
        for n in 2..=most + 1 {
            let other = clients.enter(ip(n), NOW).unwrap();
            clients.leave(other);
        }
        assert_eq!((0..9).filter(|_| clients.begin_server(who)).count(), 1);
        assert!(are_one(
            "2a00:0:1:2::3".parse().unwrap(),
            "2a00:0:1::".parse().unwrap()
        ));
        assert!(!are_one(ip(1), ip(2)));
    }
}
