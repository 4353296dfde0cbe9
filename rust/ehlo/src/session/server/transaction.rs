//! One mail transaction (RFC 5321 3.3). MAIL makes it. It is replaced as a whole and never reset in parts.

use std::sync::Arc;

use crate::session::envelope::{Envelope, Sender};
use crate::syntax::parameter::Body;
use crate::syntax::xattr::Attributes;

/// An envelope in the making.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) envelope: Envelope,
    /// Whether any RCPT came, accepted or not: DATA answers 503 without one and 554 when all were refused.
    pub(super) rcpt_seen: bool,
    /// What XFORWARD said of it.
    pub(super) xforward: Option<Arc<Attributes>>,
}

impl Transaction {
    pub(super) fn new(sender: Arc<Sender>, xforward: Option<Arc<Attributes>>) -> Self {
        Self { envelope: Envelope { sender, recipients: Vec::new() }, rcpt_seen: false, xforward }
    }

    pub(super) fn is_binary(&self) -> bool {
        self.envelope.sender.parameters.body == Some(Body::BinaryMime)
    }
}
