//! Options of the grammar: the extensions that are offered, and the faults that are forgiven.

use std::ops::BitOr;

/// Most octets of a local part that is read again: more than any line can hold.
const MAX_KEPT: usize = 1 << 24;

/// The grammar that [`parse_command`](super::command::parse_command) and [`Address::parse`](super::address::Address::parse)
/// follow. `Default` is strict, knows every parameter and passes the rest on: a parser on its own. A server begins with
/// [`Options::offering_nothing`] and adds what it offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Named departures from the grammar.
    pub leniency: Leniency,
    /// The ESMTP parameters that are offered; another is unknown (RFC 5321 4.1.1.11).
    pub parameters: Parameters,
    /// What becomes of an unknown parameter.
    pub unknown_parameters: UnknownParameters,
    /// Most parameters of one command.
    pub max_parameters: usize,
    /// Whether SMTPUTF8 is offered (RFC 6531).
    pub smtputf8: bool,
    /// Most octets of a local part as written (RFC 5321 4.5.3.1.1 asks for 64). A path may be as much longer.
    pub max_local_part: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            leniency: Leniency::default(),
            parameters: Parameters::ALL,
            unknown_parameters: UnknownParameters::Pass,
            max_parameters: 32,
            smtputf8: true,
            max_local_part: 64,
        }
    }
}

impl Options {
    /// For a path and parameters that were read before, and are read again: all that any options can let through.
    #[must_use]
    pub fn accepting_all() -> Self {
        Self { leniency: Leniency::ALL, max_parameters: usize::MAX, max_local_part: MAX_KEPT, ..Self::default() }
    }

    /// Plain RFC 5321: no parameter, no UTF-8; unknown parameters are refused.
    #[must_use]
    pub fn offering_nothing() -> Self {
        Self {
            parameters: Parameters::NONE,
            unknown_parameters: UnknownParameters::Reject,
            smtputf8: false,
            ..Self::default()
        }
    }
}

/// Departures from the grammar, each by its name. All are off by default but `hello_underscore`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leniency {
    /// `_` in the name given to EHLO and HELO. On: Postfix and OpenSMTPD accept it.
    pub hello_underscore: bool,
    /// Any word without control characters as the name given to EHLO and HELO: many mail programs say the name of
    /// their machine, whatever it is. Octets that are not UTF-8 are replaced.
    pub hello_any: bool,
    /// Words behind the name given to EHLO and HELO, which are dropped.
    pub hello_trailing_text: bool,
    /// Spaces between `FROM:` or `TO:` and the path. Postfix and Exim accept them.
    pub space_after_colon: bool,
    /// A path without `<` and `>`.
    pub bare_paths: bool,
    /// Leading white space, and more than one SP, or HTAB, between words. Postfix and Exim accept them.
    pub extra_space: bool,
    /// Leading, trailing and double dots in an unquoted local part; some phone carriers have them.
    pub dots_in_local_part: bool,
    /// `_` in a domain.
    pub domain_underscore: bool,
    /// Address literals with a tag other than IPv6, none of which is registered (RFC 5321 4.1.3).
    pub general_literals: bool,
    /// Lower-case hex digits in xtext (RFC 3461 4 wants upper case).
    pub lowercase_xtext: bool,
    /// A mailbox without `@` and domain, like `<root>`: the programs of one machine write it.
    pub no_domain: bool,
}

impl Leniency {
    /// Every departure.
    pub const ALL: Self = Self {
        hello_underscore: true,
        hello_any: true,
        hello_trailing_text: true,
        space_after_colon: true,
        bare_paths: true,
        extra_space: true,
        dots_in_local_part: true,
        domain_underscore: true,
        general_literals: true,
        lowercase_xtext: true,
        no_domain: true,
    };
}

impl Default for Leniency {
    fn default() -> Self {
        Self {
            hello_underscore: true,
            hello_any: false,
            hello_trailing_text: false,
            space_after_colon: false,
            bare_paths: false,
            extra_space: false,
            dots_in_local_part: false,
            domain_underscore: false,
            general_literals: false,
            lowercase_xtext: false,
            no_domain: false,
        }
    }
}

/// What becomes of a parameter that is not offered (RFC 5321 4.1.1.11).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownParameters {
    /// The command is refused with 555.
    #[default]
    Reject,
    /// It is dropped, though it stays in the raw text.
    Ignore,
    /// It is kept, raw, for the program.
    Pass,
}

/// A set of ESMTP parameters of MAIL and RCPT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parameters(u32);

impl Parameters {
    /// No parameter.
    pub const NONE: Self = Self(0);
    /// `SIZE=` of MAIL (RFC 1870).
    pub const SIZE: Self = Self(1);
    /// `BODY=` of MAIL (RFC 6152).
    pub const BODY: Self = Self(1 << 1);
    /// The value BINARYMIME of `BODY=` (RFC 3030 3).
    pub const BINARYMIME: Self = Self(1 << 2);
    /// `SMTPUTF8` of MAIL (RFC 6531).
    pub const SMTPUTF8: Self = Self(1 << 3);
    /// `RET=` of MAIL (RFC 3461 4.3).
    pub const RET: Self = Self(1 << 4);
    /// `ENVID=` of MAIL (RFC 3461 4.4).
    pub const ENVID: Self = Self(1 << 5);
    /// `NOTIFY=` of RCPT (RFC 3461 4.1).
    pub const NOTIFY: Self = Self(1 << 6);
    /// `ORCPT=` of RCPT (RFC 3461 4.2).
    pub const ORCPT: Self = Self(1 << 7);
    /// `AUTH=` of MAIL (RFC 4954 5).
    pub const AUTH: Self = Self(1 << 8);
    /// `BY=` of MAIL (RFC 2852 4).
    pub const BY: Self = Self(1 << 9);
    /// `HOLDFOR=` and `HOLDUNTIL=` of MAIL (RFC 4865 4).
    pub const HOLD: Self = Self(1 << 10);
    /// `MT-PRIORITY=` of MAIL (RFC 6710 4.1).
    pub const MT_PRIORITY: Self = Self(1 << 11);
    /// `REQUIRETLS` of MAIL (RFC 8689 2).
    pub const REQUIRETLS: Self = Self(1 << 12);
    /// `RRVS=` of RCPT (RFC 7293 3.1).
    pub const RRVS: Self = Self(1 << 13);
    /// All of them.
    pub const ALL: Self = Self((1 << 14) - 1);

    /// These and `others`.
    #[must_use]
    pub const fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// These but `others`.
    #[must_use]
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Whether all of `others` are among these.
    #[inline]
    #[must_use]
    pub const fn contains(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }
}

impl BitOr for Parameters {
    type Output = Self;

    fn bitor(self, others: Self) -> Self {
        self.with(others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_is_strict_and_knows_all() {
        let options = Options::default();
        assert_eq!(
            options.leniency,
            Leniency { hello_underscore: true, ..Leniency { hello_underscore: false, ..Leniency::default() } }
        );
        assert!(options.parameters.contains(Parameters::RRVS) && options.smtputf8);
        assert!(!Options::offering_nothing().parameters.contains(Parameters::SIZE));
    }

    #[test]
    fn sets() {
        let set = Parameters::SIZE | Parameters::BODY;
        assert!(set.contains(Parameters::SIZE) && !set.contains(Parameters::SIZE.with(Parameters::RET)));
        assert!(!set.without(Parameters::SIZE).contains(Parameters::SIZE));
    }
}
