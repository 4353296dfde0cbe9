//! The plan of a message: what the server offers, what the message needs, and the parameters of MAIL and RCPT.
//!
//! Everything that the server lacks is found here, before MAIL is sent.

use std::borrow::Cow;

use super::config::{Chunking, ClientSettings, Newlines};
use super::event::Need;
use super::message::{Facts, NewMessage};
use crate::session::envelope::{Recipient, Sender};
use crate::syntax::capability::Capabilities;
use crate::syntax::parameter::{AuthParameter, Body, ByMode, Hold, MailParameters, RcptParameters};

/// Octets of a command line without extensions, its CRLF included (RFC 5321 4.5.3.1.4).
const COMMAND_LINE: usize = 512;

/// The reply to EHLO, looked through once. After HELO nothing is offered.
#[derive(Clone, Debug, Default)]
pub(super) struct Offer {
    pub(super) pipelining: bool,
    pub(super) chunking: bool,
    pub(super) starttls: bool,
    pub(super) mail_max: Option<u32>,
    pub(super) rcpt_max: Option<u32>,
    pub(super) rcpt_domain_max: Option<u32>,
    auth: bool,
    binarymime: bool,
    deliver_by: Option<Option<u32>>,
    dsn: bool,
    eight_bit_mime: bool,
    future_release: Option<u32>,
    mt_priority: bool,
    requiretls: bool,
    rrvs: bool,
    size: bool,
    size_limit: Option<u64>,
    smtputf8: bool,
}

impl Offer {
    pub(super) fn of(capabilities: &Capabilities) -> Self {
        let limits = capabilities.limits();
        let keywords: Vec<&str> = capabilities.entries().map(|(keyword, _)| keyword).collect();
        let has = |keyword: &str| keywords.iter().any(|one| one.eq_ignore_ascii_case(keyword));
        let size = has("SIZE");
        Self {
            pipelining: has("PIPELINING"),
            chunking: has("CHUNKING"),
            starttls: has("STARTTLS"),
            mail_max: limits.mail_max,
            rcpt_max: limits.rcpt_max,
            rcpt_domain_max: limits.rcpt_domain_max,
            auth: has("AUTH"),
            binarymime: has("BINARYMIME"),
            deliver_by: has("DELIVERBY").then(|| capabilities.deliver_by()).flatten(),
            dsn: has("DSN"),
            eight_bit_mime: has("8BITMIME"),
            future_release: has("FUTURERELEASE")
                .then(|| capabilities.future_release().map(|limit| limit.max_seconds))
                .flatten(),
            mt_priority: has("MT-PRIORITY"),
            requiretls: has("REQUIRETLS"),
            rrvs: has("RRVS"),
            size,
            size_limit: size.then(|| capabilities.size()).flatten(),
            smtputf8: has("SMTPUTF8"),
        }
    }
}

/// How one message goes to one peer.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) mail: MailParameters<'static>,
    /// By BDAT.
    pub(super) chunked: bool,
    /// Every octet as it is.
    pub(super) exact: bool,
    /// An 8-bit octet must not turn up.
    pub(super) seven_bit: bool,
    /// RET, ENVID, NOTIFY and ORCPT are left out.
    drop_dsn: bool,
}

/// Where a message is to go.
pub(super) struct Destination<'a> {
    pub(super) settings: &'a ClientSettings,
    pub(super) offer: &'a Offer,
    pub(super) capabilities: &'a Capabilities,
    /// TLS is active, and the peer is who it says it is.
    pub(super) verified: bool,
    pub(super) authenticated: bool,
}

impl Destination<'_> {
    /// Decide how `message` is sent, or find what the server lacks. Nothing is downgraded in silence (C-PAR-35).
    pub(super) fn plan<B: AsRef<[u8]>>(&self, message: &NewMessage<B>) -> Result<Plan, Need> {
        let (settings, offer, facts) = (self.settings, self.offer, &message.facts);
        let asked = &message.sender.parameters;
        let binary = asked.body == Some(Body::BinaryMime);
        if binary && !(offer.binarymime && offer.chunking && settings.chunking != Chunking::Never) {
            return Err(Need::BinaryMime); // BINARYMIME goes only where it is offered (C-BDT-27).
        }
        let chunked = match settings.chunking {
            Chunking::Never => false,
            Chunking::Auto => offer.chunking,
            Chunking::Always => true,
        };
        let exact = binary
            || match settings.newlines {
                Newlines::Exact => true,
                Newlines::Auto => chunked,
                Newlines::Normalize | Newlines::Reject => false,
            };
        if !offer.chunking && (chunked || exact) {
            return Err(Need::Chunking); // BDAT goes only where CHUNKING is offered (C-BDT-25).
        }
        let mut mail = asked.clone();
        let size = message.size(exact);
        if let (Some(limit), Some(octets)) = (offer.size_limit, size)
            && octets > limit
        {
            return Err(Need::Size { octets, limit }); // Too large for the server: no MAIL (C-CLI-22).
        }
        mail.size = size.filter(|_| offer.size);
        let seven_bit;
        (mail.body, seven_bit) = self.body(asked, facts)?;
        mail.smtputf8 = self.smtputf8(message)?;
        let drop_dsn = self.extensions(&mut mail)?;
        let plan = Plan { mail, chunked, exact, seven_bit, drop_dsn };
        self.judge_mail(&plan, &message.sender)?;
        for recipient in &message.recipients {
            self.judge_rcpt(&plan, recipient)?;
        }
        Ok(plan)
    }

    fn body(&self, asked: &MailParameters<'_>, facts: &Facts) -> Result<(Option<Body>, bool), Need> {
        let offered = self.offer.eight_bit_mime;
        match (asked.body, facts.eight_bit) {
            (Some(Body::BinaryMime), _) => Ok((Some(Body::BinaryMime), false)),
            (_, Some(true)) | (Some(Body::EightBitMime), None) if !offered => {
                // 8-bit content goes only where 8BITMIME is offered (C-CLI-25).
                if self.settings.force_8bit { Ok((None, false)) } else { Err(Need::EightBitMime) }
            }
            (_, Some(true)) | (Some(Body::EightBitMime), _) if offered => Ok((Some(Body::EightBitMime), false)),
            (body, Some(_)) => Ok((body.filter(|_| offered && body == Some(Body::SevenBit)), false)),
            (_, None) if offered => Ok((Some(Body::EightBitMime), false)),
            (_, None) => Ok((None, !self.settings.force_8bit)),
        }
    }

    /// Whether MAIL says SMTPUTF8: only where an address needs it, or where the program asks for it and the header section
    /// is UTF-8 (C-CLI-26). Mail with 8-bit octets in its header section that came without SMTPUTF8 goes on without it.
    fn smtputf8<B>(&self, message: &NewMessage<B>) -> Result<bool, Need> {
        let ascii = message.sender.path.is_ascii() && message.recipients.iter().all(|to| to.path.is_ascii());
        let asked = message.facts.utf8_header.unwrap_or(message.sender.parameters.smtputf8);
        let needed = !ascii || (asked && message.utf8_found.unwrap_or(true));
        if needed && !(self.offer.smtputf8 && self.offer.eight_bit_mime) {
            return Err(Need::Smtputf8);
        }
        Ok(needed)
    }

    /// The other parameters of MAIL. Says whether those of DSN are left out.
    fn extensions(&self, mail: &mut MailParameters<'static>) -> Result<bool, Need> {
        let offer = self.offer;
        let drop_dsn = !offer.dsn && self.settings.drop_dsn;
        if drop_dsn {
            (mail.ret, mail.envid) = (None, None);
        } else if !offer.dsn && (mail.ret.is_some() || mail.envid.is_some()) {
            return Err(Need::Dsn); // No DSN parameter without DSN (C-CLI-37).
        }
        if let Some(by) = mail.by {
            let least = offer.deliver_by.ok_or(Need::DeliverBy)?.unwrap_or(0);
            // RFC 2852 4: the minimum concerns mode R only.
            if by.mode == ByMode::Return && i64::from(by.seconds) < i64::from(least) {
                return Err(Need::DeliverBy);
            }
        }
        match (mail.hold, offer.future_release) {
            (None, _) => {}
            (Some(_), None) => return Err(Need::FutureRelease),
            (Some(Hold::For(seconds)), Some(most)) if seconds > most => return Err(Need::FutureRelease),
            (Some(_), Some(_)) => {}
        }
        if mail.mt_priority.is_some() && !offer.mt_priority {
            return Err(Need::MtPriority);
        }
        if mail.requiretls && !(offer.requiretls && self.verified) {
            return Err(Need::RequireTls); // It needs verified TLS and the offer (C-CLI-38).
        }
        if !offer.auth {
            // RFC 4954 5: it says who submitted the message, and goes to those only that speak AUTH.
            mail.auth = None;
        } else if mail.auth.is_none() && self.settings.relay_auth && self.authenticated {
            mail.auth = Some(AuthParameter::Null); // A relay says that it does not know (C-AUT-35).
        }
        self.judge_unknown(mail.unknown())?;
        Ok(drop_dsn)
    }

    /// Check a recipient that is given behind MAIL: what MAIL did not say cannot be said any more.
    pub(super) fn judge_late_rcpt(&self, plan: &Plan, recipient: &Recipient) -> Result<(), Need> {
        if !recipient.path.is_ascii() && !plan.mail.smtputf8 {
            return Err(Need::Smtputf8InMail);
        }
        self.judge_rcpt(plan, recipient)
    }

    /// Check content that is given behind MAIL, likewise.
    pub(super) fn judge_late_content<B: AsRef<[u8]>>(&self, plan: &Plan, message: &NewMessage<B>) -> Result<(), Need> {
        let declared = matches!(plan.mail.body, Some(Body::EightBitMime | Body::BinaryMime));
        if message.facts.eight_bit == Some(true) && !declared && !self.settings.force_8bit {
            return Err(Need::EightBitMime);
        }
        match (self.offer.size_limit, message.size(plan.exact)) {
            (Some(limit), Some(octets)) if octets > limit => Err(Need::Size { octets, limit }),
            _ => Ok(()),
        }
    }

    fn judge_unknown<'p>(&self, mut unknown: impl Iterator<Item = &'p str>) -> Result<(), Need> {
        match unknown.find(|keyword| !self.capabilities.has(keyword)) {
            Some(keyword) => Err(Need::Parameter(keyword.to_owned())),
            None => Ok(()),
        }
    }

    /// Check the length of MAIL: 512 octets, and what each offered extension adds (C-CLI-28, S-LIN-12).
    fn judge_mail(&self, plan: &Plan, sender: &Sender) -> Result<(), Need> {
        let path = sender.path.address().map_or(0, |address| address.mailbox().len());
        if "MAIL FROM:<>\r\n".len() + path > COMMAND_LINE {
            return Err(Need::LineLength);
        }
        let envid = plan.mail.envid.as_ref().map_or(0, |envid| envid.len());
        let auth = match &plan.mail.auth {
            Some(AuthParameter::Mailbox(mailbox)) => mailbox.len(),
            _ => 0,
        };
        // RFC 3461 4.4 and RFC 4954 3, in octets as given: xtext triples at the worst.
        if envid > 100 || auth > 500 { Err(Need::LineLength) } else { Ok(()) }
    }

    fn judge_rcpt(&self, plan: &Plan, recipient: &Recipient) -> Result<(), Need> {
        let parameters = &recipient.parameters;
        if !self.offer.dsn && !plan.drop_dsn && (parameters.notify.is_some() || parameters.orcpt.is_some()) {
            return Err(Need::Dsn);
        }
        if parameters.rrvs.is_some() && !self.offer.rrvs {
            return Err(Need::Rrvs);
        }
        let path = recipient.path.address().map_or(0, |address| address.mailbox().len());
        let orcpt = parameters.orcpt.as_ref().map_or(0, |orcpt| orcpt.addr_type.len() + 1 + orcpt.address.len());
        if "RCPT TO:<>\r\n".len() + path > COMMAND_LINE || orcpt > 500 {
            return Err(Need::LineLength);
        }
        self.judge_unknown(parameters.unknown())
    }
}

impl Plan {
    /// The parameters that go with one RCPT.
    pub(super) fn rcpt<'r>(&self, recipient: &'r Recipient) -> Cow<'r, RcptParameters<'static>> {
        if self.drop_dsn {
            let rest = RcptParameters { notify: None, orcpt: None, ..recipient.parameters.clone() };
            return Cow::Owned(rest);
        }
        Cow::Borrowed(&recipient.parameters)
    }
}
