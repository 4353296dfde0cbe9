//! Conversations: who may say what when, what is answered, and what the program is asked.

pub mod client;
pub mod config;
pub mod event;
pub mod server;
pub mod transaction;

pub use config::{
    ConfigError, ContentMode, Decisions, InjectedInput, Limits, ServerConfig, ServerSettings, Timers, TlsFacts, TlsMode,
};
pub use event::{Abort, DisconnectReason, Event};
pub use server::{Misuse, ServerConnection};
pub use transaction::{Content, Envelope, Recipient, Sender};
