//! Conversations: who may say what, and when; what is answered; and what the program is asked.
//!
//! - [`server`] and [`client`] are the two sides. They do not know each other.
//! - [`envelope`] is what both need: the sender and the recipients of a message.

#[macro_use]
mod settings;

pub mod client;
pub mod envelope;
pub mod server;

pub use envelope::{Envelope, Recipient, Sender};
pub use server::{
    Abort, Content, ContentMode, Decisions, FutureRelease, InjectedInput, RefusalCounts, ServerConfig,
    ServerConfigError, ServerConnection, ServerDisconnect, ServerEvent, ServerMisuse, ServerSettings, TextError,
    TlsFacts, TlsMode,
};
pub use settings::TooSmall;
