//! RULES group 5 from the client's side: what the reply to EHLO says.
use ehlo::syntax::capability::{Capabilities, Limits};
use ehlo::syntax::datetime::{DateTime, Fraction};
use ehlo::syntax::reply::parse_reply;

/// The lines behind the greeting, read as lines and as a reply.
fn read(lines: &[&str]) -> Capabilities {
    let all: Vec<&str> = std::iter::once("mx.example greets you").chain(lines.iter().copied()).collect();
    let read = Capabilities::parse(all.iter().map(|line| line.as_bytes()));
    let reply: String = all
        .iter()
        .enumerate()
        .map(|(number, line)| format!("250{}{line}\r\n", if number + 1 == all.len() { ' ' } else { '-' }))
        .collect();
    assert_eq!(Capabilities::from_reply(&parse_reply(reply.as_bytes()).unwrap()), read);
    assert_eq!(Capabilities::parse(read.write().map(str::as_bytes)), read);
    read
}

// RFC 5321 4.1.1.1
#[test]
fn the_greeting_names_the_server() {
    let all = read(&["SIZE 10"]);
    assert_eq!((all.greeting(), all.name()), ("mx.example greets you", "mx.example"));
    let all = Capabilities::from_reply(&parse_reply(b"250 [192.0.2.1]\r\n").unwrap());
    assert_eq!((all.greeting(), all.name(), all.lines().len()), ("[192.0.2.1]", "[192.0.2.1]", 0));
    assert_eq!(Capabilities::parse([]), Capabilities::default());
    assert_eq!(Capabilities::default().name(), "");
    // A keyword in the greeting is none.
    assert!(!Capabilities::parse([&b"PIPELINING"[..]]).pipelining());
}

// B-PAR-36, RFC 5321 4.1.1.1
#[test]
fn b_par_36_unknown_keywords_stay_raw_in_order() {
    let lines = ["X-Foo bar=Baz  qux", "SIZE 10", "x-foo second", "\u{fc}nknown", "  Odd", "", "a=b", "-"];
    let all = read(&lines);
    assert_eq!(all.lines(), [lines[0], lines[1], lines[2], lines[3], lines[4], lines[6], lines[7]]);
    let entries: Vec<_> = all.entries().collect();
    assert_eq!(
        entries,
        [
            ("X-Foo", "bar=Baz  qux"),
            ("SIZE", "10"),
            ("x-foo", "second"),
            ("ünknown", ""),
            ("Odd", ""),
            ("a=b", ""),
            ("-", "")
        ]
    );
    assert_eq!(all.parameters("X-FOO"), Some("bar=Baz  qux"));
    assert_eq!((all.has("odd"), all.has("NOSUCH"), all.parameters("nosuch")), (true, false, None));
    let all = Capabilities::parse([&b"mx"[..], b"SIZE 5", b"\xff\xfe x", b"DSN"]);
    assert_eq!((all.size(), all.dsn(), all.lines().len()), (Some(5), true, 3), "no octets make it fail");
}

// B-PAR-36: the old form merges, of two SIZE the first stands
#[test]
fn b_par_36_auth_merges_and_the_first_size_wins() {
    let all = read(&["AUTH=LOGIN", "AUTH PLAIN"]);
    assert_eq!(all.auth(), ["LOGIN", "PLAIN"]);
    let all = read(&["AUTH=LOGIN PLAIN", "auth plain scram-sha-256", "auth=Login", "AUTH="]);
    assert_eq!(all.auth(), ["LOGIN", "PLAIN", "SCRAM-SHA-256"]);
    assert_eq!(all.entries().map(|entry| entry.0).collect::<Vec<_>>(), ["AUTH", "auth", "auth", "AUTH"]);
    assert_eq!(all.lines()[0], "AUTH=LOGIN PLAIN", "as it came");
    assert_eq!(read(&["AUTHX LOGIN", "XAUTH=PLAIN"]).auth(), [""; 0]);
    assert!(read(&["AUTH"]).has("AUTH") && read(&["AUTH"]).auth().is_empty());
    assert_eq!(read(&["SIZE 10", "SIZE 20"]).size(), Some(10));
}

// S-PAR-11, RFC 1870 3
#[test]
fn s_par_11_size() {
    for (line, size) in [
        ("SIZE 10", Some(10)),
        ("SIZE 1", Some(1)),
        ("size 0010", Some(10)),
        ("SIZE", None),
        ("SIZE 0", None),
        ("SIZE x", None),
        ("SIZE -1", None),
        ("SIZE 18446744073709551615", Some(u64::MAX)),
        ("SIZE 99999999999999999999", Some(u64::MAX)),
        ("SIZE 111111111111111111111", None),
        ("SIZE 10 20", Some(10)),
    ] {
        let all = read(&[line]);
        assert_eq!((all.size(), all.has("SIZE")), (size, true), "{line}");
    }
    assert_eq!((read(&[]).size(), read(&["SIZES 5"]).size()), (None, None));
}

// S-PAR-27, RFC 2852 2(3)
#[test]
fn s_par_27_deliver_by() {
    for (line, expected) in [
        ("DELIVERBY 30,x", Some(Some(30))),
        ("DELIVERBY 240", Some(Some(240))),
        ("deliverby 999999999", Some(Some(999_999_999))),
        ("DELIVERBY 30 40", Some(Some(30))),
        ("DELIVERBY", Some(None)),
        ("DELIVERBY ,x", Some(None)),
        ("DELIVERBY 1234567890", Some(None)),
        ("DELIVERBY -5", Some(None)),
        ("DELIVER 30", None),
    ] {
        assert_eq!(read(&[line]).deliver_by(), expected, "{line}");
    }
}

// S-PAR-28, RFC 4865 3
#[test]
fn s_par_28_future_release() {
    let read = |line| read(&[line]).future_release();
    let all = read("FUTURERELEASE 86400 2030-01-01T00:00:00Z").unwrap();
    assert_eq!(all.max_seconds, 86400);
    assert_eq!(all.max_until, DateTime::parse("2030-01-01T00:00:00Z", Fraction::Refused).unwrap());
    assert_eq!(read("FutureRelease 1 2030-01-01T00:00:00.5Z").unwrap().max_seconds, 1);
    for line in ["FUTURERELEASE", "FUTURERELEASE 86400", "FUTURERELEASE x 2030-01-01T00:00:00Z", "FUTURERELEASE 1 2030"]
    {
        assert_eq!(read(line), None, "{line}");
    }
}

// S-PAR-30, RFC 6710 2
#[test]
fn s_par_30_priority_profile() {
    assert_eq!(read(&["MT-PRIORITY MIXER"]).mt_priority(), Some("MIXER"));
    assert_eq!(read(&["mt-priority"]).mt_priority(), Some(""));
    assert_eq!(read(&["MT-PRIORITYX MIXER"]).mt_priority(), None);
}

// C-PAR-34, S-PAR-33, RFC 9422 3, 4
#[test]
fn c_par_34_a_malformed_limit_is_ignored_alone() {
    let limits = |mail_max, rcpt_max, rcpt_domain_max| Limits { mail_max, rcpt_max, rcpt_domain_max };
    for (line, expected) in [
        ("LIMITS RCPTMAX=x MAILMAX=5 FOO", limits(Some(5), None, None)),
        ("LIMITS MAILMAX=100 RCPTMAX=1000 RCPTDOMAINMAX=3", limits(Some(100), Some(1000), Some(3))),
        ("limits mailmax=1", limits(Some(1), None, None)),
        ("LIMITS MAILMAX=999999 RCPTMAX=1000000", limits(Some(999_999), None, None)),
        ("LIMITS MAILMAX=05 RCPTMAX=0 RCPTDOMAINMAX=", Limits::default()),
        ("LIMITS MAILMAX RCPTMAX=-1 RCPTDOMAINMAX=+1", Limits::default()),
        ("LIMITS MAILMAX=1;2 FOO=BAR RCPTMAX=7", limits(None, Some(7), None)),
        ("LIMITS MAILMAX=x MAILMAX=3 MAILMAX=4", limits(Some(3), None, None)),
        ("LIMITS", Limits::default()),
        ("LIMIT MAILMAX=5", Limits::default()),
    ] {
        assert_eq!(read(&[line]).limits(), expected, "{line}");
    }
    // "A later EHLO replaces all": nothing is shared between two.
    assert_eq!(read(&["LIMITS MAILMAX=5"]).limits().mail_max, Some(5));
    assert_eq!(read(&["LIMITS RCPTMAX=5"]).limits(), limits(None, Some(5), None));
}

// C-PAR-37, RFC 6531 3.1(3)
#[test]
fn c_par_37_parameters_where_none_belong_are_ignored() {
    type Offers = fn(&Capabilities) -> bool;
    let flags: [(&str, Offers); 10] = [
        ("SMTPUTF8", Capabilities::smtputf8),
        ("8BITMIME", Capabilities::eight_bit_mime),
        ("PIPELINING", Capabilities::pipelining),
        ("STARTTLS", Capabilities::starttls),
        ("CHUNKING", Capabilities::chunking),
        ("BINARYMIME", Capabilities::binarymime),
        ("DSN", Capabilities::dsn),
        ("ENHANCEDSTATUSCODES", Capabilities::enhanced_status_codes),
        ("REQUIRETLS", Capabilities::requiretls),
        ("RRVS", Capabilities::rrvs),
    ];
    for (keyword, offers) in flags {
        for line in [keyword.to_owned(), format!("{keyword} x"), keyword.to_lowercase(), format!("{keyword}\tx y")] {
            let all = read(&[&line]);
            assert!(offers(&all), "{line}");
            assert_eq!(flags.iter().filter(|(_, offers)| offers(&all)).count(), 1, "{line} is that and no other");
        }
        for line in [format!("{keyword}X"), format!("X {keyword}"), format!("{keyword}=x")] {
            assert!(!offers(&read(&[&line])), "{line}");
        }
    }
}

// Postfix XCLIENT_README, XFORWARD_README
#[test]
fn attributes_of_xclient_and_xforward() {
    let all = read(&["XCLIENT NAME ADDR PORT", "xforward HELO  SOURCE"]);
    assert_eq!(all.xclient().collect::<Vec<_>>(), ["NAME", "ADDR", "PORT"]);
    assert_eq!(all.xforward().collect::<Vec<_>>(), ["HELO", "SOURCE"]);
    assert_eq!(read(&[]).xclient().count() + read(&["XFORWARD"]).xforward().count(), 0);
}
