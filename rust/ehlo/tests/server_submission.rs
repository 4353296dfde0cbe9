//! Message submission: RFC 6409.
mod common;
use common::*;
use ehlo::session::{Decisions, ServerConfig, ServerConfigError, ServerSettings};
use ehlo::syntax::command::{Command, parse_command};
use ehlo::syntax::options::Options;

fn submission() -> ServerSettings {
    ServerSettings {
        submission: true,
        auth: vec!["PLAIN".into()],
        auth_in_clear: vec!["PLAIN".into()],
        single_labels: vec!["Sales".into()],
        ..settings()
    }
}

/// Behind AUTH.
fn submit(input: &str) -> Vec<String> {
    after_ehlo(submission(), format!("AUTH PLAIN =\r\n{input}"))[1..].to_vec()
}

#[test]
fn s_sub_01_auth_comes_first() {
    let input = "MAIL FROM:<a@b.example>\r\nAUTH PLAIN =\r\nMAIL FROM:<a@b.example>\r\n";
    assert_eq!(after_ehlo(submission(), input), ["530 5.7.0", "235 2.7.0", "250 2.1.0"]);
}

#[test]
fn s_sub_02_what_is_offered() {
    let list = keywords(submission());
    for keyword in ["AUTH PLAIN", "PIPELINING", "ENHANCEDSTATUSCODES", "DSN", "8BITMIME"] {
        assert!(list.iter().any(|k| k == keyword), "{keyword}");
    }
    assert!(!list.iter().any(|keyword| keyword.starts_with("ETRN") || keyword.starts_with("ATRN")));
    let without = ServerSettings { auth: vec![], auth_in_clear: vec![], ..submission() };
    assert_eq!(ServerConfig::new(without).unwrap_err(), ServerConfigError::RequiresAuth);
    let etrn = ServerSettings { decisions: Decisions { etrn: true, ..Decisions::default() }, ..submission() };
    assert_eq!(ServerConfig::new(etrn).unwrap_err(), ServerConfigError::EtrnForSubmission);
    for source in [
        include_str!("../src/session/server/commands.rs"),
        include_str!("../src/session/server/content.rs"),
        include_str!("../src/session/server/decisions.rs"),
        include_str!("../src/session/server/replies.rs"),
        include_str!("../src/session/server/saying.rs"),
    ] {
        assert!(!source.contains("\"521"));
    }
}

#[test]
fn s_sub_03_domains_are_fully_qualified() {
    let input = "MAIL FROM:<a@sales2>\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<a@sales2>\r\nRCPT TO:<a@SALES>\r\n\
        RCPT TO:<a@[192.0.2.1]>\r\nRCPT TO:<Postmaster>\r\nRCPT TO:<c@d.example>\r\n";
    let yes = "250 2.1.5";
    assert_eq!(submit(input), ["554 5.1.8", "250 2.1.0", "554 5.1.2", yes, yes, yes, yes]);
    assert_eq!(
        replies("MAIL FROM:<a@b>\r\nRCPT TO:<a@sales2>\r\n"),
        ["250 2.1.0", yes],
        "elsewhere it does not matter"
    );
    for wrong in ["", "a.b", "-a", "[x]"] {
        let settings = ServerSettings { single_labels: vec![wrong.into()], ..submission() };
        assert_eq!(ServerConfig::new(settings).unwrap_err(), ServerConfigError::SingleLabel(wrong.into()));
    }
}

#[test]
fn s_sub_04_grammar_is_501() {
    assert_eq!(submit("MAIL FROM:<>\r\nRCPT TO:<a..b@c.d>\r\n"), ["250 2.1.0", "501 5.1.3"]);
}

#[test]
fn s_sub_05_the_null_reverse_path() {
    assert_eq!(submit("MAIL FROM:<>\r\n"), ["250 2.1.0"]);
}

#[test]
fn s_sub_06_the_program_may_refuse_addresses() {
    let settings =
        ServerSettings { decisions: Decisions { mail: true, rcpt: true, ..Decisions::default() }, ..submission() };
    let program: Program = |event| match event {
        _ if event.starts_with("mail <a@b.example>") => None,
        _ if event.starts_with("auth") => None,
        _ => Some("550 5.7.1 not yours"),
    };
    let input =
        "EHLO x\r\nAUTH PLAIN =\r\nMAIL FROM:<x@y.example>\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n";
    assert_eq!(run_with(settings, input, false, program).replies()[2..], ["550 5.7.1", "250 2.1.0", "550 5.7.1"]);
}

#[test]
fn s_sub_11_future_release_only_here() {
    let until =
        ehlo::syntax::datetime::DateTime::parse("2030-01-01T00:00:00Z", ehlo::syntax::datetime::Fraction::Refused);
    let hold = ehlo::session::FutureRelease { max_seconds: 60, max_until: until.unwrap() };
    let here = ServerSettings { future_release: Some(hold.clone()), ..submission() };
    assert!(keywords(here).contains(&"FUTURERELEASE 60 2030-01-01T00:00:00Z".into()));
    let there = ServerSettings { future_release: Some(hold), ..settings() };
    assert_eq!(ServerConfig::new(there).unwrap_err(), ServerConfigError::FutureReleaseWithoutSubmission);
}

#[test]
fn s_sub_12_burl() {
    let burl = parse_command(b"BURL imap://h.example/x;UID=1 LAST", &Options::default());
    assert!(matches!(burl, Ok(Command::Burl { last: true, .. })));
    assert_eq!(submit("BURL imap://h.example/x LAST\r\n"), ["502 5.5.1"]);
}
