//! An SMTP protocol core without I/O.
//!
//! Three floors, each of which knows only what is under it:
//!
//! - [`wire`]: bytes. Lines, dot-stuffing, BDAT framing, xtext, base64, the PROXY header.
//! - [`syntax`]: words. Commands, replies, paths, parameters and EHLO keywords, read and written.
//! - [`session`]: conversations. A state machine for each side, the transaction, limits and timers.
//!
//! Beside them stands [`dkim`]: the forms of a message that a signature is made of.
//!
//! Nothing here opens a socket, reads a clock, starts a thread or keeps a global. Octets come in, events and
//! octets go out, and the same input gives the same output however it was split.
#![forbid(unsafe_code)]

pub mod dkim;
pub mod session;
pub mod syntax;
pub mod wire;

/// The examples of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
