//! The server's side of a session.

pub(crate) mod config;
pub(crate) mod connection;
pub(crate) mod event;
