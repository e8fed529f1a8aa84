//! Documents of other systems, and the notations they share. Pure: text in, values out, and back.

pub mod explorer;
pub mod iptable;
mod json;
pub mod localai;
pub mod localai_p2p;
pub mod multipart;
pub mod network_add;
pub mod p2prc_config;
pub mod p2prc_http;
pub mod report;
pub mod timestamp;
