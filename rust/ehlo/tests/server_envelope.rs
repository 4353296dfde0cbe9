//! RULES groups 4 and 5 as a client meets them: what MAIL and RCPT get. The grammar itself is tested beside the parsers.
mod common;
use common::*;
use ehlo::session::{Decisions, ServerSettings};
use ehlo::syntax::options::UnknownParameters;

fn mail(argument: &str) -> String {
    replies(format!("MAIL FROM:{argument}\r\n"))[0].clone()
}

fn rcpt(argument: &str) -> String {
    replies(format!("MAIL FROM:<a@b>\r\nRCPT TO:{argument}\r\n"))[1].clone()
}

fn mail_in(settings: ServerSettings, argument: &str) -> String {
    after_ehlo(settings, format!("MAIL FROM:{argument}\r\n"))[0].clone()
}

#[test]
fn b_adr_01_to_03_the_frame_of_a_path() {
    for bad in [" <a@b>", "a@b", "<a@b>>", "<a@b>x", "<a@b>SIZE=1"] {
        assert_eq!(mail(bad), "501 5.5.4", "{bad}"); // B-ADR-01, B-ADR-02, B-ADR-03
    }
    assert_eq!(replies("MAIL FROM :<a@b>\r\nMAIL\r\nRCPT\r\n"), ["501 5.5.4"; 3]);
    let mut lax = settings();
    lax.lenient.space_after_colon = true;
    lax.lenient.bare_paths = true;
    assert_eq!(mail_in(lax.clone(), " <a@b>"), "250 2.1.0");
    assert_eq!(mail_in(lax, "a@b"), "250 2.1.0");
}

#[test]
fn b_adr_04_to_07_null_and_postmaster() {
    assert_eq!(mail("<>"), "250 2.1.0"); // B-ADR-04
    assert_eq!(rcpt("<>"), "501 5.1.3"); // B-ADR-05
    assert_eq!(rcpt("<pOSTmaster>"), "250 2.1.5"); // B-ADR-06
    assert_eq!(rcpt("<bob>"), "501 5.1.3"); // B-ADR-07
    assert_eq!(mail("<postmaster>"), "501 5.1.7"); // B-ADR-07
    assert!(run("EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<Postmaster>\r\nDATA\r\n.\r\n").has("from=<> to=<Postmaster>"));
}

#[test]
fn b_adr_09_to_24_grammar() {
    let good = [
        "<\"a b\"@c>",
        "<\"a\\\"b\"@c>",
        "<\"a@b\"@c>",
        "<\"\"@c>",
        "<\"a>b SIZE=1\"@c>",
        "<a@3com.x>",
        "<a@localhost>",
        "<@a.x,@b.y:u@c.z>",
        "<a@[192.0.2.1]>",
        "<a@[IPv6:2001:db8::1]>",
        "<a@[ipv6:::ffff:192.0.2.1]>",
        "<a@xn--bcher-kva.example>",
        "<!#$%&'*+-/=?^_`{}~|@c>",
    ];
    for path in good {
        assert_eq!(rcpt(path), "250 2.1.5", "{path}"); // B-ADR-11, -12, -14, -17, -20, -21, -22, -29, -10
    }
    let bad = [
        "<.a@b>",
        "<a.@b>",
        "<a..b@c>",
        "<\"a\t\"@c>",
        "<\"a\".b@c>",
        "<a@-b.c>",
        "<a@b-.c>",
        "<a@b..c>",
        "<a@b.>",
        "<a@b_c>",
        "<@a.x:>",
        "<@a.x,:u@c>",
        "<@:u@c>",
        "<a@[192.0.2.256]>",
        "<a@[192.0.2]>",
        "<a@[192.0.2.1>",
        "<a@[IPv6:1:2:3:4:5:6:7::]>",
        "<a@[IPv6:fe80::1%eth0]>",
        "<a@[IPv6:1::2::3]>",
        "<a@[IPv6:]>",
        "<a@[2001:db8::1]>",
        "<a@[x400:foo]>",
        "<a(b)@c>",
        "<a @b>",
        "<(a@b>",
        "<a,b@c>",
        "<a@b@c>",
    ];
    for path in bad {
        assert_eq!(rcpt(path)[..3], *"501", "{path}"); // B-ADR-09, -11, -13, -17, -20 to -24
        assert_eq!(mail(path)[..3], *"501", "{path}");
    }
    assert_eq!(rcpt("<a..b@c>"), "501 5.1.3");
    assert_eq!(mail("<a..b@c>"), "501 5.1.7");
}

#[test]
fn b_adr_18_and_19_sizes() {
    let x = |n: usize| "x".repeat(n);
    assert_eq!(rcpt(&format!("<a@{}.y>", x(63))), "250 2.1.5"); // B-ADR-18
    assert_eq!(rcpt(&format!("<a@{}.y>", x(64))), "501 5.1.3");
    assert_eq!(rcpt(&format!("<{}@b>", x(64))), "250 2.1.5"); // B-ADR-19
    assert_eq!(rcpt(&format!("<{}@b>", x(65))), "501 5.1.3");
    let long = ServerSettings { max_local_part: 255, ..settings() };
    assert_eq!(mail_in(long, &format!("<{}@b>", x(200))), "250 2.1.0");
    let label = format!("{}.", x(63)).repeat(3);
    let path = |n: usize| format!("<{}@{label}{}>", x(256 - 3 - label.len() - 60 + n), x(60));
    assert_eq!(path(0).len(), 256);
    assert_eq!(rcpt(&path(0)), "250 2.1.5");
    assert_eq!(rcpt(&path(1)), "501 5.1.3");
}

#[test]
fn b_adr_25_to_28_utf8() {
    assert_eq!(mail("<ü@x> SMTPUTF8"), "250 2.1.0"); // B-ADR-25
    assert_eq!(mail("<ü@x>"), "550 5.6.7"); // S-ADR-26
    assert_eq!(rcpt("<ü@x>"), "553 5.6.7"); // S-ADR-26
    let got = replies("MAIL FROM:<a@b> SMTPUTF8\r\nRCPT TO:<ü@bücher.example>\r\nRCPT TO:<a@bü_c>\r\n");
    assert_eq!(got, ["250 2.1.0", "250 2.1.5", "501 5.1.3"]); // B-ADR-28
    let off = ServerSettings { smtputf8: false, ..settings() };
    assert_eq!(mail_in(off.clone(), "<ü@x>"), "501 5.1.7"); // S-ADR-26
    assert_eq!(after_ehlo(off.clone(), "MAIL FROM:<a@b>\r\nRCPT TO:<ü@x>\r\n")[1], "501 5.1.3");
    for bad in [&b"\xc0\xaf"[..], b"\xed\xa0\x80", b"\xc3", b"\xf4\x90\x80\x80"] {
        for config in [settings(), off.clone()] {
            let line = [b"MAIL FROM:<", bad, b"@x> SMTPUTF8\r\nMAIL FROM:<a@b>\r\nRCPT TO:<", bad, b"@x>\r\n"].concat();
            let got = after_ehlo(config, line); // B-ADR-27
            assert_eq!((&got[0][..3], &got[2][..3]), ("501", "501"), "{bad:?}");
        }
    }
}

#[test]
fn s_adr_31_and_32_vrfy_with_utf8() {
    let outcome = run("EHLO x\r\nVRFY ü SMTPUTF8\r\nVRFY bob SMTPUTF8\r\n");
    assert_eq!(outcome.replies()[1..], ["252 2.0.0", "252 2.0.0"]); // S-ADR-32
    assert!(outcome.output.is_ascii()); // S-ADR-31
    let off = ServerSettings { smtputf8: false, ..settings() };
    assert_eq!(after_ehlo(off, "VRFY ü SMTPUTF8\r\n")[0][..3], *"501"); // S-ADR-32
}

#[test]
fn b_adr_30_our_own_name_is_ascii() {
    for bad in ["bücher.example", "", "a b", "a..b", "[x]"] {
        let made = ehlo::session::ServerConfig::new(ServerSettings { hostname: bad.into(), ..settings() });
        assert!(made.is_err(), "{bad}");
    }
    assert!(ehlo::session::ServerConfig::new(ServerSettings { hostname: "[192.0.2.1]".into(), ..settings() }).is_ok());
}

#[test]
fn s_par_02_to_06_parameters_in_general() {
    for bad in ["-X=1", "SIZE=", "X=a=b", "=1"] {
        assert_eq!(mail(&format!("<a@b> {bad}")), "501 5.5.4", "{bad}"); // B-PAR-01
    }
    assert_eq!(mail("<a@b> FOO=1"), "555 5.5.4"); // S-PAR-02
    assert_eq!(rcpt("<a@b> SIZE=1"), "555 5.5.4"); // S-PAR-03
    assert_eq!(mail("<a@b> NOTIFY=NEVER"), "555 5.5.4"); // S-PAR-03
    let pass = ServerSettings {
        unknown_parameters: UnknownParameters::Pass,
        decisions: Decisions { mail: true, ..Decisions::default() },
        ..settings()
    };
    let outcome = run_in(pass, "EHLO x\r\nMAIL FROM:<a@b> FOO=Bar x-Y\r\n");
    assert!(outcome.has("mail <a@b> FOO=Bar x-Y")); // B-PAR-04
    let ignore = ServerSettings { unknown_parameters: UnknownParameters::Ignore, ..settings() };
    assert_eq!(mail_in(ignore, "<a@b> FOO=Bar"), "250 2.1.0");
    assert_eq!(mail("<a@b> SIZE=1 size=1"), "501 5.5.4"); // S-PAR-05
    assert_eq!(mail("<a@b> RET=FULL BODY=7BIT ret=HDRS"), "501 5.5.4");
    assert_eq!(replies("MAIL FROM:<a@b> SIZE=1 FOO\r\nMAIL FROM:<a@b>\r\n"), ["555 5.5.4", "250 2.1.0"]); // S-PAR-06
}

// B-OTH-06, RFC 3885 3.1, 4141, 3865, 1845: not done, so not known; or raw, where the program asked for that
#[test]
fn b_oth_06_parameters_of_extensions_that_are_not_done() {
    let parameters =
        ["MTRK=YQ==:60", "MTRK=YWI=", "mtrk=YWJj", "CONPERM", "SOLICIT=org.example:ADV:ADLT", "TRANSID=<a@b>"];
    for parameter in parameters {
        assert_eq!(mail(&format!("<a@b> {parameter}")), "555 5.5.4", "{parameter}");
    }
    for parameter in ["MTRK=YQ===", "MTRK=YQ=:6=0", "MTRK=", "X=YQ=="] {
        assert_eq!(mail(&format!("<a@b> {parameter}")), "501 5.5.4", "{parameter}");
    }
    assert_eq!(rcpt("<a@b> CONPERM"), "555 5.5.4");
    for keyword in ["MTRK", "CONPERM", "CONNEG", "NO-SOLICITING", "CHECKPOINT"] {
        assert!(!keywords(settings()).iter().any(|line| line.starts_with(keyword)), "{keyword}");
    }
    let pass = ServerSettings {
        unknown_parameters: UnknownParameters::Pass,
        decisions: Decisions { mail: true, ..Decisions::default() },
        ..settings()
    };
    let outcome = run_in(pass, "EHLO x\r\nMAIL FROM:<a@b> mtrk=YQ==:60 SIZE=5 CONPERM\r\n");
    assert!(outcome.has("mail <a@b> mtrk=YQ==:60 SIZE=5 CONPERM"), "{:?}", outcome.events);
}

#[test]
fn s_par_07_to_12_size() {
    for bad in ["SIZE", "SIZE=-1", "SIZE=1k", "SIZE=111111111111111111111"] {
        assert_eq!(mail(&format!("<a@b> {bad}")), "501 5.5.4", "{bad}"); // S-PAR-07
    }
    let hundred = ServerSettings { max_message_size: Some(100), ..settings() };
    assert_eq!(mail_in(hundred.clone(), "<a@b> SIZE=100"), "250 2.1.0");
    assert_eq!(mail_in(hundred.clone(), "<a@b> SIZE=101"), "552 5.3.4"); // S-PAR-08
    assert_eq!(mail_in(hundred.clone(), "<a@b> SIZE=99999999999999999999"), "552 5.3.4");
    let send = |declared: usize, octets: usize| {
        let content = format!("{}\r\n", "x".repeat(octets - 2));
        let input = format!("MAIL FROM:<a@b> SIZE={declared}\r\nRCPT TO:<c@d>\r\nDATA\r\n{content}.\r\n");
        after_ehlo(hundred.clone(), input).last().unwrap().clone()
    };
    assert_eq!(send(1, 50), "250 2.0.0"); // S-PAR-09
    assert_eq!(send(0, 50), "250 2.0.0");
    assert_eq!(send(50, 101), "552 5.3.4"); // S-PAR-09
    assert_eq!(send(50, 100), "250 2.0.0"); // S-PAR-10
    let outcome = run(format!("EHLO x\r\n{ENVELOPE}DATA\r\n..x\r\n.\r\n"));
    assert!(outcome.has("size=4"), "{:?}", outcome.events); // S-PAR-10
    assert!(keywords(hundred).contains(&"SIZE 100".to_owned())); // S-PAR-11
    let endless = ServerSettings { max_message_size: None, ..settings() };
    assert!(keywords(endless).contains(&"SIZE".to_owned())); // S-PAR-11
    let asked =
        ServerSettings { decisions: Decisions { rcpt: true, mail: true, ..Decisions::default() }, ..settings() };
    let input = "EHLO x\r\nMAIL FROM:<a@b> SIZE=5000\r\nRCPT TO:<c@d>\r\n";
    let outcome = run_with(asked, input, false, |e| e.starts_with("rcpt").then_some("552 5.2.3 too big for me"));
    assert_eq!(outcome.replies().last().unwrap(), "552 5.2.3"); // S-PAR-12
}

#[test]
fn s_par_13_to_16_body_and_smtputf8() {
    for (value, reply) in [
        ("BODY=8bitmime", "250 2.1.0"),
        ("BODY=7BIT", "250 2.1.0"),
        ("BODY=BINARYMIME", "250 2.1.0"),
        ("BODY=9BIT", "501 5.5.4"),
        ("BODY", "501 5.5.4"),
    ] {
        assert_eq!(mail(&format!("<a@b> {value}")), reply, "{value}"); // S-PAR-13
    }
    let off = ServerSettings { binarymime: false, ..settings() };
    assert_eq!(mail_in(off, "<a@b> BODY=BINARYMIME"), "555 5.5.4"); // S-PAR-13
    let all: Vec<u8> = (0..=255).filter(|b| !matches!(b, b'\r' | b'\n')).collect();
    let mut conn = connection(settings());
    conn.receive(format!("EHLO x\r\n{ENVELOPE}DATA\r\n").as_bytes());
    conn.receive(&[&all[..], b"\r\n.\r\n"].concat());
    assert!(matches!(conn.poll_event(), Some(ehlo::session::ServerEvent::Message { content, flags, .. })
        if content[..all.len()] == all && flags.eight_bit)); // S-PAR-14
    let strict = ServerSettings { reject_8bit: true, ..settings() };
    let body = "DATA\r\né\r\n.\r\n";
    assert_eq!(in_transaction(strict.clone(), body)[1], "554 5.6.1"); // S-PAR-14
    let declared = format!("MAIL FROM:<a@b> BODY=8BITMIME\r\nRCPT TO:<c@d>\r\n{body}");
    assert_eq!(after_ehlo(strict, declared)[3], "250 2.0.0");
    assert_eq!(mail("<a@b> SMTPUTF8=1"), "501 5.5.4"); // S-PAR-15
    let mut conn = connection(settings());
    conn.receive(b"EHLO x\r\nMAIL FROM:<a@b> SMTPUTF8\r\nRCPT TO:<c@d>\r\nDATA\r\n.\r\n");
    assert!(matches!(conn.poll_event(), Some(ehlo::session::ServerEvent::Message { envelope, .. })
        if envelope.smtputf8() && envelope.sender.parameters.body.is_none())); // S-PAR-16
    assert_eq!(conn.protocol(), "UTF8SMTP");
}

#[test]
fn s_par_17_to_24_dsn() {
    for (value, reply) in [
        ("RET=full", "250 2.1.0"), // S-PAR-17
        ("RET=BODY", "501 5.5.4"),
        ("RET", "501 5.5.4"),
        ("ENVID=QQ+2B1", "250 2.1.0"), // S-PAR-18
        ("ENVID=a+2", "501 5.5.4"),
        ("ENVID=a+00", "501 5.5.4"),
        ("ENVID=+3d", "501 5.5.4"), // B-PAR-19
    ] {
        assert_eq!(mail(&format!("<a@b> {value}")), reply, "{value}");
    }
    assert_eq!(mail(&format!("<a@b> ENVID={}", "x".repeat(100))), "250 2.1.0");
    assert_eq!(mail(&format!("<a@b> ENVID={}", "x".repeat(101))), "501 5.5.4");
    for (value, good) in [
        ("NOTIFY=success,delay", true), // S-PAR-20
        ("NOTIFY=NEVER", true),
        ("NOTIFY=FAILURE,failure", true),
        ("NOTIFY=NEVER,DELAY", false),
        ("NOTIFY=SUCCESS,", false),
        ("NOTIFY=FOO", false),
        ("NOTIFY=", false),
        ("ORCPT=rfc822;Bob+2Bx@y", true), // S-PAR-22
        ("ORCPT=bob@y", false),
        ("ORCPT=;x", false),
        ("ORCPT=utf-8;\\x{FC}@x", true), // S-PAR-23
        ("ORCPT=utf-8;\\x{D800}@x", false),
        ("ORCPT=utf-8;\\x{41}@x", false),
        ("ORCPT=utf-8;\\x{110000}@x", false),
    ] {
        assert_eq!(rcpt(&format!("<a@b> {value}")), if good { "250 2.1.5" } else { "501 5.5.4" }, "{value}");
    }
    let mut conn = connection(settings());
    conn.receive(b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n.\r\n");
    assert!(matches!(conn.poll_event(), Some(ehlo::session::ServerEvent::Message { envelope, .. })
        if envelope.recipients[0].parameters.notify.is_none())); // S-PAR-21
    let asked = ServerSettings { decisions: Decisions { rcpt: true, ..Decisions::default() }, ..settings() };
    for parameters in ["", " NOTIFY=NEVER ORCPT=rfc822;c@d"] {
        let input = format!("EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>{parameters}\r\n");
        let got = run_with(asked.clone(), input, false, |_| Some("550 5.1.1 no"));
        assert_eq!(got.replies()[2], "550 5.1.1"); // S-PAR-24
    }
}

#[test]
fn s_par_25_to_32_the_rarer_ones() {
    assert_eq!(mail("<a@b> AUTH=<>"), "555 5.5.4"); // S-PAR-25: AUTH is not offered
    let by = ServerSettings { deliver_by: Some(Some(30)), ..settings() };
    assert!(keywords(by.clone()).contains(&"DELIVERBY 30".to_owned()));
    for (value, reply) in [
        ("BY=120;R", "250 2.1.0"), // S-PAR-26
        ("BY=-5;N", "250 2.1.0"),
        ("BY=+60;NT", "250 2.1.0"),
        ("BY=0;R", "501 5.5.4"),
        ("BY=5;X", "501 5.5.4"),
        ("BY=1234567890;N", "501 5.5.4"),
        ("BY=5;R", "555 5.5.4"),
    ] {
        assert_eq!(mail_in(by.clone(), &format!("<a@b> {value}")), reply, "{value}");
    }
    let until =
        ehlo::syntax::datetime::DateTime::parse("2030-01-01T00:00:00Z", ehlo::syntax::datetime::Fraction::Refused)
            .unwrap();
    let hold = ServerSettings {
        future_release: Some(ehlo::session::FutureRelease { max_seconds: 86400, max_until: until }),
        deliver_by: Some(None),
        submission: true, // S-SUB-11: nowhere else
        auth: vec!["PLAIN".into()],
        auth_in_clear: vec!["PLAIN".into()],
        ..settings()
    };
    assert!(keywords(hold.clone()).contains(&"FUTURERELEASE 86400 2030-01-01T00:00:00Z".to_owned()));
    for (value, good) in [
        ("HOLDFOR=60", true), // S-PAR-28
        ("HOLDFOR=0", false),
        ("HOLDFOR=060", false),
        ("HOLDFOR=86401", false),
        ("HOLDUNTIL=2029-12-31T23:59:59Z", true),
        ("HOLDUNTIL=2030-01-01T00:00:01Z", false),
        ("HOLDFOR=60 HOLDUNTIL=2029-12-31T23:59:59Z", false),
        ("HOLDFOR=600 BY=60;R", false), // S-PAR-29
        ("HOLDFOR=60 BY=600;R", true),
    ] {
        let reply = &after_ehlo(hold.clone(), format!("AUTH PLAIN =\r\nMAIL FROM:<a@b.example> {value}\r\n"))[1];
        assert_eq!(reply, if good { "250 2.1.0" } else { "501 5.5.4" }, "{value}");
    }
    let priority = ServerSettings { mt_priority: Some(Some("MIXER".into())), rrvs: true, ..settings() };
    assert!(keywords(priority.clone()).contains(&"MT-PRIORITY MIXER".to_owned()));
    for (value, good) in
        [("-9", true), ("0", true), ("3", true), ("10", false), ("+1", false), ("-0", false), ("01", false)]
    {
        let reply = mail_in(priority.clone(), &format!("<a@b> MT-PRIORITY={value}")); // S-PAR-30
        assert_eq!(reply, if good { "250 2.1.0" } else { "501 5.5.2" }, "{value}");
    }
    assert_eq!(mail("<a@b> REQUIRETLS"), "555 5.5.4"); // S-PAR-31
    for (value, good) in
        [("2014-04-03T23:01:00Z;C", true), ("2014-04-03T23:01:00.5Z", false), ("2014-04-03T23:01:00Z;X", false)]
    {
        let input = format!("MAIL FROM:<a@b>\r\nRCPT TO:<c@d> RRVS={value}\r\n"); // S-PAR-32
        let reply = &after_ehlo(priority.clone(), input)[1];
        assert_eq!(reply, if good { "250 2.1.5" } else { "501 5.5.4" }, "{value}");
    }
}

#[test]
fn s_par_33_limits_say_what_is_enforced() {
    let config = ServerSettings { max_messages: Some(100), max_recipients: 1000, ..settings() };
    assert!(keywords(config).contains(&"LIMITS MAILMAX=100 RCPTMAX=1000".to_owned())); // enforced: S-SES-43, S-SES-45
}
