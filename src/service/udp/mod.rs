//! Datagrams between a client, the mesh and a real server. A flow is what one client says and
//! hears; it has one node at a time, and one stream there, beside which its datagrams go.
//!
//! As with UDP itself nothing is repeated, put in order or waited for. What is lost here is
//! counted ([`Counters::lost`](super::counts::Counters::lost)).
//!
//! | module | does |
//! |---|---|
//! | [`listen`] | the local listener: which flow a datagram is of |
//! | `flow` | one flow of an ingress: choose a node, carry, choose another when it has gone |
//! | [`serve`] | one flow of an egress |
//! | [`side`] | what a flow runs between: a client, a link, a server |

mod flow;
pub mod listen;
pub mod serve;
pub mod side;

use std::pin::pin;
use std::time::Duration;

use tokio::time::sleep;

use super::counts::Counters;
use side::{Side, Took};

/// Without a datagram for this long a flow is over, unless the ingress was told otherwise.
pub const FLOW_TIMEOUT: Duration = Duration::from_secs(60);
/// Flows of one ingress. Each costs a socket and a stream at another node.
pub const MAX_FLOWS: usize = 2_048;
/// Flows of one client address of an ingress.
pub const MAX_FLOWS_PER_CLIENT: usize = MAX_FLOWS / 2;
/// Flows that a node serves for one other node: those of one full ingress and some that are just
/// ending. The tunnels of a link need streams as well.
pub const MAX_FLOWS_PER_PEER: usize = MAX_FLOWS + MAX_FLOWS / 4;
/// A node or a role that ends waits for answers on their way: until a flow is quiet for this long.
const QUIET: Duration = Duration::from_secs(1);

/// Why a flow was carried no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The side of the client has ended it.
    Near,
    /// The side of the server has.
    Far,
    /// It was to end and had nothing more to say.
    Quiet,
}

/// Carries datagrams both ways until one side ends, or, once `closing` is done, until nothing
/// is said.
async fn carry<N: Side, F: Side>(
    near: &mut N,
    far: &mut F,
    closing: impl Future<Output = ()>,
    counters: &Counters,
) -> End {
    let mut closing = pin!(closing);
    let mut is_closing = false;
    loop {
        let took = tokio::select! {
            said = near.next() => match said {
                Some(said) => far.take(&said),
                None => return End::Near,
            },
            answer = far.next() => match answer {
                Some(answer) => near.take(&answer),
                None => return End::Far,
            },
            () = &mut closing, if !is_closing => {
                is_closing = true;
                continue;
            }
            // Made anew with every datagram.
            () = sleep(QUIET), if is_closing => return End::Quiet,
        };
        match took {
            Took::Sent => {}
            Took::Lost(why) => counters.lose(why),
            // Only a server says no to a datagram: it does not run.
            Took::Refused => return End::Far,
        }
    }
}
