//! Decisions of the mesh. No async, no sockets, no disk, no clock, no global randomness:
//! `now` and `rng` are arguments, effects are values.
//!
//! | module | decides |
//! |---|---|
//! | [`id`], [`name`] | who a node is, what things may be called |
//! | [`token`], [`keys`] | what a network's secret is, and which keys follow from it |
//! | [`entry`] | which bytes an author signs |
//! | [`view`] | what the rest of the program sees of the mesh |
//! | [`balance`] | which node gets the next request |
//! | [`stream`] | the bytes at the head of a tunnel's stream |

pub mod addr;
pub mod balance;
pub mod entry;
pub mod event;
pub mod id;
pub mod keys;
pub mod name;
pub mod stream;
pub mod time;
pub mod token;
pub mod view;
