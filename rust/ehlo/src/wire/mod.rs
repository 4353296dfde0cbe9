//! Bytes: lines, the dot, BDAT, xtext, base64, the PROXY header. Knows nothing of commands or replies.

pub mod base64;
pub mod bdat;
pub mod content;
pub mod dot;
pub mod line;
pub mod proxy;
mod scan;
pub mod xtext;
