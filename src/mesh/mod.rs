//! Decisions of the mesh. No async, no sockets, no disk, no clock, no global randomness:
//! `now` and `rng` are arguments, effects are values.
//!
//! | module | decides |
//! |---|---|
//! | [`id`], [`name`] | who a node is, what things may be called |
//! | [`token`], [`keys`] | what a network's secret is, and which keys follow from it |
//! | [`entry`], [`alive`] | which bytes an author signs |
//! | [`rings`], [`suspicion`] | who watches whom, and what is said of who is silent |
//! | [`brain`] | everything that waits for nothing: links, membership, the ledger's spread |
//! | [`view`] | what the rest of the program sees of the mesh |
//! | [`balance`] | which node gets the next request |
//! | [`ip_table`] | what is known of a machine that is reached by address |
//! | [`observer`], [`restraint`] | what an observer of a network is shown, and whom it may dial |
//! | [`networks`] | what an explorer knows of networks |
//! | [`stream`] | the bytes at the head of a stream |
//! | [`measure`], [`probe`] | what a measurement is, whom a node measures with, what the probe of a server says |
//! | [`datagram`], [`flows`] | which flow a datagram belongs to, and which flows there are |
//! | [`pace`] | what datagrams leave to streams |
//! | [`congestion`], [`window`] | how much may be under way on a path, and wait on a link |
//! | [`shard`] | how many threads carry bytes, and which one a connection is on |

pub mod addr;
pub mod alive;
pub mod balance;
pub mod brain;
pub mod close;
pub mod congestion;
pub mod datagram;
pub mod entry;
pub mod event;
pub mod filter;
pub mod floor;
pub mod flows;
pub mod hello;
pub mod id;
pub mod ip_table;
pub mod keys;
pub mod knock;
pub mod ledger;
pub mod measure;
pub mod members;
pub mod name;
pub mod networks;
pub mod observed;
pub mod observer;
pub mod pace;
pub mod probe;
pub mod rate;
pub mod records;
pub mod resolve;
pub mod restraint;
pub mod rings;
pub mod shard;
pub mod stream;
pub mod suspicion;
pub mod sync;
pub mod time;
pub mod token;
pub mod view;
pub mod window;
pub mod wire;
