//! service

pub mod spec;
