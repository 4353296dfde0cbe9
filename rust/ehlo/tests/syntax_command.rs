//! RULES groups 0, 1, 3 and 7 as far as one line goes: what is read from it, and what a server answers if it cannot be.
//! Paths are in `syntax_address.rs`, parameters in `syntax_parameter.rs`.
use ehlo::syntax::address::{AddressError, ForwardPath, ReversePath};
use ehlo::syntax::command::{Command, CommandErrorKind as Kind, Hello, Secret, Verb, WriteError, parse_command};
use ehlo::syntax::options::{Leniency, Options, Parameters};
use ehlo::syntax::parameter::{MailParameters, RcptParameters};

fn read_in<'a>(line: &'a (impl AsRef<[u8]> + ?Sized), options: &Options) -> Command<'a> {
    let line = line.as_ref();
    let command = parse_command(line, options).unwrap_or_else(|error| panic!("{}: {error:?}", line.escape_ascii()));
    assert_eq!(command.clone().into_owned(), command);
    command
}

fn read<'a>(line: &'a (impl AsRef<[u8]> + ?Sized)) -> Command<'a> {
    read_in(line, &Options::default())
}

fn fails_in(line: impl AsRef<[u8]>, options: &Options) -> (Option<Verb>, Kind, String) {
    let line = line.as_ref();
    let error = parse_command(line, options).expect_err(&line.escape_ascii().to_string());
    let (code, enhanced, text) = error.reply();
    assert_eq!(code / 100, enhanced.class.into());
    assert!(enhanced.is_registered() && !text.is_empty() && text == error.to_string());
    (error.verb, error.kind, format!("{code} {enhanced}"))
}

fn fails(line: impl AsRef<[u8]>) -> (Option<Verb>, Kind, String) {
    fails_in(line, &Options::default())
}

fn reply(line: impl AsRef<[u8]>) -> String {
    fails(line).2
}

fn write(command: &Command<'_>) -> String {
    let mut out = b"before".to_vec();
    command.write(&mut out).unwrap_or_else(|error| panic!("{command:?}: {error:?}"));
    String::from_utf8(out).unwrap().strip_prefix("before").unwrap().to_owned()
}

fn lenient(change: impl Fn(&mut Leniency)) -> Options {
    let mut options = Options::default();
    change(&mut options.leniency);
    options
}

fn hello(name: &str) -> Hello<'_> {
    Hello { name: name.into() }
}

const VERBS: [Verb; 24] = [
    Verb::Atrn,
    Verb::Auth,
    Verb::Bdat,
    Verb::Burl,
    Verb::Data,
    Verb::Ehlo,
    Verb::Etrn,
    Verb::Expn,
    Verb::Helo,
    Verb::Help,
    Verb::Lhlo,
    Verb::Mail,
    Verb::Noop,
    Verb::Quit,
    Verb::Rcpt,
    Verb::Rset,
    Verb::Saml,
    Verb::Send,
    Verb::Soml,
    Verb::StartTls,
    Verb::Turn,
    Verb::Vrfy,
    Verb::Xclient,
    Verb::Xforward,
];

// RFC 5321 4.1 and the extensions: each command, what is read, and what is written
#[test]
fn every_command() {
    let pair = |name: &'static str, value: &'static str| (name.into(), value.into());
    let table: Vec<(&str, Command<'_>, &str)> = vec![
        ("atrn", Command::Atrn("".into()), "ATRN"),
        ("ATRN a.example,b", Command::Atrn("a.example,b".into()), "ATRN a.example,b"),
        ("AUTH PLAIN", Command::Auth { mechanism: "PLAIN".into(), initial: None }, "AUTH PLAIN"),
        (
            "auth plain AGEAYg==",
            Command::Auth { mechanism: "plain".into(), initial: Some(Secret(b"AGEAYg=="[..].into())) },
            "AUTH plain AGEAYg==",
        ),
        (
            "AUTH EXTERNAL =",
            Command::Auth { mechanism: "EXTERNAL".into(), initial: Some(Secret(b"="[..].into())) },
            "AUTH EXTERNAL =",
        ),
        ("BDAT 5", Command::Bdat { size: 5, last: false }, "BDAT 5"),
        ("bdat 0 last", Command::Bdat { size: 0, last: true }, "BDAT 0 LAST"),
        ("BURL imap://u@h/x", Command::Burl { url: "imap://u@h/x".into(), last: false }, "BURL imap://u@h/x"),
        ("BURL imap://u@h/x Last", Command::Burl { url: "imap://u@h/x".into(), last: true }, "BURL imap://u@h/x LAST"),
        ("DATA", Command::Data, "DATA"),
        ("ehlo Client.example", Command::Ehlo(hello("Client.example")), "EHLO Client.example"),
        ("EHLO [192.0.2.1]", Command::Ehlo(hello("[192.0.2.1]")), "EHLO [192.0.2.1]"),
        ("ETRN a.example", Command::Etrn("a.example".into()), "ETRN a.example"),
        ("ETRN @a.example", Command::Etrn("@a.example".into()), "ETRN @a.example"),
        ("ETRN #queue!", Command::Etrn("#queue!".into()), "ETRN #queue!"),
        ("EXPN Staff", Command::Expn { argument: "Staff".into(), smtputf8: false }, "EXPN Staff"),
        ("EXPN ü SMTPUTF8", Command::Expn { argument: "ü".into(), smtputf8: true }, "EXPN ü SMTPUTF8"),
        ("HELO x", Command::Helo(hello("x")), "HELO x"),
        ("HELP", Command::Help("".into()), "HELP"),
        ("HELP mail to", Command::Help("mail to".into()), "HELP mail to"),
        ("LHLO x", Command::Lhlo(hello("x")), "LHLO x"),
        (
            "MAIL FROM:<>",
            Command::Mail { path: ReversePath::Null, parameters: MailParameters::default() },
            "MAIL FROM:<>",
        ),
        ("NOOP", Command::Noop(b""[..].into()), "NOOP"),
        ("NOOP a b <c>", Command::Noop(b"a b <c>"[..].into()), "NOOP a b <c>"),
        ("QUIT", Command::Quit, "QUIT"),
        (
            "RCPT TO:<postMaster>",
            Command::Rcpt { path: ForwardPath::Postmaster("postMaster".into()), parameters: RcptParameters::default() },
            "RCPT TO:<postMaster>",
        ),
        ("RSET", Command::Rset, "RSET"),
        ("SAML FROM:<a@b>", Command::Obsolete(Verb::Saml), "SAML"),
        ("SEND", Command::Obsolete(Verb::Send), "SEND"),
        ("SOML x", Command::Obsolete(Verb::Soml), "SOML"),
        ("StartTLS", Command::StartTls, "STARTTLS"),
        ("TURN", Command::Obsolete(Verb::Turn), "TURN"),
        ("VRFY \"a b\"", Command::Vrfy { argument: "\"a b\"".into(), smtputf8: false }, "VRFY \"a b\""),
        (
            "VRFY Bob <b@c> smtputf8",
            Command::Vrfy { argument: "Bob <b@c>".into(), smtputf8: true },
            "VRFY Bob <b@c> SMTPUTF8",
        ),
        (
            "XCLIENT ADDR=192.0.2.1 name=[UNAVAILABLE]",
            Command::Xclient(vec![pair("ADDR", "192.0.2.1"), pair("name", "[UNAVAILABLE]")]),
            "XCLIENT ADDR=192.0.2.1 name=[UNAVAILABLE]",
        ),
        ("XCLIENT LOGIN=a+20b+2Bc", Command::Xclient(vec![pair("LOGIN", "a b+c")]), "XCLIENT LOGIN=a+20b+2Bc"),
        (
            "XFORWARD NAME=a.example SOURCE=LOCAL IDENT=4711",
            Command::Xforward(vec![pair("NAME", "a.example"), pair("SOURCE", "LOCAL"), pair("IDENT", "4711")]),
            "XFORWARD NAME=a.example SOURCE=LOCAL IDENT=4711",
        ),
        (
            "Foo bar  baz",
            Command::Unknown { verb: b"Foo"[..].into(), argument: b"bar  baz"[..].into() },
            "Foo bar  baz",
        ),
    ];
    for (line, expected, written) in &table {
        let command = read(line);
        assert_eq!(&command, expected, "{line}");
        assert_eq!(write(&command), format!("{written}\r\n"));
        assert_eq!(command.verb(), Verb::parse(line.split(' ').next().unwrap().as_bytes()));
        // S-LIN-22, RFC 5321 4.1.1: white space at the end is nothing.
        for space in [" ", "\t", " \t  "] {
            assert_eq!(&read(&format!("{line}{space}")), expected, "{line}");
        }
    }
    for verb in VERBS {
        assert!(table.iter().any(|(_, command, _)| command.verb() == Some(verb)), "{verb} is in the table");
    }
}

// B-LIN-21, RFC 5321 2.4
#[test]
fn b_lin_21_verbs_and_keywords_know_no_case() {
    for verb in VERBS {
        let name = verb.as_str();
        for word in [name.to_owned(), name.to_lowercase(), format!("{}{}", &name[..2].to_lowercase(), &name[2..])] {
            assert_eq!(Verb::parse(word.as_bytes()), Some(verb), "{word}");
        }
        // Bit 5 is the letters' case, and makes other octets of other octets.
        for (at, octet) in name.bytes().enumerate() {
            for other in [octet ^ 0x40, octet ^ 0x80, octet & 0x1f, octet.wrapping_add(1)] {
                let mut word = name.as_bytes().to_vec();
                word[at] = other;
                assert_ne!(Verb::parse(&word), Some(verb), "{}", word.escape_ascii());
            }
        }
    }
    for word in ["", "MAI", "MAILX", "EHLOO", "STARTTL", "XCLIENTS", "N00P", "NOO ", "XFOO"] {
        assert_eq!(Verb::parse(word.as_bytes()), None, "{word}");
    }
    let Command::Mail { path, parameters } = read("mAiL fRoM:<A@b> size=1") else { panic!("MAIL") };
    assert_eq!((path.address().unwrap().local_part().as_ref(), parameters.size), ("A", Some(1)));
    assert_eq!(&*parameters.raw, "size=1", "as written");
    let Command::Rcpt { path, .. } = read("rcpt to:<B@C.d>") else { panic!("RCPT") };
    assert_eq!(path.as_written(), "B@C.d");
}

// S-SES-34, S-SES-35, RFC 5321 4.1.5, App. F
#[test]
fn s_ses_34_and_35_unknown_and_obsolete_verbs() {
    for (line, verb, argument) in [
        ("XFOO a", "XFOO", "a"),
        ("mailx", "mailx", ""),
        ("N00P", "N00P", ""),
        ("GET / HTTP/1.1", "GET", "/ HTTP/1.1"),
        ("MAIL: x", "MAIL:", "x"),
        ("{", "{", ""),
    ] {
        let expected = Command::Unknown { verb: verb.as_bytes().into(), argument: argument.as_bytes().into() };
        assert_eq!(read(line), expected);
        assert_eq!(read(line).verb(), None);
    }
    assert_eq!(read("TURN x"), Command::Obsolete(Verb::Turn));
}

// S-LIN-03, S-LIN-04, S-LIN-06, S-LIN-07, RFC 5321 2.3.8
#[test]
fn s_lin_03_to_07_bare_cr_and_lf() {
    for line in [
        "NOOP\nQUIT",
        "NOOP\r",
        "NOOP\n",
        "MAIL FROM:<a@b>\rRCPT TO:<c@d>",
        "MAIL FROM:<a\n@b>",
        "RCPT TO:<\"a\r\"@b>",
        "EHLO a\nb",
        "\nNOOP",
        "FOO\r",
        "MAIL FROM:<a@b> SIZE=1\r",
        "VRFY ü\n SMTPUTF8",
        "AUTH PLAIN\nx",
    ] {
        assert_eq!(fails(line), (None, Kind::BareNewline, "500 5.5.2".into()), "{line:?}");
        assert_eq!(fails_in(line, &lenient(|leniency| leniency.extra_space = true)).1, Kind::BareNewline);
    }
    assert_eq!(fails(b"NOOP \xff\n").1, Kind::BareNewline);
}

// S-LIN-08, S-LIN-09, S-LIN-10, RFC 5321 2.4, 4.1.2
#[test]
fn s_lin_08_to_10_forbidden_octets() {
    for octet in (0..b' ').chain([0x7f]).filter(|octet| !b"\t\r\n".contains(octet)) {
        let put = |before: &str, after: &str| [before.as_bytes(), &[octet], after.as_bytes()].concat();
        assert_eq!(fails(put("NO", "OP")), (None, Kind::ForbiddenOctet, "500 5.5.2".into()));
        assert_eq!(fails(put("NOOP ", "")), (Some(Verb::Noop), Kind::ForbiddenOctet, "501 5.5.2".into()));
        assert_eq!(fails(put("EHLO a", "")), (Some(Verb::Ehlo), Kind::ForbiddenOctet, "501 5.5.2".into()));
        assert_eq!(fails(put("VRFY a", "")).1, Kind::ForbiddenOctet);
        assert_eq!(fails(put("MAIL FROM:<a@b> X=", "")).1, Kind::ForbiddenOctet);
        assert_eq!(reply(put("MAIL FROM:<a", "@b>")), "501 5.1.7");
        assert_eq!(reply(put("MAIL FROM:<a@b", ">")), "501 5.1.7");
        assert_eq!(reply(put("RCPT TO:<a", "@b>")), "501 5.1.3");
        assert_eq!(reply(put("RCPT TO:<\"", "\"@b>")), "501 5.1.3");
    }
    assert_eq!(fails(b"NOOP \xff"), (Some(Verb::Noop), Kind::ForbiddenOctet, "501 5.5.2".into()));
    assert_eq!(fails(b"N\xff"), (None, Kind::ForbiddenOctet, "500 5.5.2".into()));
    for line in ["NOOP ü", "HELP ü", "EHLO ü", "ETRN ü", "AUTH ü", "DATA ü", "XCLIENT NAME=ü"] {
        assert_eq!(fails(line).2, "501 5.5.2", "{line}");
    }
    assert_eq!(fails("FOO ü").2, "500 5.5.2");
}

// S-LIN-23, RFC 5321 4.1.1
#[test]
fn s_lin_23_white_space() {
    for line in ["", " ", "\t"] {
        assert_eq!(fails(line), (None, Kind::Empty, "500 5.5.2".into()), "{line:?}");
    }
    for line in [" NOOP", "  MAIL FROM:<a@b>", "\tNOOP"] {
        assert_eq!(fails(line), (None, Kind::LeadingSpace, "500 5.5.2".into()), "{line:?}");
    }
    let two_words = [
        "MAIL  FROM:<a@b>",
        "MAIL FROM:<a@b>  SIZE=1",
        "MAIL FROM:<a@b> SIZE=1  BODY=7BIT",
        "RCPT  TO:<a@b>",
        "EHLO  x",
        "HELO  x",
        "AUTH  PLAIN",
        "AUTH PLAIN  AGEAYg==",
        "BDAT  5",
        "BDAT 5  LAST",
        "BURL  imap://x",
        "BURL imap://x  LAST",
        "ETRN  x",
        "VRFY  x",
        "XCLIENT  NAME=x",
        "XCLIENT NAME=x  PORT=5",
        "XFORWARD NAME=x  PORT=5",
    ];
    let lax = lenient(|leniency| leniency.extra_space = true);
    for line in two_words {
        assert!(parse_command(line.as_bytes(), &Options::default()).is_err(), "{line}");
        let single = line.replace("  ", " ");
        for space in ["  ", "\t", " \t "] {
            let line = line.replace("  ", space);
            let command = read_in(&line, &lax);
            // RFC 5321 2.4: what is written has single spaces.
            assert_eq!(write(&command), write(&read(&single)), "{line:?}");
        }
    }
    assert_eq!(read_in(" \tNOOP", &lax), Command::Noop(b""[..].into()));
    assert_eq!(reply("MAIL FROM:<a@b>  SIZE=1"), "501 5.5.4");
}

// S-SES-08, S-SES-09, S-SES-10, RFC 5321 4.1.1.1
#[test]
fn s_ses_08_to_10_hello() {
    for verb in ["EHLO", "HELO", "LHLO"] {
        for line in [verb.to_owned(), format!("{verb} ")] {
            assert_eq!((fails(&line).1, reply(&line)), (Kind::MissingArgument, "501 5.5.4".into()));
        }
        for name in ["x", "a.example", "3com.x", "my_host", "[192.0.2.1]", "[IPv6:2001:db8::1]", "192.0.2.1"] {
            let line = format!("{verb} {name}");
            let (Command::Ehlo(hello) | Command::Helo(hello) | Command::Lhlo(hello)) = read(&line) else {
                panic!("{line}")
            };
            assert_eq!((&*hello.name, hello.is_literal()), (name, name.starts_with('[')));
        }
        for name in ["a..b", "[x]", "-a", "a-", "a.", ".", "[192.0.2.1", "[192.0.2.256]", "[x400:foo]", "a/b", "<a>"] {
            assert_eq!(fails(format!("{verb} {name}")).1, Kind::Hello, "{name}");
            assert_eq!(reply(format!("{verb} {name}")), "501 5.5.4", "{name}");
        }
        assert_eq!(fails(format!("{verb} {}", "a".repeat(64))).1, Kind::Hello);
        assert_eq!(fails(format!("{verb} é")).1, Kind::ForbiddenOctet);
        for line in [format!("{verb} [192.0.2.1] foo"), format!("{verb} a b")] {
            assert_eq!((fails(&line).1, reply(&line)), (Kind::UnexpectedArgument, "501 5.5.4".into()));
            let lax = lenient(|leniency| leniency.hello_trailing_text = true);
            let (Command::Ehlo(hello) | Command::Helo(hello) | Command::Lhlo(hello)) = read_in(&line, &lax) else {
                panic!("{line}")
            };
            assert!(!hello.name.contains(' '));
        }
    }
    let strict = lenient(|leniency| leniency.hello_underscore = false);
    assert_eq!(fails_in("EHLO my_host", &strict).1, Kind::Hello);
    let general = lenient(|leniency| leniency.general_literals = true);
    assert_eq!(read_in("EHLO [x400:foo]", &general), Command::Ehlo(hello("[x400:foo]")));
}

// S-SES-23, S-SES-26, RFC 5321 4.3.2: arguments that are missing, and those that are too many
#[test]
fn s_ses_23_and_26_arguments() {
    for line in ["DATA x", "RSET x", "QUIT now", "STARTTLS x", "ETRN a b", "ETRN a..b", "ETRN @", "ETRN #", "ATRN a,,b"]
    {
        assert_eq!((fails(line).1, reply(line)), (Kind::UnexpectedArgument, "501 5.5.4".into()), "{line}");
    }
    for line in ["VRFY", "EXPN", "AUTH", "ETRN", "BURL", "XCLIENT", "XFORWARD", "EHLO"] {
        assert_eq!((fails(line).1, reply(line)), (Kind::MissingArgument, "501 5.5.4".into()), "{line}");
    }
    for line in
        ["MAIL", "RCPT", "MAIL FROM", "MAIL FROM:", "MAIL x", "RCPT FROM:<a@b>", "MAIL TO:<a@b>", "RCPT TO <a@b>"]
    {
        assert_eq!((fails(line).1, reply(line)), (Kind::NoPath, "501 5.5.4".into()), "{line}");
    }
    assert_eq!(fails("BURL imap://x FIRST").1, Kind::UnexpectedArgument);
    assert_eq!(fails("BURL imap://x LAST LAST").1, Kind::UnexpectedArgument);
}

// S-ADR-31, S-ADR-32, RFC 6531 3.7.4.2
#[test]
fn s_adr_31_and_32_vrfy_and_expn_with_utf8() {
    let off = Options { smtputf8: false, ..Options::default() };
    for verb in ["VRFY", "EXPN"] {
        let line = format!("{verb} ü b SMTPUTF8");
        let (Command::Vrfy { argument, smtputf8 } | Command::Expn { argument, smtputf8 }) = read(&line) else {
            panic!("{line}")
        };
        assert_eq!((&*argument, smtputf8), ("ü b", true));
        assert_eq!(fails_in(&line, &off).2, "501 5.5.2");
        assert_eq!(fails_in(format!("{verb} bob SMTPUTF8"), &off).2, "501 5.5.4");
        let (_, kind, said) = fails(format!("{verb} ü"));
        assert_eq!((kind, &*said), (Kind::NeedsSmtputf8, "550 5.6.8"));
        // The word alone is a name.
        let line = format!("{verb} SMTPUTF8");
        let (Command::Vrfy { argument, smtputf8 } | Command::Expn { argument, smtputf8 }) = read(&line) else {
            panic!("{line}")
        };
        assert_eq!((&*argument, smtputf8), ("SMTPUTF8", false));
        assert_eq!(reply(format!("{verb} a SMTPUTF8=1 ü")), "550 5.6.8");
    }
    assert_eq!(reply("MAIL FROM:<ü@x>"), "550 5.6.7"); // S-ADR-26
}

// S-BDT-01, S-BDT-07, S-BDT-08, S-BDT-09, RFC 3030 2
#[test]
fn s_bdt_01_to_09_bdat() {
    for (line, size, last) in [
        ("BDAT 3 last", 3, true),
        ("BDAT 003 LAST", 3, true),
        ("BDAT 0", 0, false),
        ("BDAT 18446744073709551615", u64::MAX, false),
        ("BDAT 00000000000000000000000000000001", 1, false),
    ] {
        assert_eq!(read(line), Command::Bdat { size, last }, "{line}");
    }
    for line in [
        "BDAT",
        "BDAT x",
        "BDAT -1",
        "BDAT +1",
        "BDAT 1x",
        "BDAT 0x1",
        "BDAT 99999999999999999999",
        "BDAT 18446744073709551616",
        "BDAT LAST",
        "BDAT 1.0",
        "BDAT 1,2",
        "BDAT １",
    ] {
        let expected = (Some(Verb::Bdat), Kind::BdatSize, "501 5.5.4".into());
        assert_eq!(fails(line), expected, "{line}"); // S-BDT-07
    }
    assert_eq!(fails(b"BDAT 5\n").1, Kind::BdatSize);
    assert_eq!(fails(b"BDAT \xff").1, Kind::BdatSize);
    for (line, size, last) in [
        (&b"BDAT 3 FOO"[..], 3, false),
        (b"BDAT 3 LAST LAST", 3, true),
        (b"BDAT 3 LASTX", 3, false),
        (b"BDAT 3 4", 3, false),
        (b"BDAT 3  LAST", 3, true),
        (b"BDAT  3", 3, false),
        (b"BDAT\t3", 3, false),
        (b"BDAT 3\tLAST", 3, true),
        (b"BDAT 3 \xff", 3, false),
        (b"BDAT 3 LAST \r\x00", 3, true),
    ] {
        let expected = (Some(Verb::Bdat), Kind::BdatTrailing { size, last }, "501 5.5.4".into());
        assert_eq!(fails(line), expected, "{}", line.escape_ascii()); // S-BDT-08
    }
}

// RFC 4954 4, 8, RFC 4422 3.1
#[test]
fn auth() {
    let name = "A".repeat(20);
    for mechanism in ["PLAIN", "scram-sha-256-plus", "X_9", &name] {
        let line = format!("AUTH {mechanism}");
        assert_eq!(read(&line), Command::Auth { mechanism: mechanism.into(), initial: None });
    }
    for mechanism in ["PLA!N", "A.B", &format!("{name}A"), "=", "A+B"] {
        let line = format!("AUTH {mechanism}");
        assert_eq!((fails(&line).1, reply(&line)), (Kind::Mechanism, "501 5.5.4".into()), "{line}");
    }
    assert_eq!((fails("AUTH PLAIN a b").1, reply("AUTH PLAIN a b")), (Kind::InitialResponse, "501 5.5.2".into()));
    // No secret is shown.
    let command = read("AUTH PLAIN AHRlc3QAMTIzNA==");
    assert!(!format!("{command:?}").contains("AHRl") && format!("{command:?}").contains("Secret(..)"));
}

// Postfix XCLIENT_README, XFORWARD_README
#[test]
fn xclient_and_xforward() {
    for attributes in [
        "NAME=a.example ADDR=192.0.2.1 PORT=25 PROTO=ESMTP HELO=x LOGIN=u DESTADDR=192.0.2.2 DESTPORT=587",
        "addr=IPV6:2001:db8::1",
        "ADDR=[UNAVAILABLE] NAME=[TEMPUNAVAIL]",
        "NAME=spike.porcupine.org ADDR=168.100.189.2",
    ] {
        let line = format!("XCLIENT {attributes}");
        assert!(matches!(read(&line), Command::Xclient(read) if read.len() == attributes.matches('=').count()));
    }
    assert!(matches!(read("XFORWARD PROTO=SMTP SOURCE=remote IDENT=x"), Command::Xforward(read) if read.len() == 3));
    for line in [
        "XCLIENT NAME",
        "XCLIENT NAME=",
        "XCLIENT LOGIN=",
        "XCLIENT HELO=",
        "XCLIENT =x",
        "XCLIENT FOO=x",
        "XCLIENT IDENT=x",
        "XCLIENT SOURCE=LOCAL",
        "XCLIENT NAME=a name=b",
        "XCLIENT NAME=a..b",
        "XCLIENT ADDR=192.0.2",
        "XCLIENT ADDR=[192.0.2.1]",
        "XCLIENT ADDR=IPV6:1",
        "XCLIENT PORT=65536",
        "XCLIENT PORT=+1",
        "XCLIENT PROTO=LMTP",
        "XCLIENT LOGIN=+0D+0A",
        "XCLIENT LOGIN=+FF",
        "XCLIENT LOGIN=+3",
        "XCLIENT LOGIN=a=b",
        "XCLIENT ADDR=[TEMPUNAVAIL]",
        "XFORWARD LOGIN=u",
        "XFORWARD SOURCE=FAR",
        "XFORWARD HELO=a+28b+29",
        "XFORWARD HELO=+C3+BC",
    ] {
        assert_eq!((fails(line).1, reply(line)), (Kind::UnexpectedArgument, "501 5.5.4".into()), "{line}");
    }
    assert!(parse_command(format!("XCLIENT LOGIN={}", "x".repeat(255)).as_bytes(), &Options::default()).is_ok());
    assert_eq!(fails(format!("XCLIENT LOGIN={}", "x".repeat(256))).1, Kind::UnexpectedArgument);
}

// The table of group 0: which reply when
#[test]
fn replies_to_wrong_commands() {
    let server = Options { parameters: Parameters::SIZE, ..Options::offering_nothing() };
    for (line, expected) in [
        ("MAIL FROM:<a..b@c>", "501 5.1.7"),
        ("RCPT TO:<a..b@c>", "501 5.1.3"),
        ("MAIL FROM:<ü@c>", "501 5.1.7"),
        ("RCPT TO:<ü@c>", "501 5.1.3"),
        ("MAIL FROM:<a@b> FOO", "555 5.5.4"),
        ("MAIL FROM:<a@b> BODY=8BITMIME", "555 5.5.4"),
        ("MAIL FROM:<a@b> SIZE=x", "501 5.5.4"),
        ("MAIL FROM:<a@b> SIZE=1 SIZE=1", "501 5.5.4"),
        ("MAIL FROM:<a@b> =", "501 5.5.4"),
    ] {
        assert_eq!(fails_in(line, &server).2, expected, "{line}");
    }
    // What is wrong first is what is said.
    assert_eq!(fails("MAIL FROM:<a..b@c> FOO=").1, Kind::ReversePath(AddressError::LocalPart));
}

// RFC 5321 2.3.8
#[test]
fn nothing_but_one_command_is_written() {
    for (command, error) in [
        (Command::Ehlo(hello("a\r\nQUIT")), WriteError::ForbiddenOctet),
        (Command::Ehlo(hello("a b")), WriteError::Space),
        (Command::Ehlo(hello("")), WriteError::Empty),
        (Command::Ehlo(hello("bücher.example")), WriteError::NonAscii),
        (Command::Vrfy { argument: "a\n".into(), smtputf8: true }, WriteError::ForbiddenOctet),
        (Command::Vrfy { argument: "ü".into(), smtputf8: false }, WriteError::NonAscii),
        (Command::Vrfy { argument: "".into(), smtputf8: false }, WriteError::Empty),
        (Command::Noop(b"a\0"[..].into()), WriteError::ForbiddenOctet),
        (Command::Noop(b"\x7f"[..].into()), WriteError::ForbiddenOctet),
        (Command::Help("a\r".into()), WriteError::ForbiddenOctet),
        (Command::Etrn("".into()), WriteError::Empty),
        (Command::Burl { url: "a b".into(), last: true }, WriteError::Space),
        (Command::Auth { mechanism: "PLAIN".into(), initial: Some(Secret(b""[..].into())) }, WriteError::Empty),
        (
            Command::Auth { mechanism: "PLAIN".into(), initial: Some(Secret(b"a\r\nb"[..].into())) },
            WriteError::ForbiddenOctet,
        ),
        (Command::Xclient(vec![]), WriteError::Empty),
        (Command::Unknown { verb: b""[..].into(), argument: b"x"[..].into() }, WriteError::Empty),
        (Command::Unknown { verb: b"A B"[..].into(), argument: b""[..].into() }, WriteError::Space),
        (Command::Unknown { verb: b"A\r\nB"[..].into(), argument: b""[..].into() }, WriteError::ForbiddenOctet),
        (
            Command::Rcpt {
                path: ForwardPath::Postmaster("a@b>\r\nRCPT TO:<c@d".into()),
                parameters: RcptParameters::default(),
            },
            WriteError::ForbiddenOctet,
        ),
        (
            Command::Mail {
                path: ReversePath::Null,
                parameters: MailParameters { raw: "X=1\r\nQUIT".into(), ..MailParameters::default() },
            },
            WriteError::ForbiddenOctet,
        ),
    ] {
        let mut out = b"before".to_vec();
        assert_eq!(command.write(&mut out), Err(error), "{command:?}");
        assert_eq!(out, b"before", "nothing is written");
    }
}
