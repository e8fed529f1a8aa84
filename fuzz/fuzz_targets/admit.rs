//! What an outsider may send: one batch of datagrams, as the socket hands it to the filter. Only
//! a knock that the keys of the network made may pass, and only for this node.
#![no_main]

use std::net::SocketAddr;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use warren::mesh::filter::{Datagram, MIN_DATAGRAM_BYTES, classify, compact};
use warren::mesh::id::Identity;
use warren::mesh::keys::{NetworkKeys, Secret, Target, accepted_epochs};
use warren::mesh::knock::Gate;
use warren::mesh::shard::{MAX_SHARDS, Naming};
use warren::mesh::time::Now;
use warren::mesh::token::Token;

/// Epoch 195000 and the secret of the published vectors, so that their knock is a seed.
const UNIX_S: u64 = 195_000 * 9_000;

/// What the seed `initial-knock` carries: the vector for 192.0.2.7:7717.
const KNOCK: [u8; 20] = [
    0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b, 0x5a, 0x4a, 0x11, 0xc8,
    0xe2, 0x37, 0x47, 0x63,
];

struct Member {
    gate: Gate,
    targets: [Target; 2],
    mono: Duration,
}

static MEMBER: LazyLock<Mutex<Member>> = LazyLock::new(|| {
    let secret: [u8; 32] = std::array::from_fn(|i| i as u8);
    let token = Token::new(Secret::new(secret), 9_000, 360).expect("valid intervals");
    let me = Identity::from_seed(&[1; 32]).id();
    let here: SocketAddr = "192.0.2.7:7717".parse().expect("an address");
    let network = NetworkKeys::new(&token);
    assert!(
        network
            .epoch(UNIX_S / 9_000)
            .is_knock(&KNOCK, &Target::Address(here))
    );
    let now = Now {
        mono: Duration::ZERO,
        unix_ms: UNIX_S * 1000,
    };
    let mut gate = Gate::new(now, network, me, true);
    gate.set_own(vec![here]);
    Mutex::new(Member {
        gate,
        targets: [Target::Node(me), Target::Address(here)],
        mono: Duration::ZERO,
    })
});

fuzz_target!(|data: &[u8]| {
    let mut member = MEMBER.lock().expect("the last run ended well");
    let mut batch = data.to_vec();
    let stride = data.first().map_or(1, |len| usize::from(*len) * 8);
    let (mut kept, mut next) = (0, 0);
    let left = compact(&mut batch, stride, |datagram| {
        let passes = member.passes(datagram);
        assert_eq!(datagram, &data[next..next + datagram.len()]);
        next += datagram.len();
        kept += if passes { datagram.len() } else { 0 };
        passes
    });
    assert_eq!((left, next), (kept, data.len()));
    member.passes(data);
});

impl Member {
    fn passes(&mut self, datagram: &[u8]) -> bool {
        match classify(datagram) {
            Datagram::Drop => false,
            Datagram::ForConnection([a, b, c, d, ..]) => {
                assert!(datagram.len() >= MIN_DATAGRAM_BYTES);
                // Whatever its id is, it is for one of the shards that there are.
                for shards in [1, 3, MAX_SHARDS] {
                    let naming = Naming::new([1, 0x9e37_79b1, 0x85eb_ca6b], shards);
                    assert!(naming.shard([a, b, c, d]) < shards);
                }
                true
            }
            Datagram::Knock(dcid) => {
                // Time moves so that the limit on address-bound knocks hides nothing.
                self.mono += Duration::from_secs(1);
                let admitted = self.gate.admit(self.mono, &dcid, None);
                let network = self.gate.network();
                let genuine = accepted_epochs(UNIX_S, network.crypto_interval()).any(|epoch| {
                    let keys = network.epoch(epoch);
                    self.targets
                        .iter()
                        .any(|target| keys.is_knock(&dcid, target))
                });
                assert_eq!(admitted, genuine);
                assert_eq!(self.gate.recall(&dcid).is_some(), genuine);
                admitted
            }
        }
    }
}
