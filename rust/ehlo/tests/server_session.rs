//! RULES groups 0, 2 and 3: replies, order, limits and timers.
mod common;
use common::*;
use ehlo::session::{Decisions, ServerMisuse, ServerSettings};
use ehlo::syntax::reply::Reply;
use ehlo::syntax::status::EnhancedCode;

fn deciding(decisions: Decisions) -> ServerSettings {
    ServerSettings { decisions, ..settings() }
}

#[test]
fn s_rpl_12_one_reply_a_command_in_order() {
    let got = replies("NOOP\r\nFOO\r\nMAIL FROM:<a@b>\r\nDATA\r\nRCPT TO:<c@d>\r\nRSET\r\nQUIT\r\n");
    assert_eq!(got, ["250 2.0.0", "500 5.5.2", "250 2.1.0", "503 5.5.1", "250 2.1.5", "250 2.0.0", "221 2.0.0"]);
}

#[test]
fn s_rpl_13_nothing_of_the_peer_breaks_a_reply() {
    for input in [&b"RCPT TO:<a\r250 b@c>\r\n"[..], b"FOO\xff\x00\r\n", b"EHLO a\n250 b\r\n", b"VRFY a\x0b\r\n"] {
        let output = run(input).output;
        assert!(output.bytes().all(|b| matches!(b, b'\r' | b'\n' | b'\t' | 0x20..=0x7e)), "{output:?}");
        assert!(output.split_terminator("\r\n").all(|line| !line.contains(['\r', '\n'])));
    }
}

#[test]
fn s_rpl_15_and_16_multi_line_replies_are_whole_and_text_is_never_empty() {
    let mut conn = connection(settings());
    conn.clear_output();
    conn.receive(b"EHLO x\r\n");
    let said = String::from_utf8_lossy(conn.output()).into_owned();
    let lines: Vec<&str> = said.split_terminator("\r\n").collect(); // S-RPL-15
    assert!(lines[..lines.len() - 1].iter().all(|line| line.starts_with("250-")));
    assert!(lines.last().unwrap().starts_with("250 "));
    let outcome = run_with(settings(), format!("EHLO x\r\n{ENVELOPE}DATA\r\n.\r\n"), false, |_| Some("250"));
    assert!(outcome.output.ends_with("250 2.0.0 OK\r\n"), "{}", outcome.output); // S-RPL-16
}

#[test]
fn s_rpl_17_and_18_our_name_comes_first() {
    let outcome = run("HELO c.example\r\n");
    assert_eq!(outcome.output, "220 mx.example ESMTP\r\n250 mx.example\r\n"); // S-RPL-18
    assert!(run("EHLO c.example\r\n").output.contains("\r\n250-mx.example\r\n")); // S-RPL-17
}

#[test]
fn s_rpl_19_to_21_where_enhanced_codes_stand() {
    let program: Program = |event| match event {
        e if e.starts_with("mail") => Some("250 fine"),
        e if e.starts_with("rcpt") => Some("550 no"),
        e if e.starts_with("Connect") => None,
        _ => Some("250 2.0.0 ok"),
    };
    let input = "HELO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<c@d>\r\n";
    let got = run_with(deciding(all_decisions()), input, false, program).replies();
    assert_eq!(got, ["250", "250 2.0.0", "550 5.0.0", "550 5.0.0"]); // S-RPL-19, S-RPL-21
    let got = replies(format!("{ENVELOPE}DATA\r\n.\r\n"));
    assert_eq!(got, ["250 2.1.0", "250 2.1.5", "354", "250 2.0.0"]); // S-RPL-20
}

#[test]
fn s_rpl_25_and_26_only_registered_codes_and_no_251() {
    let source = include_str!("../src/session/server/replies.rs");
    let mut seen = 0;
    let rows = source.lines().skip_while(|line| *line != "canned! {").skip(1).take_while(|line| *line != "}");
    for row in rows {
        let text = row.split('"').nth(3).unwrap();
        assert!(!text.starts_with("251") && !text.starts_with("551")); // S-RPL-26
        if let Some((code, _)) = EnhancedCode::parse(&text.as_bytes()[4..]) {
            assert!(code.is_registered(), "{code}"); // S-RPL-25
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn s_rpl_27_and_28_replies_go_out_when_input_is_used_up() {
    let mut conn = connection(settings());
    conn.receive(b"EHLO x\r\n");
    conn.clear_output();
    conn.receive(ENVELOPE.as_bytes());
    assert_eq!(conn.output(), b"250 2.1.0 OK\r\n250 2.1.5 OK\r\n"); // S-RPL-27
    conn.clear_output();
    conn.receive(b"NOOP\r\nMAI");
    assert_eq!(conn.output(), b"250 2.0.0 OK\r\n"); // S-RPL-28
}

#[test]
fn s_ses_01_the_greeting_comes_first() {
    assert!(run("EHLO x\r\n").output.starts_with("220 mx.example "));
    let mut conn = connection(deciding(all_decisions()));
    conn.receive(b"EHLO x\r\n");
    assert!(conn.output().is_empty());
    assert!(conn.poll_event().is_some() && conn.poll_event().is_none());
    conn.accept().unwrap();
    assert!(conn.poll_event().is_some()); // Hello, after the greeting
    assert_eq!(conn.output(), b"220 mx.example ESMTP\r\n");
}

#[test]
fn s_ses_02_a_refusing_greeting_waits_for_quit() {
    let input = "MAIL FROM:<a@b>\r\nBDAT 6\r\nQUIT\r\nFOO\r\nQUIT\r\n";
    let outcome = run_with(deciding(all_decisions()), input, false, |_| Some("554 5.7.1 no service"));
    assert!(outcome.output.starts_with("554 no service\r\n"), "{}", outcome.output);
    assert_eq!(outcome.replies(), ["503 5.5.1", "503 5.5.1", "503 5.5.1", "221 2.0.0"]);
}

#[test]
fn s_ses_03_a_421_greeting_closes() {
    let outcome = run_with(deciding(all_decisions()), "EHLO x\r\n", false, |_| Some("421 4.3.2 busy"));
    assert!(outcome.closed && outcome.output == "421 busy\r\n", "{outcome:?}");
}

#[test]
fn s_ses_04_mail_needs_a_hello() {
    assert_eq!(run("MAIL FROM:<a@b>\r\n").replies(), ["503 5.5.1"]);
}

#[test]
fn s_ses_05_these_work_before_ehlo() {
    assert_eq!(
        run("RSET\r\nNOOP\r\nHELP\r\nVRFY x\r\nEXPN x\r\nQUIT\r\n").replies(),
        ["250 2.0.0", "250 2.0.0", "214 2.0.0", "252 2.0.0", "502 5.5.1", "221 2.0.0"]
    );
}

#[test]
fn s_ses_06_and_07_a_second_ehlo() {
    assert_eq!(replies("MAIL FROM:<a@b>\r\nEHLO y\r\nRCPT TO:<c@d>\r\n"), ["250 2.1.0", "250", "503 5.5.1"]);
    assert_eq!(replies("MAIL FROM:<a@b>\r\nEHLO\r\nRCPT TO:<c@d>\r\n"), ["250 2.1.0", "501 5.5.4", "250 2.1.5"]); // S-SES-07
    let refuse: Program = |e| e.contains("name: \"no\"").then_some("550 5.7.1 no");
    let config = deciding(Decisions { hello: true, reset: true, ..Decisions::default() });
    let input = "EHLO x\r\nMAIL FROM:<a@b>\r\nEHLO no\r\nRCPT TO:<c@d>\r\n";
    let outcome = run_with(config, input, false, refuse);
    assert_eq!(outcome.replies(), ["250", "250 2.1.0", "550", "250 2.1.5"]); // S-SES-07
    assert!(!outcome.has("Reset"));
}

#[test]
fn s_ses_08_to_10_the_hello_argument() {
    assert_eq!(run("EHLO\r\nHELO \r\n").replies(), ["501 5.5.4", "501 5.5.4"]); // S-SES-08
    for good in ["[192.0.2.1]", "my_host", "x.example", "[IPv6:2001:db8::1]"] {
        assert_eq!(run(format!("EHLO {good}\r\n")).replies(), ["250"], "{good}"); // S-SES-09
    }
    for bad in ["a..b", "[x]", "é", "[192.0.2.1] foo", "-a"] {
        assert_eq!(run(format!("EHLO {bad}\r\n")).replies()[0][..3], *"501", "{bad}"); // S-SES-09, S-SES-10
    }
}

#[test]
fn s_ses_11_no_name_is_looked_up() {
    assert_eq!(run("EHLO no.such.name.invalid\r\n").replies(), ["250"]);
}

#[test]
fn s_ses_12_and_13_what_is_listed_works_and_the_reverse() {
    let list = keywords(settings());
    for keyword in ["PIPELINING", "SIZE 33554432", "8BITMIME", "ENHANCEDSTATUSCODES", "DSN", "CHUNKING", "BINARYMIME"] {
        assert!(list.iter().any(|k| k == keyword), "{keyword} in {list:?}");
    }
    for absent in ["STARTTLS", "AUTH", "FUTURERELEASE", "BURL", "REQUIRETLS", "ETRN", "EXPN", "VRFY", "XCLIENT"] {
        assert!(!list.iter().any(|k| k.starts_with(absent)), "{absent}"); // S-SES-13
    }
    let parameters = [
        ("DSN", "RET=FULL", true),
        ("SMTPUTF8", "SMTPUTF8", true),
        ("8BITMIME", "BODY=8BITMIME", true),
        ("BINARYMIME", "BODY=BINARYMIME", true),
        ("SIZE", "SIZE=1", true),
        ("REQUIRETLS", "REQUIRETLS", false),
        ("MT-PRIORITY", "MT-PRIORITY=1", false),
        ("DELIVERBY", "BY=120;N", false),
        ("FUTURERELEASE", "HOLDFOR=60", false),
    ];
    for (keyword, parameter, offered) in parameters {
        assert_eq!(list.iter().any(|k| k.split(' ').next() == Some(keyword)), offered);
        let expected = if offered { "250 2.1.0" } else { "555 5.5.4" };
        assert_eq!(replies(format!("MAIL FROM:<a@b> {parameter}\r\n")), [expected], "{parameter}");
    }
    let bare = ServerSettings {
        dsn: Some(false),
        smtputf8: false,
        binarymime: false,
        chunking: false,
        limits_keyword: false,
        help: false,
        ..settings()
    };
    assert_eq!(keywords(bare.clone()), ["PIPELINING", "SIZE 33554432", "8BITMIME", "ENHANCEDSTATUSCODES"]);
    for parameter in ["RET=FULL", "SMTPUTF8", "BODY=BINARYMIME"] {
        assert_eq!(after_ehlo(bare.clone(), format!("MAIL FROM:<a@b> {parameter}\r\n")), ["555 5.5.4"]);
    }
    assert_eq!(after_ehlo(bare, "HELP\r\n"), ["502 5.5.1"]);
}

#[test]
fn s_ses_14_and_15_after_helo_no_extension() {
    let input = "HELO x\r\nMAIL FROM:<a@b> SIZE=1\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 4 LAST\r\nQUITQUIT\r\n";
    assert_eq!(run(input).replies(), ["250", "555 5.5.4", "250 2.1.0", "250 2.1.5", "503 5.5.1", "221 2.0.0"]);
}

// S-SES-15: BDAT is known and listed, but not after HELO. What is not enabled is 502 there as elsewhere.
#[test]
fn s_ses_15_after_helo_no_verb_of_an_extension() {
    let input = |hello: &str| format!("{hello} x\r\nBDAT 4\r\nQUITMAIL FROM:<a@b>\r\nBDAT 6 LAST\r\nNOOP\r\nRSET\r\n");
    let outcome = run(input("HELO"));
    assert_eq!(outcome.replies(), ["250", "503 5.5.1", "250 2.1.0", "503 5.5.1", "250 2.0.0"]);
    assert!(!outcome.closed && outcome.events.is_empty(), "the chunks are dropped and not run");
    let off = ServerSettings { chunking: false, binarymime: false, ..settings() };
    assert_eq!(run_in(off, input("HELO")).replies(), ["250", "502 5.5.1", "250 2.1.0", "502 5.5.1", "250 2.0.0"]);
    assert_eq!(run("HELO x\r\nSTARTTLS\r\nAUTH PLAIN\r\n").replies(), ["250", "502 5.5.1", "502 5.5.1"]);
    // EHLO lifts it, HELO puts it back.
    let again = format!("EHLO x\r\n{ENVELOPE}BDAT 1 LAST\r\naHELO x\r\n{ENVELOPE}BDAT 1 LAST\r\nb");
    let got = run(again).replies();
    assert_eq!((&*got[3], &*got[7]), ("250 2.0.0", "503 5.5.1"));
}

#[test]
fn s_ses_16_to_18_rcpt_and_mail_in_order() {
    assert_eq!(replies("RCPT TO:<c@d>\r\n"), ["503 5.5.1"]); // S-SES-16
    let input = "EHLO x\r\nMAIL FROM:<a@b>\r\nMAIL FROM:<x@y>\r\nRCPT TO:<c@d>\r\nDATA\r\n.\r\n";
    assert!(run(input).has("from=<a@b>") && run(input).replies()[2] == "503 5.5.1"); // S-SES-17
    assert_eq!(replies("MAIL FROM:<a@@b>\r\nMAIL FROM:<a@b>\r\n"), ["501 5.1.7", "250 2.1.0"]); // S-SES-18
}

#[test]
fn s_ses_19_and_20_data_needs_a_recipient() {
    assert_eq!(replies("DATA\r\n"), ["503 5.5.1"]);
    assert_eq!(replies("MAIL FROM:<a@b>\r\nDATA\r\n"), ["250 2.1.0", "503 5.5.1"]);
    let config = deciding(Decisions { rcpt: true, ..Decisions::default() });
    let input = format!("EHLO x\r\n{ENVELOPE}DATA\r\nNOOP\r\n");
    let got = run_with(config, input, false, |_| Some("550 5.1.1 no")).replies();
    assert_eq!(got[2..], ["550 5.1.1", "554 5.5.1", "250 2.0.0"]); // S-SES-20: never 354
}

#[test]
fn s_ses_21_the_end_of_data_ends_the_transaction() {
    let input = format!("EHLO x\r\n{ENVELOPE}DATA\r\n.\r\nRCPT TO:<c@d>\r\nMAIL FROM:<a@b>\r\n");
    let got = run_with(settings(), input, false, |_| Some("550 5.7.1 no")).replies();
    assert_eq!(got[4..], ["550 5.7.1", "503 5.5.1", "250 2.1.0"]);
}

#[test]
fn s_ses_22_and_23_rset_and_arguments() {
    assert_eq!(replies("MAIL FROM:<a@b>\r\nRSET\r\nMAIL FROM:<a@b>\r\n"), ["250 2.1.0", "250 2.0.0", "250 2.1.0"]);
    assert_eq!(
        in_transaction(settings(), "RSET x\r\nDATA x\r\nQUIT now\r\nRCPT TO:<e@f>\r\n"),
        ["501 5.5.4", "501 5.5.4", "501 5.5.4", "250 2.1.5"]
    ); // S-SES-23
}

#[test]
fn s_ses_24_to_28_the_side_commands() {
    assert_eq!(
        in_transaction(settings(), "NOOP a b <c>\r\nHELP\r\nHELP MAIL\r\nVRFY bob\r\nEXPN x\r\nRCPT TO:<e@f>\r\n"),
        ["250 2.0.0", "214 2.0.0", "214 2.0.0", "252 2.0.0", "502 5.5.1", "250 2.1.5"]
    ); // S-SES-24, S-SES-25, S-SES-27, S-SES-28
    assert_eq!(replies("VRFY bob@x.y\r\nVRFY \"a b\"\r\nVRFY\r\n"), ["252 2.0.0", "252 2.0.0", "501 5.5.4"]); // S-SES-26
    let config = deciding(Decisions { vrfy: true, expn: true, ..Decisions::default() });
    assert!(keywords(config.clone()).contains(&"EXPN".to_owned()));
    let outcome = run_with(config, "EXPN staff\r\nVRFY bob\r\n", false, |e| {
        Some(if e.contains("bob") { "250 2.1.5 <bob@x.example>" } else { "550 5.1.1 no list" })
    });
    assert_eq!(outcome.replies(), ["550 5.1.1", "250 2.1.5"]);
}

#[test]
fn s_ses_29_to_35_how_it_ends_and_what_is_unknown() {
    let outcome = run(format!("EHLO x\r\n{ENVELOPE}QUIT\r\n"));
    assert_eq!(outcome.events, ["Disconnect(Quit)"]); // S-SES-29
    assert!(outcome.closed);
    let outcome = run("FOO\r\nBAR\r\nXFOO a\r\n");
    assert_eq!(outcome.replies(), ["500 5.5.2"; 3]); // S-SES-30, S-SES-34
    assert!(!outcome.closed);
    assert_eq!(
        replies("TURN\r\nSEND FROM:<a@b>\r\nETRN x\r\nATRN\r\nBURL x\r\nSTARTTLS\r\nAUTH PLAIN\r\n"),
        ["502 5.5.1"; 7]
    ); // S-SES-35
    let outcome = run_with(settings(), format!("EHLO x\r\n{ENVELOPE}"), true, |_| None);
    assert_eq!(outcome.events, ["Disconnect(Eof)"]); // S-SES-33
}

#[test]
fn s_ses_31_shutdown_says_421() {
    let mut conn = connection(settings());
    conn.clear_output();
    conn.shutdown(None).unwrap();
    assert!(conn.output().starts_with(b"421 4.3.2 mx.example ") && conn.is_closed());

    let mut conn = connection(settings());
    conn.receive(format!("EHLO x\r\n{ENVELOPE}").as_bytes());
    conn.shutdown(None).unwrap();
    assert!(!conn.is_closed(), "a transaction may end");
    conn.clear_output();
    conn.receive(b"DATA\r\nhi\r\n.\r\n");
    assert!(matches!(conn.poll_event(), Some(ehlo::session::ServerEvent::Message { .. })));
    conn.accept().unwrap();
    let said = String::from_utf8_lossy(conn.output()).into_owned();
    assert!(said.contains("250 2.0.0 OK\r\n421 4.3.2 ") && conn.is_closed(), "{said}");
    assert_eq!(conn.shutdown(Some(Reply::parse_text("550 no").unwrap())), Err(ServerMisuse::ShutdownCode));
}

#[test]
fn s_ses_32_a_421_or_221_of_the_program_closes() {
    let config = deciding(Decisions { rcpt: true, ..Decisions::default() });
    for reply in ["421 4.7.0 bye", "221 2.0.0 bye"] {
        let program: Program =
            if reply.starts_with('4') { |_| Some("421 4.7.0 bye") } else { |_| Some("221 2.0.0 bye") };
        let outcome = run_with(config.clone(), format!("EHLO x\r\n{ENVELOPE}NOOP\r\n"), false, program);
        assert!(outcome.closed && outcome.replies().len() == 3, "{outcome:?}");
        assert_eq!(outcome.events.last().unwrap(), "Disconnect(Program)");
    }
}

#[test]
fn s_ses_36_etrn_not_in_a_transaction() {
    let config = deciding(Decisions { etrn: true, ..Decisions::default() });
    assert_eq!(in_transaction(config.clone(), "ETRN x.example\r\n"), ["503 5.5.1"]);
    assert_eq!(after_ehlo(config, "ETRN x.example\r\n"), ["250 2.0.0"]);
}

#[test]
fn s_ses_37_and_38_pipelines() {
    let config = deciding(Decisions { mail: true, ..Decisions::default() });
    let input = format!("EHLO x\r\n{ENVELOPE}DATA\r\nNOOP\r\n");
    let got = run_with(config, input, false, |_| Some("550 5.7.1 no")).replies();
    assert_eq!(got[1..], ["550 5.7.1", "503 5.5.1", "503 5.5.1", "250 2.0.0"]); // S-SES-37
    let two = format!("EHLO x\r\n{ENVELOPE}DATA\r\n1\r\n.\r\n{ENVELOPE}DATA\r\n2\r\n.\r\n");
    assert_eq!(run(two).events.len(), 2); // S-SES-38
}

#[test]
fn s_ses_39_early_input_is_tolerated() {
    assert_eq!(in_transaction(settings(), "DATA\r\nSubject: x\r\n\r\n.\r\n"), ["354", "250 2.0.0"]);
}

#[test]
fn s_ses_40_and_41_timers() {
    let mut conn = connection(settings());
    assert!(conn.timeout().unwrap().as_secs() >= 300); // S-SES-40
    conn.receive(format!("EHLO x\r\n{ENVELOPE}DATA\r\n").as_bytes());
    assert!(conn.timeout().is_some());
    conn.receive(b".\r\n");
    assert!(conn.poll_event().is_some());
    assert!(conn.timeout().is_none()); // S-SES-41
    conn.receive_timeout();
    assert!(!conn.is_closed());
    conn.accept().unwrap();
    conn.clear_output();
    conn.receive_timeout();
    assert!(conn.output().starts_with(b"421 4.4.2 ") && conn.is_closed());
    assert!(matches!(conn.poll_event(), Some(ehlo::session::ServerEvent::Disconnect(_))));
    assert!(conn.poll_event().is_none());
}

#[test]
fn s_ses_42_errors_and_junk_are_counted() {
    let outcome = run("FOO\r\n".repeat(30));
    assert_eq!(outcome.replies()[..20], ["500 5.5.2"; 20]);
    assert_eq!(outcome.replies()[20..], ["421 4.7.0"]);
    assert_eq!(outcome.events, ["Disconnect(Limit)"]);
    let outcome = feed(&settings(), ["NOOP\r\n".repeat(200).as_bytes()], false, |_| None);
    assert_eq!(outcome.replies().len(), 100 + 21, "the 101st counts as an error, the 21st error closes");
    let mail = format!("EHLO x\r\n{}", format!("{}{ENVELOPE}DATA\r\n.\r\n", "NOOP\r\n".repeat(60)).repeat(4));
    assert!(!feed(&settings(), [mail.as_bytes()], false, |_| None).closed, "accepted mail resets the junk count");
    let commands = ServerSettings { max_commands: Some(3), ..settings() };
    assert_eq!(run_in(commands, "NOOP\r\n".repeat(4)).replies().last().unwrap(), "421 4.7.0");
    let refused = ServerSettings {
        max_refused_recipients: Some(1),
        ..deciding(Decisions { rcpt: true, ..Decisions::default() })
    };
    let input = "EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<c@d>\r\n";
    let outcome = run_with(refused, input, false, |_| Some("550 5.1.1 no"));
    assert_eq!(outcome.replies()[2..], ["550 5.1.1", "550 5.1.1", "421 4.7.0"]);
    assert!(outcome.closed);
}

#[test]
fn s_ses_42_refusals_for_a_limit_are_counted() {
    let config = ServerSettings { max_recipients: 1, max_refusals: Some(2), max_errors: Some(1), ..settings() };
    let too_many = format!("{ENVELOPE}{}", "RCPT TO:<c@d>\r\n".repeat(4));
    let got = after_ehlo(config.clone(), too_many);
    assert_eq!(got[2..], ["452 4.5.3", "452 4.5.3", "452 4.5.3", "421 4.7.0"], "the third is the first error");
    let too_big = "MAIL FROM:<a@b> SIZE=99999999\r\n".repeat(4);
    assert_eq!(after_ehlo(config.clone(), too_big), ["552 5.3.4", "552 5.3.4", "552 5.3.4", "421 4.7.0"]);
    let mail = format!("{ENVELOPE}{}DATA\r\n.\r\n", "RCPT TO:<c@d>\r\n".repeat(2)).repeat(3);
    assert!(!after_ehlo(config, mail).contains(&"421 4.7.0".into()), "accepted mail resets the count");
}

#[test]
fn s_ses_43_to_45_recipients_and_messages() {
    let config = ServerSettings { max_recipients: 100, max_messages: Some(2), ..settings() };
    let input = format!("EHLO x\r\nMAIL FROM:<a@b>\r\n{}DATA\r\n.\r\n", "RCPT TO:<c@d>\r\n".repeat(101));
    let outcome = feed(&config, [input.as_bytes()], false, |_| None);
    assert_eq!(outcome.replies()[101], "250 2.1.5");
    assert_eq!(outcome.replies()[102..], ["452 4.5.3", "354", "250 2.0.0"]); // S-SES-43
    assert_eq!(outcome.events[0].matches("<c@d>").count(), 100); // S-SES-44
    let three = format!("{ENVELOPE}DATA\r\n.\r\n").repeat(3);
    let got = after_ehlo(config, three);
    assert_eq!(got.last().unwrap(), "421 4.7.0"); // S-SES-45
    assert_eq!(got.len(), 9);
}

#[test]
fn b_oth_07_http_and_tls_are_turned_away() {
    for input in [&b"GET / HTTP/1.1\r\n"[..], b"POST / HTTP/1.1\r\n", b"\x16\x03\x01\x02\x00\x01"] {
        let outcome = run(input);
        assert_eq!(outcome.replies(), ["421 4.7.0"]);
        assert!(outcome.closed);
    }
}

#[test]
fn misuse_names_what_was_expected() {
    let mut conn = connection(settings());
    assert_eq!(conn.accept(), Err(ServerMisuse::NoDecision));
    let reply = Reply::parse_text("250 2.0.0 ok").unwrap();
    assert_eq!(conn.reply(&reply), Err(ServerMisuse::NoDecision));
    assert_eq!(conn.reply_recipients(std::slice::from_ref(&reply)), Err(ServerMisuse::NotLmtp)); // S-DAT-18
    assert_eq!(conn.refuse_content(Reply::parse_text("550 no").unwrap()), Err(ServerMisuse::NoContent));
    conn.receive(format!("EHLO x\r\n{ENVELOPE}DATA\r\n.\r\n").as_bytes());
    assert_eq!(conn.accept(), Err(ServerMisuse::NoDecision), "the event was not read yet");
    assert!(conn.poll_event().is_some());
    assert!(matches!(
        conn.reply(&Reply::parse_text("354 go").unwrap()),
        Err(ServerMisuse::WrongClass { code: 354, .. })
    ));
    conn.reply(&reply).unwrap();
    assert_eq!(conn.accept(), Err(ServerMisuse::NoDecision));
}
