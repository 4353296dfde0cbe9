//! Words: commands, replies, paths, parameters, EHLO keywords. Each is read and written here and nowhere else.

pub mod address;
pub mod capability;
mod class;
pub mod command;
pub mod datetime;
pub mod options;
pub mod parameter;
pub mod reply;
pub mod status;
pub mod xattr;
