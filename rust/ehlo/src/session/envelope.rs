//! The envelope: who a message is from, and whom it is for (RFC 5321 2.3.1). Both sides use it.

use std::sync::Arc;

use crate::syntax::address::{AddressError, ForwardPath, ReversePath};
use crate::syntax::options::Options;
use crate::syntax::parameter::{MailParameters, RcptParameters};

/// What MAIL said.
#[derive(Clone, Debug)]
pub struct Sender {
    /// The reverse-path.
    pub path: ReversePath<'static>,
    /// Its ESMTP parameters.
    pub parameters: MailParameters<'static>,
}

/// What one accepted RCPT said.
#[derive(Clone, Debug)]
pub struct Recipient {
    /// The forward-path.
    pub path: ForwardPath<'static>,
    /// Its ESMTP parameters.
    pub parameters: RcptParameters<'static>,
}

/// Sender and accepted recipients, in the order they came (RFC 5321 2.3.1).
#[derive(Clone, Debug)]
pub struct Envelope {
    /// Who the message is from.
    pub sender: Arc<Sender>,
    /// Whom it is for; duplicates are kept (RFC 2033 4.2 counts them).
    pub recipients: Vec<Arc<Recipient>>,
}

impl Envelope {
    /// An envelope without parameters. The sender `""` or `"<>"` is the null reverse-path.
    ///
    /// # Errors
    /// At the first path that is none (RFC 5321 4.1.2).
    pub fn parse<'a>(sender: &'a str, recipients: impl IntoIterator<Item = &'a str>) -> Result<Self, AddressError> {
        let options = Options::default();
        let sender = ReversePath::parse(sender, &options)?.into_owned();
        let recipients = recipients.into_iter().map(|path| {
            let path = ForwardPath::parse(path, &options)?.into_owned();
            Ok(Arc::new(Recipient { path, parameters: RcptParameters::default() }))
        });
        Ok(Self {
            sender: Arc::new(Sender { path: sender, parameters: MailParameters::default() }),
            recipients: recipients.collect::<Result<_, _>>()?,
        })
    }

    /// Whether MAIL carried SMTPUTF8 (RFC 6531 3.4).
    pub fn smtputf8(&self) -> bool {
        self.sender.parameters.smtputf8
    }
}
