//! RULES group 5: ESMTP parameters, by what is read from them and written. What a server answers is in
//! `server_envelope.rs`.
use ehlo::syntax::command::{Command, CommandErrorKind, parse_command};
use ehlo::syntax::datetime::{DateTime, Fraction};
use ehlo::syntax::options::{Leniency, Options, Parameters, UnknownParameters};
use ehlo::syntax::parameter::{
    AuthParameter, Body, ByMode, DeliverBy, Hold, MailParameters, Notify, Orcpt, ParameterError, RcptParameters, Ret,
    Rrvs, RrvsAction,
};

fn mail_in<'a>(text: &'a str, options: &Options) -> Result<MailParameters<'a>, ParameterError> {
    let read = MailParameters::parse(text, options);
    // The same behind a path: there the common ones are read by another way.
    let line = format!("MAIL FROM:<a@b> {text}");
    match (parse_command(line.as_bytes(), options), &read) {
        (Ok(Command::Mail { parameters, .. }), Ok(read)) => assert_eq!(&parameters, read, "{line}"),
        (Err(error), Err(read)) => assert_eq!(error.kind, CommandErrorKind::from(*read), "{line}"),
        (got, _) => panic!("{line}: {got:?}, but alone {read:?}"),
    }
    read
}

fn rcpt_in<'a>(text: &'a str, options: &Options) -> Result<RcptParameters<'a>, ParameterError> {
    let read = RcptParameters::parse(text, options);
    let line = format!("RCPT TO:<a@b> {text}");
    match (parse_command(line.as_bytes(), options), &read) {
        (Ok(Command::Rcpt { parameters, .. }), Ok(read)) => assert_eq!(&parameters, read, "{line}"),
        (Err(error), Err(read)) => assert_eq!(error.kind, CommandErrorKind::from(*read), "{line}"),
        (got, _) => panic!("{line}: {got:?}, but alone {read:?}"),
    }
    read
}

fn mail(text: &str) -> Result<MailParameters<'_>, ParameterError> {
    mail_in(text, &Options::default())
}

fn rcpt(text: &str) -> Result<RcptParameters<'_>, ParameterError> {
    rcpt_in(text, &Options::default())
}

/// As a command has them: each with a space before it.
fn written_mail(parameters: &MailParameters<'_>) -> String {
    let mut out = Vec::new();
    parameters.write(&mut out);
    String::from_utf8(out).unwrap()
}

fn written_rcpt(parameters: &RcptParameters<'_>) -> String {
    let mut out = Vec::new();
    parameters.write(&mut out);
    String::from_utf8(out).unwrap()
}

fn refuses_mail(texts: &[&str], error: ParameterError) {
    for text in texts {
        assert_eq!(mail(text), Err(error), "{text}");
        assert!(!error.text().is_empty());
    }
}

fn refuses_rcpt(texts: &[&str], error: ParameterError) {
    for text in texts {
        assert_eq!(rcpt(text), Err(error), "{text}");
    }
}

fn moment(text: &str) -> DateTime {
    DateTime::parse(text, Fraction::Refused).unwrap()
}

// B-PAR-01, RFC 5321 4.1.2
#[test]
fn b_par_01_keyword_and_value() {
    refuses_mail(
        &["-X=1", "SIZE=", "X=a=b", "=1", "=", "X_Y", "X.Y=1", "X=", "X==", "(x)", "X=a b="],
        ParameterError::Syntax,
    );
    refuses_rcpt(&["-X=1", "NOTIFY=", "X=a=b", "=1"], ParameterError::Syntax);
    for octet in b'!'..=b'~' {
        let octet = char::from(octet);
        let (keyword, value) = (format!("X{octet}"), format!("X=a{octet}b"));
        assert_eq!(mail(&keyword).is_ok(), octet.is_ascii_alphanumeric() || octet == '-', "{keyword}");
        assert_eq!(mail(&value).is_ok(), octet != '=', "{value}");
        assert_eq!(mail(&octet.to_string()).is_ok(), octet.is_ascii_alphanumeric(), "{octet}");
    }
    assert_eq!(mail("1-A=<>").unwrap().iter().collect::<Vec<_>>(), [("1-A", Some("<>"))]);
    // RFC 6531 3.3: UTF-8 in a value, where SMTPUTF8 is offered and asked for.
    assert_eq!(mail("X=ü SMTPUTF8").unwrap().iter().next(), Some(("X", Some("ü"))));
    assert_eq!(mail("SMTPUTF8 X=aüb").unwrap().iter().last(), Some(("X", Some("aüb"))));
    refuses_mail(&["X=ü", "X=aü SIZE=1"], ParameterError::NonAscii);
    refuses_mail(&["ü=1 SMTPUTF8", "Xü SMTPUTF8", "X=ü=b SMTPUTF8"], ParameterError::Syntax);
    let off = Options { smtputf8: false, ..Options::default() };
    assert_eq!(mail_in("X=ü", &off), Err(ParameterError::NonAscii));
    assert_eq!(rcpt_in("X=ü", &off), Err(ParameterError::NonAscii));
    assert_eq!(rcpt("X=ü").unwrap().iter().next(), Some(("X", Some("ü"))));
}

// S-PAR-02, S-PAR-03, RFC 5321 4.1.1.11
#[test]
fn s_par_02_and_03_unknown_parameters() {
    let reject = Options { unknown_parameters: UnknownParameters::Reject, ..Options::default() };
    for text in ["FOO=1", "SIZE=1 FOO", "SIZES=1", "NOTIFY=NEVER", "ORCPT=rfc822;x", "RRVS=x", "SIZE=1 X-Y=Z SIZE=x"] {
        assert_eq!(mail_in(text, &reject), Err(ParameterError::Unknown), "{text}");
    }
    for text in ["FOO=1", "SIZE=1", "BODY=7BIT", "RET=FULL", "SMTPUTF8", "HOLDFOR=x"] {
        assert_eq!(rcpt_in(text, &reject), Err(ParameterError::Unknown), "{text}");
    }
    // Not offered is not known: its value is not looked at.
    for (parameter, needed) in [
        ("SIZE=x", Parameters::SIZE),
        ("BODY=x", Parameters::BODY),
        ("SMTPUTF8=x", Parameters::SMTPUTF8),
        ("RET=x", Parameters::RET),
        ("ENVID=+", Parameters::ENVID),
        ("AUTH=x", Parameters::AUTH),
        ("BY=x", Parameters::BY),
        ("HOLDFOR=x", Parameters::HOLD),
        ("HOLDUNTIL=x", Parameters::HOLD),
        ("MT-PRIORITY=x", Parameters::MT_PRIORITY),
        ("REQUIRETLS=x", Parameters::REQUIRETLS),
    ] {
        let off = Options { parameters: Parameters::ALL.without(needed), ..reject.clone() };
        assert_eq!(mail_in(parameter, &off), Err(ParameterError::Unknown), "{parameter}");
        let only = Options { parameters: needed, ..reject.clone() };
        let keyword = parameter.split('=').next().unwrap();
        match mail_in(parameter, &only).unwrap_err() {
            ParameterError::Value(named) => assert_eq!(named, keyword),
            other => assert_eq!((other, keyword), (ParameterError::Priority, "MT-PRIORITY")),
        }
    }
    for (parameter, needed) in
        [("NOTIFY=x", Parameters::NOTIFY), ("ORCPT=x", Parameters::ORCPT), ("RRVS=x", Parameters::RRVS)]
    {
        let off = Options { parameters: Parameters::ALL.without(needed), ..reject.clone() };
        assert_eq!(rcpt_in(parameter, &off), Err(ParameterError::Unknown));
        let only = Options { parameters: needed, ..reject.clone() };
        let keyword = parameter.split('=').next().unwrap();
        assert!(matches!(rcpt_in(parameter, &only), Err(ParameterError::Value(named)) if named == keyword));
    }
    let ignore = Options { unknown_parameters: UnknownParameters::Ignore, ..Options::default() };
    let read = mail_in("FOO=Bar SIZE=1 x", &ignore).unwrap();
    assert_eq!((read.size, &*read.raw), (Some(1), "FOO=Bar SIZE=1 x"));
}

// B-PAR-04, RFC 5321 2.4
#[test]
fn b_par_04_raw_parameters_keep_order_and_case() {
    let read = mail("FOO=Bar x-Y Size=7 foo2=<a@B>").unwrap();
    let listed = [("FOO", Some("Bar")), ("x-Y", None), ("Size", Some("7")), ("foo2", Some("<a@B>"))];
    assert_eq!(read.iter().collect::<Vec<_>>(), listed);
    assert_eq!((read.size, &*read.raw), (Some(7), "FOO=Bar x-Y Size=7 foo2=<a@B>"));
    assert_eq!(written_mail(&read), " SIZE=7 FOO=Bar x-Y foo2=<a@B>");
    assert_eq!(read.clone().into_owned(), read);
    let read = rcpt("x-Y notify=never").unwrap();
    assert_eq!(written_rcpt(&read), " NOTIFY=NEVER x-Y");
    assert_eq!(read.clone().into_owned(), read);
    assert_eq!((mail("").unwrap(), rcpt("").unwrap()), (MailParameters::default(), RcptParameters::default()));
}

// S-PAR-05, RFC 1870 6
#[test]
fn s_par_05_none_comes_twice() {
    for (one, other, keyword) in [
        ("SIZE=1", "size=1", "SIZE"),
        ("BODY=7BIT", "BODY=8BITMIME", "BODY"),
        ("SMTPUTF8", "smtputf8", "SMTPUTF8"),
        ("RET=FULL", "RET=HDRS", "RET"),
        ("ENVID=a", "ENVID=b", "ENVID"),
        ("AUTH=<>", "AUTH=<>", "AUTH"),
        ("BY=1;N", "BY=1;N", "BY"),
        ("HOLDFOR=1", "HOLDFOR=2", "HOLDFOR"),
        ("HOLDFOR=1", "HOLDUNTIL=2030-01-01T00:00:00Z", "HOLDUNTIL"), // S-PAR-28
        ("HOLDUNTIL=2030-01-01T00:00:00Z", "HOLDFOR=1", "HOLDFOR"),
        ("MT-PRIORITY=1", "MT-PRIORITY=1", "MT-PRIORITY"),
        ("REQUIRETLS", "REQUIRETLS", "REQUIRETLS"),
    ] {
        for text in [format!("{one} {other}"), format!("{one} X=1 {other}")] {
            assert_eq!(mail(&text), Err(ParameterError::Repeated(keyword)), "{text}");
        }
    }
    for (one, other, keyword) in [
        ("NOTIFY=NEVER", "NOTIFY=DELAY", "NOTIFY"),
        ("ORCPT=rfc822;a", "orcpt=rfc822;a", "ORCPT"),
        ("RRVS=2014-04-03T23:01:00Z", "RRVS=2014-04-03T23:01:00Z", "RRVS"),
    ] {
        assert_eq!(rcpt(&format!("{one} {other}")), Err(ParameterError::Repeated(keyword)));
    }
    // Unknown ones: only where they are not passed on.
    assert_eq!(mail("X=1 x=2").unwrap().iter().count(), 2);
    let ignore = Options { unknown_parameters: UnknownParameters::Ignore, ..Options::default() };
    assert_eq!(mail_in("X=1 Y x=2", &ignore), Err(ParameterError::Repeated("")));
    assert_eq!(mail_in("X=1 XY x-y", &ignore).unwrap().iter().count(), 3);
}

// RFC 5321 4.1.2: one SP before each, and not too many of them
#[test]
fn separators_and_number() {
    refuses_mail(&["SIZE=1  X", "SIZE=1\tX", "X\tY"], ParameterError::Syntax);
    let lax = Options { leniency: Leniency { extra_space: true, ..Leniency::default() }, ..Options::default() };
    let read = mail_in("SIZE=1 \t X=y\tBODY=7BIT", &lax).unwrap(); // S-LIN-23
    assert_eq!((read.size, read.body, read.iter().count()), (Some(1), Some(Body::SevenBit), 3));
    assert_eq!(written_mail(&read), " SIZE=1 BODY=7BIT X=y");
    let many = |count: usize| (0..count).map(|number| format!("X{number}")).collect::<Vec<_>>().join(" ");
    assert_eq!(mail(&many(32)).unwrap().iter().count(), 32);
    assert_eq!(mail(&many(33)), Err(ParameterError::TooMany));
    assert_eq!(rcpt(&many(33)), Err(ParameterError::TooMany));
}

// S-PAR-07, S-PAR-08, RFC 1870 3
#[test]
fn s_par_07_and_08_size() {
    for (text, size) in [
        ("SIZE=0", 0),
        ("SIZE=00000000000000000007", 7),
        ("SIZE=9999999999999999999", 9_999_999_999_999_999_999),
        ("SIZE=18446744073709551615", u64::MAX),
        ("SIZE=18446744073709551616", u64::MAX),
        ("SIZE=99999999999999999999", u64::MAX),
    ] {
        assert_eq!(mail(text).unwrap().size, Some(size), "{text}");
    }
    assert_eq!(mail("").unwrap().size, None);
    refuses_mail(
        &["SIZE", "SIZE=-1", "SIZE=+1", "SIZE=1k", "SIZE=000000000000000000001", "SIZE=1111111111111111111x", "SIZE=:"],
        ParameterError::Value("SIZE"),
    );
}

// S-PAR-13, S-PAR-15, RFC 6152 2, RFC 3030 3, RFC 6531 3.1
#[test]
fn s_par_13_and_15_body_and_smtputf8() {
    for (text, body) in
        [("BODY=7bit", Body::SevenBit), ("BODY=8BitMime", Body::EightBitMime), ("BODY=BINARYMIME", Body::BinaryMime)]
    {
        assert_eq!(mail(text).unwrap().body, Some(body));
        assert_eq!(written_mail(&mail(text).unwrap()), format!(" BODY={}", body.as_str()));
    }
    refuses_mail(&["BODY", "BODY=9BIT", "BODY=7BITS", "BODY=8BIT", "BODY=\"7BIT\""], ParameterError::Value("BODY"));
    let off = Options { parameters: Parameters::ALL.without(Parameters::BINARYMIME), ..Options::default() };
    assert_eq!(mail_in("BODY=BINARYMIME", &off), Err(ParameterError::Unknown));
    assert_eq!(mail_in("BODY=8BITMIME", &off).unwrap().body, Some(Body::EightBitMime));
    assert!(mail("smtpUTF8").unwrap().smtputf8);
    // Octets that bit 5 makes digits of are none.
    for line in
        [&b"MAIL FROM:<a@b> BODY=\x18BITMIME"[..], b"MAIL FROM:<a@b> BODY=\x17BIT", b"MAIL FROM:<a@b> SIZE=\x11"]
    {
        assert_eq!(parse_command(line, &Options::default()).unwrap_err().kind, CommandErrorKind::ForbiddenOctet);
    }
    let read = mail("body=8bitmime size=5").unwrap();
    assert_eq!((read.size, read.body, &*read.raw), (Some(5), Some(Body::EightBitMime), "body=8bitmime size=5"));
    refuses_mail(&["SIZE=1 BODY=8BITMIME="], ParameterError::Syntax);
    refuses_mail(&["SIZE=1 BODY=8BITMIMEX", "BODY=7BIT8 SIZE=1"], ParameterError::Value("BODY"));
    refuses_mail(&["SMTPUTF8=1", "SMTPUTF8=SMTPUTF8"], ParameterError::Value("SMTPUTF8"));
}

// S-PAR-17, S-PAR-18, RFC 3461 4.3, 4.4
#[test]
fn s_par_17_and_18_ret_and_envid() {
    assert_eq!((mail("RET=full").unwrap().ret, mail("RET=HDRS").unwrap().ret), (Some(Ret::Full), Some(Ret::Headers)));
    refuses_mail(&["RET", "RET=BODY", "RET=FULLY"], ParameterError::Value("RET"));
    for (text, envid, written) in [
        ("ENVID=QQ+2B1", "QQ+1", " ENVID=QQ+2B1"),
        ("ENVID=a+20b", "a b", " ENVID=a+20b"),
        ("ENVID=+41+3D", "A=", " ENVID=A+3D"),
    ] {
        let read = mail(text).unwrap();
        assert_eq!((read.envid.as_deref(), &*written_mail(&read)), (Some(envid), written));
    }
    let long = format!("ENVID={}", "x".repeat(100));
    assert_eq!(mail(&long).unwrap().envid.unwrap().len(), 100);
    let escaped = format!("ENVID={}x", "+41".repeat(33));
    assert_eq!(mail(&escaped).unwrap().envid.unwrap().len(), 34, "100 octets are those of the encoded form");
    refuses_mail(
        &[
            &format!("{long}x"),
            &format!("{escaped}x"),
            "ENVID",
            "ENVID=a+2",
            "ENVID=a+00",
            "ENVID=+0A",
            "ENVID=+7F",
            "ENVID=+C3+BC",
            "ENVID=+",
        ],
        ParameterError::Value("ENVID"),
    );
    refuses_mail(&["SMTPUTF8 ENVID=ü"], ParameterError::Value("ENVID"));
}

// B-PAR-19, RFC 3461 4; xtext itself is tested in xtext.rs
#[test]
fn b_par_19_lower_case_hex_by_option_only() {
    refuses_mail(&["ENVID=a+3d"], ParameterError::Value("ENVID"));
    refuses_rcpt(&["ORCPT=rfc822;a+3d"], ParameterError::Value("ORCPT"));
    let lax = Options { leniency: Leniency { lowercase_xtext: true, ..Leniency::default() }, ..Options::default() };
    let read = mail_in("ENVID=a+3d", &lax).unwrap();
    assert_eq!((read.envid.as_deref(), &*written_mail(&read)), (Some("a="), " ENVID=a+3D"));
    assert_eq!(rcpt_in("ORCPT=rfc822;a+3d", &lax).unwrap().orcpt.unwrap().address, "a=");
    assert_eq!(mail_in("AUTH=a+3db@c", &lax).unwrap().auth, Some(AuthParameter::Mailbox("a=b@c".into())));
}

// S-PAR-20, S-PAR-21, RFC 3461 4.1
#[test]
fn s_par_20_and_21_notify() {
    let notify = |never, success, failure, delay| Notify { never, success, failure, delay };
    for (text, expected, written) in [
        ("NOTIFY=NEVER", notify(true, false, false, false), "NEVER"),
        ("NOTIFY=success,delay", notify(false, true, false, true), "SUCCESS,DELAY"),
        ("NOTIFY=DELAY,FAILURE,SUCCESS", notify(false, true, true, true), "SUCCESS,FAILURE,DELAY"),
        ("NOTIFY=FAILURE,failure", notify(false, false, true, false), "FAILURE"),
    ] {
        let read = rcpt(text).unwrap();
        assert_eq!(read.notify, Some(expected), "{text}");
        assert_eq!(written_rcpt(&read), format!(" NOTIFY={written}"));
    }
    refuses_rcpt(
        &[
            "NOTIFY",
            "NOTIFY=NEVER,DELAY",
            "NOTIFY=DELAY,NEVER",
            "NOTIFY=SUCCESS,",
            "NOTIFY=,",
            "NOTIFY=,DELAY",
            "NOTIFY=FOO",
            "NOTIFY=DELAYS",
        ],
        ParameterError::Value("NOTIFY"),
    );
    assert_eq!(rcpt("ORCPT=rfc822;x").unwrap().notify, None); // S-PAR-21
    // One that wants nothing is NEVER, and NEVER stands alone: there is no other way to write either.
    assert_eq!(Notify::default().to_string(), "NEVER");
    assert_eq!(notify(true, true, false, true).to_string(), "NEVER");
}

// S-PAR-22, RFC 3461 4.2
#[test]
fn s_par_22_orcpt() {
    for (text, addr_type, address) in [
        ("ORCPT=rfc822;Bob+2Bx@y", "rfc822", "Bob+x@y"),
        ("orcpt=RFC822;a", "RFC822", "a"),
        ("ORCPT=x400;/C+3DUS/", "x400", "/C=US/"),
        ("ORCPT=unknown;not+20an;address", "unknown", "not an;address"),
    ] {
        let read = rcpt(text).unwrap();
        let orcpt = read.orcpt.clone().unwrap();
        assert_eq!((&*orcpt.addr_type, &*orcpt.address), (addr_type, address));
        assert_eq!(orcpt.raw, text[6..], "as it came, for passing on");
        assert_eq!(written_rcpt(&read), format!(" ORCPT={}", &text[6..]));
        // One that the program made is encoded.
        let made = RcptParameters { orcpt: Some(Orcpt { raw: "".into(), ..orcpt }), ..RcptParameters::default() };
        assert_eq!(written_rcpt(&made), format!(" ORCPT={}", &text[6..]));
    }
    let value = |length: usize| format!("ORCPT=rfc822;{}", "x".repeat(length - 7));
    assert_eq!(rcpt(&value(500)).unwrap().orcpt.unwrap().raw.len(), 500);
    refuses_rcpt(
        &[
            &value(501),
            "ORCPT",
            "ORCPT=bob@y",
            "ORCPT=;x",
            "ORCPT=rfc822;",
            "ORCPT=a.b;x",
            "ORCPT=rfc822;+0D",
            "ORCPT=rfc822;+00",
            "ORCPT=rfc822;ü",
            "ORCPT=ü;x",
        ],
        ParameterError::Value("ORCPT"),
    );
}

// S-PAR-23, RFC 6533 3
#[test]
fn s_par_23_orcpt_of_type_utf_8() {
    for (text, address, written) in [
        (r"ORCPT=utf-8;\x{FC}@x", "ü@x", r" ORCPT=utf-8;\x{FC}@x"),
        ("ORCPT=UTF-8;ü@x", "ü@x", " ORCPT=UTF-8;ü@x"),
        (r"ORCPT=utf-8;a\x{2B}b\x{5C}@x", r"a+b\@x", r" ORCPT=utf-8;a\x{2B}b\x{5C}@x"),
    ] {
        let read = rcpt(text).unwrap();
        assert_eq!((&*read.orcpt.as_ref().unwrap().address, &*written_rcpt(&read)), (address, written));
        let orcpt = Orcpt { addr_type: "utf-8".into(), address: address.into(), raw: "".into() };
        let made = written_rcpt(&RcptParameters { orcpt: Some(orcpt), ..RcptParameters::default() });
        assert!(made.is_ascii());
        assert_eq!(rcpt(&made[1..]).unwrap().orcpt.unwrap().address, address);
    }
    refuses_rcpt(
        &[
            r"ORCPT=utf-8;\x{D800}@x",
            r"ORCPT=utf-8;\x{41}@x",
            r"ORCPT=utf-8;\x{110000}@x",
            "ORCPT=utf-8;a+2Bb@x",
            r"ORCPT=utf-8;\x{0D}",
        ],
        ParameterError::Value("ORCPT"),
    );
}

// S-PAR-25, RFC 4954 5
#[test]
fn s_par_25_auth() {
    for (text, mailbox, written) in [
        ("AUTH=e+3Dmc2@x.y", "e=mc2@x.y", " AUTH=e+3Dmc2@x.y"),
        ("AUTH=Bob@x.y", "Bob@x.y", " AUTH=Bob@x.y"),
        ("AUTH=\"a+20b\"@c", "\"a b\"@c", " AUTH=\"a+20b\"@c"),
        ("AUTH=ü@x SMTPUTF8", "ü@x", " SMTPUTF8 AUTH=+C3+BC@x"),
    ] {
        let read = mail(text).unwrap();
        assert_eq!(read.auth, Some(AuthParameter::Mailbox(mailbox.into())), "{text}");
        assert_eq!(written_mail(&read), written);
        assert_eq!(mail(&written[1..]).unwrap().auth, read.auth);
    }
    let read = mail("AUTH=<>").unwrap();
    assert_eq!((&read.auth, &*written_mail(&read)), (&Some(AuthParameter::Null), " AUTH=<>"));
    refuses_mail(
        &[
            "AUTH",
            "AUTH=a+@b",
            "AUTH=a",
            "AUTH=<a@b>",
            "AUTH=+3Ca@b+3E",
            "AUTH=@r:a@b",
            "AUTH=a@b..c",
            "AUTH=a+0D@b",
            "AUTH=a+FF@b",
            "AUTH=+3C+3E",
            "AUTH=<",
        ],
        ParameterError::Value("AUTH"),
    );
}

// S-PAR-26, RFC 2852 4
#[test]
fn s_par_26_by() {
    use ByMode::{Notify, Return};
    let by = |seconds, mode, trace| DeliverBy { seconds, mode, trace };
    for (text, expected, written) in [
        ("BY=120;R", by(120, Return, false), " BY=120;R"),
        ("BY=-5;N", by(-5, Notify, false), " BY=-5;N"),
        ("BY=+60;NT", by(60, Notify, true), " BY=60;NT"),
        ("BY=000000001;rt", by(1, Return, true), " BY=1;RT"),
        ("BY=999999999;n", by(999_999_999, Notify, false), " BY=999999999;N"),
        ("BY=-999999999;NT", by(-999_999_999, Notify, true), " BY=-999999999;NT"),
        ("BY=0;N", by(0, Notify, false), " BY=0;N"),
    ] {
        let read = mail(text).unwrap();
        assert_eq!((read.by, &*written_mail(&read)), (Some(expected), written));
    }
    refuses_mail(
        &[
            "BY",
            "BY=0;R",
            "BY=-5;R",
            "BY=5;X",
            "BY=1234567890;N",
            "BY=5",
            "BY=;N",
            "BY=5;",
            "BY=5;NTT",
            "BY=5;T",
            "BY=--5;N",
            "BY=+-5;N",
            "BY=+;N",
        ],
        ParameterError::Value("BY"),
    );
}

// S-PAR-28, S-PAR-29, RFC 4865 4, 5.2.2
#[test]
fn s_par_28_and_29_hold() {
    for (text, hold, written) in [
        ("HOLDFOR=1", Hold::For(1), " HOLDFOR=1"),
        ("HOLDFOR=999999999", Hold::For(999_999_999), " HOLDFOR=999999999"),
        (
            "HOLDUNTIL=2030-01-01T00:00:00Z",
            Hold::Until(moment("2030-01-01T00:00:00Z")),
            " HOLDUNTIL=2030-01-01T00:00:00Z",
        ),
        (
            "HOLDUNTIL=2030-01-01t00:00:00.25z",
            Hold::Until(moment("2030-01-01T00:00:00Z")),
            " HOLDUNTIL=2030-01-01T00:00:00Z",
        ),
        (
            "HOLDUNTIL=2030-01-01T00:00:00-00:00",
            Hold::Until(moment("2030-01-01T00:00:00-00:00")),
            " HOLDUNTIL=2030-01-01T00:00:00-00:00",
        ),
    ] {
        let read = mail(text).unwrap();
        assert_eq!((read.hold, &*written_mail(&read)), (Some(hold), written));
    }
    refuses_mail(
        &["HOLDFOR", "HOLDFOR=0", "HOLDFOR=060", "HOLDFOR=1000000000", "HOLDFOR=-1", "HOLDFOR=1s"],
        ParameterError::Value("HOLDFOR"),
    );
    refuses_mail(
        &["HOLDUNTIL", "HOLDUNTIL=60", "HOLDUNTIL=2030-01-01T00:00:00+01:00", "HOLDUNTIL=2030-02-30T00:00:00Z"],
        ParameterError::Value("HOLDUNTIL"),
    );
    refuses_mail(
        &["HOLDFOR=600 BY=60;R", "BY=60;R HOLDFOR=600", "HOLDFOR=1 BY=-5;N"],
        ParameterError::HoldPastDeliverBy,
    );
    assert_eq!(mail("HOLDFOR=60 BY=60;R").unwrap().hold, Some(Hold::For(60)));
}

// S-PAR-30, S-PAR-31, RFC 6710 4.1, RFC 8689 2
#[test]
fn s_par_30_and_31_priority_and_requiretls() {
    for priority in -9..=9 {
        let text = format!("MT-PRIORITY={priority}");
        let read = mail(&text).unwrap();
        assert_eq!((read.mt_priority, written_mail(&read)), (Some(priority), format!(" {text}")));
    }
    refuses_mail(
        &[
            "MT-PRIORITY",
            "MT-PRIORITY=10",
            "MT-PRIORITY=-10",
            "MT-PRIORITY=+1",
            "MT-PRIORITY=-0",
            "MT-PRIORITY=01",
            "MT-PRIORITY=-",
            "MT-PRIORITY=x",
        ],
        ParameterError::Priority,
    );
    let read = mail("requiretls").unwrap();
    assert_eq!((read.requiretls, &*written_mail(&read)), (true, " REQUIRETLS"));
    refuses_mail(&["REQUIRETLS=1"], ParameterError::Value("REQUIRETLS"));
}

// S-PAR-32, RFC 7293 3.1
#[test]
fn s_par_32_rrvs() {
    let since = moment("2014-04-03T23:01:00Z");
    for (text, action, written) in [
        ("RRVS=2014-04-03T23:01:00Z", None, " RRVS=2014-04-03T23:01:00Z"),
        ("RRVS=2014-04-03T23:01:00Z;C", Some(RrvsAction::Continue), " RRVS=2014-04-03T23:01:00Z;C"),
        ("RRVS=2014-04-03t23:01:00z;r", Some(RrvsAction::Reject), " RRVS=2014-04-03T23:01:00Z;R"),
    ] {
        let read = rcpt(text).unwrap();
        assert_eq!((read.rrvs, &*written_rcpt(&read)), (Some(Rrvs { since, action }), written));
    }
    let zoned = rcpt("RRVS=2014-04-04T01:01:00+02:00").unwrap().rrvs.unwrap().since;
    assert_eq!((zoned.unix_seconds(), zoned.offset_minutes()), (since.unix_seconds(), 120));
    refuses_rcpt(
        &[
            "RRVS",
            "RRVS=2014-04-03T23:01:00.5Z",
            "RRVS=2014-04-03T23:01:00Z;X",
            "RRVS=2014-04-03T23:01:00Z;",
            "RRVS=;C",
            "RRVS=2014-04-03T23:01:00Z;C;R",
        ],
        ParameterError::Value("RRVS"),
    );
}

// B-OTH-06, RFC 3885 3.1: what is not done stays raw, MTRK with the padding of its base64
#[test]
fn b_oth_06_what_is_not_done_stays_raw() {
    let read = mail("mtrk=YQ==:60 SIZE=5 MTRK=YWI= CONPERM").unwrap();
    let listed = [("mtrk", Some("YQ==:60")), ("SIZE", Some("5")), ("MTRK", Some("YWI=")), ("CONPERM", None)];
    assert_eq!((read.iter().collect::<Vec<_>>(), read.size), (listed.to_vec(), Some(5)));
    let written = written_mail(&read);
    assert_eq!(written, " SIZE=5 mtrk=YQ==:60 MTRK=YWI= CONPERM");
    assert_eq!(mail(&written[1..]).unwrap().iter().count(), 4);
    refuses_mail(&["MTRK=YQ===", "MTRK=Y=Q=", "MTRK==", "XMTRK=YQ==", "X=YQ=="], ParameterError::Syntax);
    let reject = Options { unknown_parameters: UnknownParameters::Reject, ..Options::default() };
    assert_eq!(mail_in("MTRK=YQ==:60", &reject), Err(ParameterError::Unknown));
}
