//! An SMTP protocol core without I/O.
//!
//! Three floors, each of which knows only what is under it:
//!
//! - [`wire`]: bytes. Lines, dot-stuffing, BDAT framing, xtext, base64.
//! - [`syntax`]: words. Commands, replies, paths, parameters and EHLO keywords, read and written.
//! - [`session`]: conversations. The server's state machine, its transaction, limits and timers.
//!
//! Nothing here opens a socket, reads a clock, starts a thread or keeps a global. Octets come in, events and
//! octets go out, and the same input gives the same output however it was split.
#![forbid(unsafe_code)]

pub mod session;
pub mod syntax;
pub mod wire;
