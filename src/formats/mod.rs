//! Documents of other systems, read and written. Pure: no files, no network, no clock.

pub mod localai;
