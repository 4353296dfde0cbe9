//! The words of SMTP as Python objects: addresses, envelopes, replies, commands.

pub(crate) mod address;
pub(crate) mod capability;
pub(crate) mod command;
pub(crate) mod envelope;
pub(crate) mod front;
mod parameters;
pub(crate) mod reply;
