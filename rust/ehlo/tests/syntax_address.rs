//! RULES group 4: paths and mailboxes, by what is read from them. What a server answers is in `server_envelope.rs`.
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::net::{Ipv4Addr, Ipv6Addr};

use ehlo::syntax::address::{Address, AddressError, ForwardPath, Literal, ReversePath, is_domain, parse_literal};
use ehlo::syntax::command::{Command, CommandErrorKind, parse_command};
use ehlo::syntax::options::{Leniency, Options};

/// Reads `mailbox` alone, as a path, in MAIL and in RCPT, and wants the same each time.
fn read_in(mailbox: &str, options: &Options) -> Result<Address<'static>, AddressError> {
    let alone = Address::parse(mailbox, options).map(Address::into_owned);
    let path = format!("<{mailbox}>");
    let bracketed = Address::parse(&path, options).map(Address::into_owned);
    assert_eq!(bracketed.as_ref().map(Address::as_written), alone.as_ref().map(Address::as_written), "{mailbox}");
    assert_eq!(bracketed, alone, "{mailbox}");

    let mail = format!("MAIL FROM:{path} SMTPUTF8");
    match (parse_command(mail.as_bytes(), options), &alone) {
        (Ok(Command::Mail { path: ReversePath::Address(address), .. }), Ok(alone)) => {
            assert_eq!((&address, address.as_written()), (alone, alone.as_written()), "{mail}");
        }
        // With something behind it the end of the path can be found elsewhere, so it may be another error.
        (Err(error), Err(_)) => assert_eq!(error.reply().0, 501, "{mail}"),
        (got, _) => panic!("{mail}: {got:?}, but alone {alone:?}"),
    }
    let rcpt = format!("RCPT TO:{path}");
    match (parse_command(rcpt.as_bytes(), options), &alone) {
        (Ok(Command::Rcpt { path: ForwardPath::Address(address), .. }), Ok(alone)) => {
            assert_eq!((&address, address.as_written()), (alone, alone.as_written()), "{rcpt}");
        }
        (Err(error), Err(_)) => assert_eq!(error.reply().0, 501, "{rcpt}"),
        (got, _) => panic!("{rcpt}: {got:?}, but alone {alone:?}"),
    }
    alone
}

fn read(mailbox: &str) -> Result<Address<'static>, AddressError> {
    read_in(mailbox, &Options::default())
}

/// Local part, domain, mailbox as it would be written.
fn parts(mailbox: &str) -> (String, String, String) {
    let address = read(mailbox).unwrap_or_else(|error| panic!("{mailbox}: {error:?}"));
    (address.local_part().into_owned(), address.domain().to_owned(), address.mailbox().into_owned())
}

fn refuses(mailboxes: &[&str], expected: AddressError) {
    for mailbox in mailboxes {
        assert_eq!(read(mailbox).map(|address| address.to_string()), Err(expected), "{mailbox}");
    }
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn lenient(change: impl Fn(&mut Leniency)) -> Options {
    let mut options = Options::default();
    change(&mut options.leniency);
    options
}

fn command_error(line: &str, options: &Options) -> CommandErrorKind {
    parse_command(line.as_bytes(), options).expect_err(line).kind
}

// B-ADR-01, RFC 5321 3.3
#[test]
fn b_adr_01_no_space_beside_the_colon() {
    let strict = Options::default();
    for line in ["MAIL FROM: <a@b>", "MAIL FROM :<a@b>", "RCPT TO: <a@b>", "RCPT TO :<a@b>", "MAIL TO:<a@b>"] {
        assert_eq!(command_error(line, &strict), CommandErrorKind::NoPath, "{line}");
    }
    let lax = lenient(|leniency| leniency.space_after_colon = true);
    for space in ["", " ", "  ", "\t", " \t "] {
        let line = format!("MAIL FROM:{space}<a@b> SIZE=7");
        let Ok(Command::Mail { path, parameters }) = parse_command(line.as_bytes(), &lax) else { panic!("{line}") };
        assert_eq!((path.as_written(), parameters.size), ("a@b", Some(7)), "{line}");
    }
    assert_eq!(command_error("MAIL FROM :<a@b>", &lax), CommandErrorKind::NoPath);
}

// B-ADR-02, RFC 5321 4.1.2
#[test]
fn b_adr_02_a_path_has_brackets() {
    let strict = Options::default();
    assert_eq!(command_error("MAIL FROM:a@b", &strict), CommandErrorKind::NoPath);
    assert_eq!(command_error("MAIL FROM:", &strict), CommandErrorKind::NoPath);
    assert_eq!(command_error("MAIL FROM:<a@b", &strict), CommandErrorKind::ReversePath(AddressError::Unclosed));
    assert_eq!(command_error("RCPT TO:<a@b", &strict), CommandErrorKind::ForwardPath(AddressError::Unclosed));
    let bare = lenient(|leniency| leniency.bare_paths = true);
    let Ok(Command::Rcpt { path, parameters }) = parse_command(b"RCPT TO:\"a b\"@c NOTIFY=NEVER", &bare) else {
        panic!("a bare path")
    };
    assert_eq!((path.to_string(), parameters.notify.unwrap().never), ("<\"a b\"@c>".to_owned(), true));
    let Ok(Command::Rcpt { path, .. }) = parse_command(b"RCPT TO:postmaster", &bare) else { panic!("postmaster") };
    assert_eq!(path, ForwardPath::Postmaster("Postmaster".into()));
    for line in ["MAIL FROM:", "MAIL FROM:a@b>", "MAIL FROM:<a@b"] {
        assert!(parse_command(line.as_bytes(), &bare).is_err(), "{line}");
    }
}

// B-ADR-03, RFC 5321 4.1.1.2
#[test]
fn b_adr_03_what_stands_behind_a_path() {
    let strict = Options::default();
    for behind in [">", "x", "SIZE=1"] {
        assert_eq!(command_error(&format!("MAIL FROM:<a@b>{behind}"), &strict), CommandErrorKind::BehindPath);
        assert_eq!(command_error(&format!("RCPT TO:<a@b>{behind}"), &strict), CommandErrorKind::BehindPath);
    }
    assert_eq!(command_error("MAIL FROM:<a@b>  SIZE=1", &strict), CommandErrorKind::Spaces);
    assert_eq!(command_error("MAIL FROM:<a@b>\tSIZE=1", &strict), CommandErrorKind::Spaces);
}

// B-ADR-04, B-ADR-05, RFC 5321 4.1.2
#[test]
fn b_adr_04_and_05_null_is_a_value_of_its_own() {
    let options = Options::default();
    for text in ["<>", ""] {
        assert_eq!(ReversePath::parse(text, &options), Ok(ReversePath::Null));
        assert_eq!(ForwardPath::parse(text, &options), Err(AddressError::Empty));
        assert_eq!(Address::parse(text, &options), Err(AddressError::Empty));
    }
    let Ok(Command::Mail { path, .. }) = parse_command(b"MAIL FROM:<>", &options) else { panic!("null") };
    assert_eq!((&path, path.address(), path.to_string()), (&ReversePath::Null, None, "<>".to_owned()));
    let error = parse_command(b"RCPT TO:<>", &options).unwrap_err();
    assert_eq!(error.kind, CommandErrorKind::ForwardPath(AddressError::Empty));
    assert_eq!((error.reply().0, error.reply().1.to_string()), (501, "5.1.3".to_owned()));
}

// B-ADR-06, B-ADR-07, RFC 5321 4.1.1.3, 4.1.2
#[test]
fn b_adr_06_and_07_only_postmaster_lacks_a_domain() {
    let options = Options::default();
    for name in ["Postmaster", "postmaster", "pOSTmaster"] {
        let line = format!("RCPT TO:<{name}>");
        let Ok(Command::Rcpt { path, .. }) = parse_command(line.as_bytes(), &options) else { panic!("{line}") };
        assert!(matches!(&path, ForwardPath::Postmaster(written) if written == name), "{path:?}");
        assert_eq!((path.as_written(), path.address(), path.to_string()), (name, None, format!("<{name}>")));
        assert_eq!(path, ForwardPath::Postmaster("POSTMASTER".into()));
        assert_ne!(path, ForwardPath::parse("postmaster@b", &options).unwrap());
    }
    for (line, kind) in [
        ("RCPT TO:<bob>", CommandErrorKind::ForwardPath(AddressError::NoDomain)),
        ("RCPT TO:<postmasters>", CommandErrorKind::ForwardPath(AddressError::NoDomain)),
        ("RCPT TO:<\"postmaster\">", CommandErrorKind::ForwardPath(AddressError::NoDomain)),
        ("MAIL FROM:<postmaster>", CommandErrorKind::ReversePath(AddressError::NoDomain)),
        ("MAIL FROM:<a@>", CommandErrorKind::ReversePath(AddressError::Domain)),
        ("MAIL FROM:<@>", CommandErrorKind::ReversePath(AddressError::SourceRoute)),
    ] {
        assert_eq!(command_error(line, &options), kind, "{line}");
    }
}

// B-ADR-08, RFC 5321 4.5.1
#[test]
fn b_adr_08_postmaster_is_compared_without_case() {
    let options = Options::default();
    for (path, expected) in [
        ("POSTMASTER@x", true),
        ("postmaster@[192.0.2.1]", true),
        ("\"Postmaster\"@x", true),
        ("\"post\\master\"@x", true),
        ("@r.x:postMaster@x", true),
        ("Postmaster", true),
        ("postmasters@x", false),
        ("\"postmaster \"@x", false),
    ] {
        assert_eq!(ForwardPath::parse(path, &options).unwrap().is_postmaster(), expected, "{path}");
        if let Ok(address) = Address::parse(path, &options) {
            assert_eq!(address.is_postmaster(), expected, "{path}");
        }
    }
}

// B-ADR-09, RFC 5321 4.1.2
#[test]
fn b_adr_09_dot_strings() {
    assert_eq!(parts("a.b.c@d"), ("a.b.c".into(), "d".into(), "a.b.c@d".into()));
    refuses(&[".a@b", "a.@b", "a..b@c", ".@b", "a.\"b\"@c", "."], AddressError::LocalPart);
    refuses(&["@b"], AddressError::SourceRoute);
    let phone = lenient(|leniency| leniency.dots_in_local_part = true);
    for (mailbox, local_part) in [(".a@b", ".a"), ("a.@b", "a."), ("a..b@c", "a..b"), ("..@b", "..")] {
        let address = read_in(mailbox, &phone).unwrap();
        assert_eq!((&*address.local_part(), &*address.mailbox()), (local_part, mailbox));
    }
    assert_eq!(read_in("@b", &phone), Err(AddressError::SourceRoute));
}

// B-ADR-10, RFC 5322 3.2.3
#[test]
fn b_adr_10_atext() {
    for octet in b' '..=b'~' {
        let mailbox = format!("x{}y@c", char::from(octet));
        if octet.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&octet) {
            assert_eq!(parts(&mailbox).0, mailbox[..3], "{mailbox}");
        } else if octet != b'.' {
            assert!(read(&mailbox).is_err(), "{mailbox}");
        }
    }
}

// B-ADR-11, RFC 5321 4.1.2
#[test]
fn b_adr_11_quoted_strings() {
    for (mailbox, local_part) in [
        (r#""a b"@c"#, "a b"),
        (r#""a\"b"@c"#, "a\"b"),
        (r#""a\\b"@c"#, "a\\b"),
        (r#""a@b"@c"#, "a@b"),
        (r#"" "@c"#, " "),
        (r#""(a),<b>:;[c]"@d"#, "(a),<b>:;[c]"),
    ] {
        let (local, _, written) = parts(mailbox);
        assert_eq!((&*local, &*written), (local_part, mailbox));
    }
    // quoted-pairSMTP = %d92 %d32-126
    for octet in b' '..=b'~' {
        assert_eq!(parts(&format!("\"\\{}\"@c", char::from(octet))).0, char::from(octet).to_string());
    }
    for octet in (0..b' ').chain([0x7f]) {
        for backslash in ["", "\\"] {
            let mailbox = format!("\"a{backslash}{}\"@c", char::from(octet));
            assert_eq!(Address::parse(&mailbox, &Options::default()), Err(AddressError::LocalPart), "{mailbox:?}");
        }
    }
    for mailbox in [r#""a@c"#, r#""a"b"@c"#, r#""a\"@c"#, r#"a"b"@c"#, r#"""#, r#""\"#] {
        assert_eq!(Address::parse(mailbox, &Options::default()), Err(AddressError::LocalPart), "{mailbox}");
    }
}

// B-ADR-12, RFC 5321 4.1.2
#[test]
fn b_adr_12_an_empty_quoted_string() {
    assert_eq!(parts("\"\"@c"), (String::new(), "c".into(), "\"\"@c".into()));
}

// B-ADR-13, RFC 5321 4.1.2
#[test]
fn b_adr_13_quotes_do_not_mix_with_atoms() {
    refuses(&["\"a\".b@c", "a.\"b\"@c", "\"a\"b@c", "a\"b\"@c", "\"a\"\"b\"@c"], AddressError::LocalPart);
}

// B-ADR-14, RFC 5321 4.1.2
#[test]
fn b_adr_14_quotes_hide_what_they_hold() {
    for local_part in ["a>b SIZE=1", "@a:b", "a@b> SIZE=2", " <", "> NOTIFY=NEVER", "\\\"> SIZE=3"] {
        let mailbox = format!("\"{local_part}\"@c");
        let line = format!("MAIL FROM:<{mailbox}>");
        let Ok(Command::Mail { path, parameters }) = parse_command(line.as_bytes(), &Options::default()) else {
            panic!("{line}")
        };
        let address = path.address().unwrap();
        assert_eq!(address.local_part(), local_part.replace("\\\"", "\""));
        assert_eq!((address.domain(), address.as_written()), ("c", &*mailbox));
        assert_eq!((parameters.size, &*parameters.raw), (None, ""), "{line}");
        let line = format!("RCPT TO:<{mailbox}> NOTIFY=DELAY");
        let Ok(Command::Rcpt { path, parameters }) = parse_command(line.as_bytes(), &Options::default()) else {
            panic!("{line}")
        };
        assert_eq!((path.as_written(), &*parameters.raw), (&*mailbox, "NOTIFY=DELAY"));
        assert!(parameters.notify.unwrap().delay);
    }
}

// B-ADR-15, RFC 5321 4.1.2
#[test]
fn b_adr_15_quoted_forms_are_equal_and_the_shortest_is_written() {
    for (one, other, written) in [
        (r#""abc"@d"#, "abc@d", "abc@d"),
        (r#""a\bc"@d"#, "abc@d", "abc@d"),
        (r#""a.b"@d"#, "a.b@d", "a.b@d"),
        (r#""\a\ \b"@d"#, r#""a b"@d"#, r#""a b"@d"#),
        (r#""\"\@"@d"#, r#""\"@"@d"#, r#""\"@"@d"#),
        (r#""a\.\.b"@d"#, r#""a..b"@d"#, r#""a..b"@d"#),
        ("\"ü\"@d", "ü@d", "ü@d"),
    ] {
        let (one, other) = (read(one).unwrap(), read(other).unwrap());
        assert_eq!(one, other);
        assert_eq!(hash(&one), hash(&other));
        assert_eq!((&*one.mailbox(), &*other.mailbox()), (written, written));
    }
    let quoted = read(r#""abc"@d"#).unwrap();
    assert_eq!((quoted.as_written(), quoted.to_string()), (r#""abc"@d"#, "abc@d".to_owned()));
    assert_ne!(read(r#""a b"@d"#).unwrap(), read(r#""a  b"@d"#).unwrap());
}

// B-ADR-16, RFC 5321 2.4
#[test]
fn b_adr_16_case_counts_in_the_local_part_only() {
    assert_ne!(read("A@X.y").unwrap(), read("a@x.Y").unwrap());
    assert_eq!(read("A@X.y").unwrap(), read("A@x.Y").unwrap());
    assert_eq!(hash(read("A@X.y").unwrap()), hash(read("A@x.Y").unwrap()));
    assert_eq!(parts("A@X.y"), ("A".into(), "X.y".into(), "A@X.y".into()));
    assert_eq!(read("a@[ipv6:::1]").unwrap(), read("a@[IPv6:::1]").unwrap());
}

// B-ADR-17, RFC 5321 4.1.2
#[test]
fn b_adr_17_domains() {
    for domain in ["3com.x", "localhost", "a-b.c", "a--b.c", "1", "x.1", "A.B.C", "a1.b2"] {
        assert_eq!(parts(&format!("a@{domain}")), ("a".into(), domain.into(), format!("a@{domain}")));
        assert!(is_domain(domain, false), "{domain}");
    }
    refuses(
        &["a@-b.c", "a@b-.c", "a@b-", "a@b..c", "a@b.", "a@.b", "a@b_c", "a@_b", "a@", "a@b@c", "a@b c", "a@b,c"],
        AddressError::Domain,
    );
    for domain in ["", "-b", "b-", "b..c", "b.", ".b", "b_c", "b c", "[192.0.2.1]", "ü"] {
        assert!(!is_domain(domain, false), "{domain}");
    }
    let underscore = lenient(|leniency| leniency.domain_underscore = true);
    for domain in ["b_c", "_b", "_dmarc.b.c"] {
        assert_eq!(read_in(&format!("a@{domain}"), &underscore).unwrap().domain(), domain);
        assert!(is_domain(domain, true), "{domain}");
    }
    assert_eq!(read_in("a@-b.c", &underscore), Err(AddressError::Domain));
}

// B-ADR-18, RFC 1035 2.3.4
#[test]
fn b_adr_18_labels() {
    let mailbox = |length: usize| format!("a@x.{}.y", "b".repeat(length));
    assert_eq!(parts(&mailbox(63)).1.len(), 63 + 4);
    assert_eq!(read(&mailbox(64)), Err(AddressError::LabelTooLong));
}

// B-ADR-19, RFC 5321 4.5.3.1.1 to 4.5.3.1.3
#[test]
fn b_adr_19_sizes_in_octets() {
    let x = |length: usize| "x".repeat(length);
    assert_eq!(parts(&format!("{}@b", x(64))).0.len(), 64);
    assert_eq!(read(&format!("{}@b", x(65))), Err(AddressError::LocalPartTooLong));
    // As written: the quotes are octets of it, and an ü is two.
    assert_eq!(parts(&format!("\"{}\"@b", x(62))).0.len(), 62);
    assert_eq!(read(&format!("\"{}\"@b", x(63))), Err(AddressError::LocalPartTooLong));
    assert_eq!(parts(&format!("{}@b", "ü".repeat(32))).0.len(), 64);
    assert_eq!(read(&format!("{}@b", "ü".repeat(33))), Err(AddressError::LocalPartTooLong));

    let labels = format!("{}.", x(63)).repeat(3);
    let domain = |length: usize| format!("{labels}{}", x(length - labels.len()));
    // A path has 254 octets between its brackets, so a domain of 255 fits into no path, but into EHLO.
    assert!(is_domain(&domain(255), false));
    assert!(!is_domain(&format!("{labels}{}.x", x(62)), false));
    assert_eq!(parts(&format!("a@{}", domain(252))).1.len(), 252);
    assert_eq!(read(&format!("a@{}", domain(253))), Err(AddressError::PathTooLong));
    assert_eq!(read(&format!("a@{}.{}", domain(255), x(3))), Err(AddressError::DomainTooLong));
    assert_eq!(read(&format!("a@[IPv6:{}]", x(300))), Err(AddressError::DomainTooLong));

    let long = Options { max_local_part: 255, ..Options::default() };
    // A path may be longer by as much: 256 + (255 - 64) octets with its brackets.
    let tail = format!("{}.{}.{}", x(63), x(63), x(61));
    assert_eq!(read_in(&format!("{}@{tail}", x(255)), &long).unwrap().as_written().len() + 2, 447);
    assert_eq!(read_in(&format!("{}@{tail}x", x(255)), &long), Err(AddressError::PathTooLong));
    assert_eq!(read_in(&format!("{}@b", x(256)), &long), Err(AddressError::LocalPartTooLong));
}

// B-ADR-20, RFC 5321 4.1.1.3, App. C
#[test]
fn b_adr_20_source_routes_are_read_and_dropped() {
    for (path, route, mailbox) in [
        ("@a.x,@b.y:u@c.z", "@a.x,@b.y", "u@c.z"),
        ("@a.x:u@c.z", "@a.x", "u@c.z"),
        ("@a:\"u\"@c", "@a", "u@c"),
        ("@a:\"u v:w\"@c", "@a", "\"u v:w\"@c"),
        ("@a:u@[192.0.2.1]", "@a", "u@[192.0.2.1]"),
    ] {
        let address = read(path).unwrap();
        assert_eq!((address.source_route(), &*address.mailbox()), (Some(route), mailbox));
        assert_eq!((address.as_written(), address.to_string()), (path, mailbox.to_owned()));
        assert_eq!(address, read(mailbox).unwrap());
        let mut line = Vec::new();
        let command = format!("RCPT TO:<{path}>");
        parse_command(command.as_bytes(), &Options::default()).unwrap().write(&mut line).unwrap();
        assert_eq!(line, format!("RCPT TO:<{mailbox}>\r\n").as_bytes(), "never generated");
    }
    refuses(
        &["@a.x:", "@a.x,:u@c", "@:u@c", "@a.x", "@a.x,", "@a.x,b.y:u@c", "@a.x@b.y:u@c", "@a_b:u@c", "@a:@b:u@c"],
        AddressError::SourceRoute,
    );
    refuses(&["@a.x:u"], AddressError::NoDomain);
    refuses(&["@a.x:.u@c"], AddressError::LocalPart);
    assert_eq!(read("u@c.z").unwrap().source_route(), None);
}

// B-ADR-21, RFC 5321 4.1.3
#[test]
fn b_adr_21_ipv4_literals() {
    for (literal, octets) in [
        ("[192.0.2.1]", [192, 0, 2, 1]),
        ("[0.0.0.0]", [0; 4]),
        ("[255.255.255.255]", [255; 4]),
        ("[010.001.00.0]", [10, 1, 0, 0]),
    ] {
        let address = read(&format!("a@{literal}")).unwrap();
        assert_eq!(address.literal(), Some(Literal::V4(Ipv4Addr::from(octets))));
        assert_eq!((address.domain(), &*address.mailbox()), (literal, &*format!("a@{literal}")));
        assert_eq!(parse_literal(literal, false), Ok(Literal::V4(Ipv4Addr::from(octets))));
    }
    refuses(
        &["a@[192.0.2.256]", "a@[192.0.2]", "a@[192.0.2.1", "a@[192.0.2.1.1]", "a@[192.0.2.0001]", "a@[192.0.2.]"],
        AddressError::Literal,
    );
    refuses(&["a@[]", "a@[192.0.2.x]", "a@[ 192.0.2.1]", "a@[192.0.2.-1]", "a@[+1.0.0.1]"], AddressError::Literal);
    refuses(&["a@[192.0.2.1]x", "a@[192.0.2.1].x", "a@192.0.2.1]"], AddressError::Domain);
    assert_eq!(read("a@192.0.2.1").unwrap().literal(), None, "a domain by its grammar");
}

// B-ADR-22, RFC 5321 4.1.3
#[test]
fn b_adr_22_ipv6_literals() {
    for (literal, address) in [
        ("IPv6:2001:db8::1", "2001:db8::1"),
        ("ipv6:::ffff:192.0.2.1", "::ffff:192.0.2.1"),
        ("IPV6:::", "::"),
        ("IPv6:::1", "::1"),
        ("IPv6:1::", "1::"),
        ("IPv6:1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"),
        ("IPv6:1:2:3:4:5:6::", "1:2:3:4:5:6:0:0"),
        ("IPv6:::3:4:5:6:7:8", "0:0:3:4:5:6:7:8"),
        ("IPv6:1:2:3::6:7:8", "1:2:3:0:0:6:7:8"),
        ("IPv6:1:2:3:4:5:6:192.0.2.1", "1:2:3:4:5:6:c000:201"),
        ("IPv6:1:2:3:4::192.0.2.1", "1:2:3:4:0:0:c000:201"),
        ("IPv6:ABCD:EF01:abcd::0000", "abcd:ef01:abcd::"),
    ] {
        let expected: Ipv6Addr = address.parse().unwrap();
        let read = read(&format!("a@[{literal}]")).unwrap();
        assert_eq!(read.literal(), Some(Literal::V6(expected)), "{literal}");
        assert_eq!(read.domain(), format!("[{literal}]"));
    }
    for literal in [
        "1:2:3:4:5:6:7::",
        "::2:3:4:5:6:7:8",
        "1::3:4:5:6:7:8",
        "fe80::1%eth0",
        "1::2::3",
        "",
        ":",
        ":::",
        "1",
        "1:2:3:4:5:6:7",
        "1:2:3:4:5:6:7:8:9",
        "1:2:3:4:5:6:7:192.0.2.1",
        "1:2:3:4:5::192.0.2.1",
        "192.0.2.1",
        "192.0.2.1::",
        "::192.0.2.1:1",
        "::192.0.2.256",
        "12345::",
        "g::",
        ":1::",
        "1::2:",
        "+1::",
        "[::1]",
    ] {
        assert_eq!(parse_literal(&format!("[IPv6:{literal}]"), true), Err(AddressError::Literal), "{literal}");
        assert!(read(&format!("a@[IPv6:{literal}]")).is_err(), "{literal}");
    }
}

// B-ADR-23, RFC 5321 4.1.3
#[test]
fn b_adr_23_other_literals() {
    refuses(&["a@[2001:db8::1]", "a@[x400:foo]", "a@[::1]", "a@[:x]"], AddressError::Literal);
    let general = lenient(|leniency| leniency.general_literals = true);
    let address = read_in("a@[x400:foo!]", &general).unwrap();
    assert_eq!(address.literal(), Some(Literal::General { tag: "x400", content: "foo!" }));
    assert_eq!(address.domain(), "[x400:foo!]");
    for mailbox in ["a@[x400:]", "a@[:foo]", "a@[x-:foo]", "a@[x_4:foo]", "a@[x400:f[o]", "a@[x400:f o]", "a@[foo]"] {
        assert_eq!(read_in(mailbox, &general), Err(AddressError::Literal), "{mailbox}");
    }
    // A tag that is registered has its own grammar.
    assert_eq!(read_in("a@[IPv6:foo]", &general), Err(AddressError::Literal));
}

// B-ADR-24, RFC 5321 4.1.2
#[test]
fn b_adr_24_no_comments_and_no_white_space() {
    refuses(&["a(b)@c", "a @b", " a@b", "(a)b@c", "a\t@b"], AddressError::LocalPart);
    refuses(&["a@b ", "a@ b", "a@b(c)", "a@(c)b", "a@b\t"], AddressError::Domain);
}

// B-ADR-25, RFC 6531 3.3
#[test]
fn b_adr_25_utf8_where_smtputf8_is_offered() {
    let off = Options { smtputf8: false, ..Options::default() };
    for (mailbox, local_part, domain) in [
        ("ü@x", "ü", "x"),
        ("a.日本@x", "a.日本", "x"),
        ("\"ü b\"@x", "ü b", "x"),
        ("a@bücher.example", "a", "bücher.example"),
        ("a@例え.テスト", "a", "例え.テスト"),
        ("@bücher:a@x", "a", "x"),
    ] {
        let address = read(mailbox).unwrap();
        assert_eq!((&*address.local_part(), address.domain()), (local_part, domain));
        assert!(!address.is_ascii() && ReversePath::Address(address).to_string().starts_with('<'));
        assert_eq!(Address::parse(mailbox, &off), Err(AddressError::NonAscii), "{mailbox}");
    }
    // quoted-pairSMTP is not extended.
    assert_eq!(read("\"\\ü\"@x"), Err(AddressError::LocalPart));
    let needs = command_error("MAIL FROM:<ü@x>", &Options::default());
    assert_eq!(needs, CommandErrorKind::NeedsSmtputf8); // S-ADR-26
}

// B-ADR-27, RFC 3629 3
#[test]
fn b_adr_27_malformed_utf8() {
    let off = Options { smtputf8: false, ..Options::default() };
    for bad in [&b"\xc0\xaf"[..], b"\xed\xa0\x80", b"\xc3", b"\xf4\x90\x80\x80", b"\x80", b"\xff"] {
        for options in [&Options::default(), &off] {
            let line = [b"MAIL FROM:<", bad, b"@x> SMTPUTF8"].concat();
            let kind = parse_command(&line, options).unwrap_err().kind;
            assert_eq!(kind, CommandErrorKind::ReversePath(AddressError::Utf8), "{}", line.escape_ascii());
            let line = [b"RCPT TO:<a@x", bad, b">"].concat();
            let kind = parse_command(&line, options).unwrap_err().kind;
            assert_eq!(kind, CommandErrorKind::ForwardPath(AddressError::Utf8), "{}", line.escape_ascii());
        }
    }
}

// B-ADR-28, RFC 6531 3.3
#[test]
fn b_adr_28_u_labels_hold_no_ascii_but_ldh() {
    refuses(&["a@bü_c", "a@-ü.c", "a@ü-", "a@ü..c", "a@ü.", "a@.ü", "a@ü c", "a@ü!"], AddressError::Domain);
    assert_eq!(parts("a@b-ü.c").1, "b-ü.c");
}

// B-ADR-29, RFC 6531 3.2
#[test]
fn b_adr_29_a_labels_are_ascii() {
    let off = Options { smtputf8: false, ..Options::default() };
    let address = read_in("a@xn--bcher-kva.example", &off).unwrap();
    assert!(address.is_ascii());
    assert_eq!(address.domain(), "xn--bcher-kva.example", "not decoded");
    assert_ne!(address, read("a@bücher.example").unwrap());
}

// B-ADR-33, RFC 5321 2.3.11, 2.4; over the whole grammar in syntax_props.rs
#[test]
fn b_adr_33_the_text_as_written_is_kept() {
    for path in ["@A.x:\"b\"@C.y", "\"a\\b\"@[IPv6:2001:DB8::1]", "A.b+c@D", "\"\"@x"] {
        let address = read(path).unwrap();
        assert_eq!(address.as_written(), path);
        let again = read(&address.mailbox()).unwrap();
        assert_eq!((&again, again.mailbox()), (&address, address.mailbox()));
    }
}
