//! `iptable`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use warren::formats::iptable::Profile;
use warren::mesh::ip_table::{Place, Sort};
use warren::mesh::name::Name;

use crate::config::Span;

/// `iptable`.
#[derive(Subcommand, Debug)]
pub(crate) enum IpTableCommand {
    /// List machines
    #[command(after_help = "Examples:
  warren iptable ls
  warren iptable ls --sort download
  warren iptable ls --json | jq '.ip_table[] | select(.state == \"reachable\").address'

A figure with ~ is what a document said; the others were measured by this node. A measured
latency is a round trip, one that P2PRC said is one way, and that is how they are sorted.")]
    Ls {
        /// name, address, latency, download, upload, seen or source
        #[arg(long, value_name = "BY", default_value_t)]
        sort: Sort,
    },
    /// Add a machine
    #[command(after_help = "Examples:
  warren iptable add 192.0.2.7
  warren iptable add host.example:9000 --name atlas
  warren iptable add '[2001:db8::1]:8088'
  warren iptable add 192.0.2.7 --replace --yes

Without a port it is 8088, P2PRC's. --replace is P2PRC's --AddRootNode.")]
    Add {
        /// HOST, HOST:PORT or [IPV6]:PORT
        address: Place,
        /// What to call it
        #[arg(long, id = "machine_name", value_name = "NAME")]
        name: Option<Name>,
        /// Forget every other machine that was added or imported; asks first
        #[arg(long)]
        replace: bool,
        /// Do not ask
        #[arg(long, short = 'y', requires = "replace")]
        yes: bool,
    },
    /// Remove machines: all of those given, or none
    #[command(after_help = "Examples:
  warren iptable rm 192.0.2.7
  warren iptable rm 192.0.2.7 host.example:9000")]
    Rm {
        /// HOST, HOST:PORT or [IPV6]:PORT
        #[arg(required = true, value_name = "ADDRESS")]
        addresses: Vec<Place>,
    },
    /// Ask machines whether they answer, and measure the way to them
    #[command(after_help = "Examples:
  warren iptable probe
  warren iptable probe 192.0.2.7 host.example:9000
  warren iptable probe --deadline 2m --latency-only
  warren iptable probe --json | jq -c 'select(.machine.outcome == \"missed\").machine.address'

P2PRC's servers are asked over HTTP: /server_info for the round trip, /50 and /upload for the
speeds. A row in which a node of the mesh speaks of itself is measured over its link, by a running
daemon. One miss makes a machine suspect, three in a row unreachable; while this machine itself
seems offline, none is counted. Of machines that only other nodes told of, addresses that are not
of the internet are left out unless you name them.

With --json each machine is a line, printed when it is noted. Ends with 1 if nothing could be
found out about any machine; one that does not answer is a result.")]
    Probe(ProbeArgs),
    /// Remove machines that do not answer, of those that other nodes told of
    #[command(after_help = "Examples:
  warren iptable prune --dry-run
  warren iptable prune --all

Machines are unreachable after three tries in a row that failed. This node's own row, and
without --all what was added or imported, stays. `warren up --iptable-refresh 5m
--iptable-prune-after 24h` does it by itself.")]
    Prune {
        /// Also of those that were added or imported
        #[arg(long)]
        all: bool,
        /// Only say which
        #[arg(long)]
        dry_run: bool,
    },
    /// Take in a table of P2PRC, of any version: all of it, or nothing
    #[command(after_help = "Examples:
  warren iptable import ip_table.json
  warren iptable import --dry-run --skip-bad ip_table.json
  warren iptable import --p2prc-config ~/p2prc/config.json
  curl -s https://example.org/table.json | warren iptable import -

What the table says of a machine goes before what was known of it; what it leaves open, own
measurements and this node's row stay.")]
    Import(ImportArgs),
    /// Write the table for P2PRC
    #[command(after_help = "Examples:
  warren iptable export ip_table.json
  warren iptable export --format legacy > ip_table.json

current is read by P2PRC since 2025-04, legacy by v1.1.1 to v3.0.0, documented is the form of
its documents. The same table always gives the same bytes.")]
    Export(ExportArgs),
    /// Say something about this node, which every node's table then shows (P2PRC's --amd)
    #[command(after_help = "Examples:
  warren iptable annotate 'two GPUs, free at night'
  warren iptable annotate '' --address 203.0.113.7:8088")]
    Annotate {
        /// What to say; empty takes it back
        text: String,
        /// Where others reach this node, which moves its row; default where the running daemon is
        /// reached, or was
        #[arg(long, id = "own_address", value_name = "HOST:PORT")]
        address: Option<Place>,
    },
}

/// `iptable probe`.
#[derive(Args, Debug)]
pub(crate) struct ProbeArgs {
    /// HOST, HOST:PORT or [IPV6]:PORT; default every machine but this node
    #[arg(value_name = "ADDRESS")]
    pub(crate) addresses: Vec<Place>,
    /// Report everything by then: 500ms, 30s, 5m
    #[arg(long, value_name = "TIME", default_value = "14s")]
    pub(crate) deadline: Span,
    /// Ask so many machines at once, 1 to 1000
    #[arg(long, value_name = "COUNT", default_value_t = 200)]
    pub(crate) at_once: usize,
    /// Measure round trips only
    #[arg(long)]
    pub(crate) latency_only: bool,
}

/// `iptable import`.
#[derive(Args, Debug)]
pub(crate) struct ImportArgs {
    /// File; - reads standard input
    #[arg(
        required_unless_present = "p2prc_config",
        conflicts_with = "p2prc_config"
    )]
    pub(crate) file: Option<PathBuf>,
    /// Read the table that a config.json of P2PRC names; default $P2PRC/config.json
    #[arg(long, value_name = "CONFIG", num_args = 0..=1, require_equals = false)]
    pub(crate) p2prc_config: Option<Option<PathBuf>>,
    /// Also read the commas of P2PRC's documented sample, and latencies with a fraction
    #[arg(long)]
    pub(crate) lenient: bool,
    /// Leave bad rows out instead of refusing the table
    #[arg(long)]
    pub(crate) skip_bad: bool,
    /// Forget every machine that was added or imported and is not in it
    #[arg(long)]
    pub(crate) replace: bool,
    /// Only say what would happen
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `iptable export`.
#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    /// File; - or nothing writes standard output
    pub(crate) file: Option<PathBuf>,
    /// current, legacy or documented
    #[arg(long, value_name = "FORMAT", default_value_t)]
    pub(crate) format: Profile,
}
