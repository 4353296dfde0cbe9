//! RULES group 10: LMTP (RFC 2033).
mod common;
use common::*;
use ehlo::session::{Decisions, ServerEvent, ServerMisuse, ServerSettings};
use ehlo::syntax::reply::Reply;

fn lmtp() -> ServerSettings {
    ServerSettings { lmtp: true, ..settings() }
}

/// Refuses recipients whose name begins with `b`.
fn picky(event: &str) -> Option<&'static str> {
    event.starts_with("rcpt <b").then_some("550 5.1.1 no")
}

fn picky_settings() -> ServerSettings {
    ServerSettings { decisions: Decisions { rcpt: true, message: true, ..Decisions::default() }, ..lmtp() }
}

const FOUR: &str = "LHLO x\r\nMAIL FROM:<s@x>\r\nRCPT TO:<a@x>\r\nRCPT TO:<b@x>\r\nRCPT TO:<c@x>\r\nRCPT TO:<a@x>\r\n";

#[test]
fn s_lmt_01_lhlo_and_nothing_else() {
    let outcome = run_in(lmtp(), "EHLO x\r\nHELO x\r\nEHLO\r\nLHLO x\r\n");
    assert!(outcome.output.starts_with("220 mx.example LMTP\r\n"));
    assert_eq!(outcome.replies(), ["500 5.5.1", "500 5.5.1", "500 5.5.1", "250"]);
    assert!(outcome.output.contains("LHLO"));
    assert_eq!(run("LHLO x\r\n").replies(), ["500 5.5.1"]);
}

#[test]
fn s_lmt_02_data_without_a_recipient() {
    let got = run_with(picky_settings(), "LHLO x\r\nMAIL FROM:<s@x>\r\nRCPT TO:<b@x>\r\nDATA\r\n", false, picky);
    assert_eq!(got.replies()[2..], ["550 5.1.1", "503 5.5.1"]);
}

#[test]
fn s_lmt_03_and_04_one_reply_a_recipient() {
    for content in ["DATA\r\nhi\r\n.\r\nNOOP\r\n", "BDAT 2\r\nhiBDAT 0 LAST\r\nNOOP\r\n"] {
        let got = run_with(picky_settings(), format!("{FOUR}{content}"), false, picky).replies();
        let first = if content.starts_with("DATA") { "354" } else { "250 2.0.0" }; // S-LMT-04
        assert_eq!(
            got[2..],
            [
                "250 2.1.5",
                "550 5.1.1",
                "250 2.1.5",
                "250 2.1.5",
                first,
                "250 2.0.0",
                "250 2.0.0",
                "250 2.0.0",
                "250 2.0.0" // NOOP
            ]
        );
    }
}

#[test]
fn s_lmt_05_bdat_last_without_recipients_has_no_reply() {
    let input = "LHLO x\r\nMAIL FROM:<s@x>\r\nRCPT TO:<b@x>\r\nBDAT 4 LAST\r\nNOOPRSET\r\n";
    assert_eq!(run_with(picky_settings(), input, false, picky).replies()[2..], ["550 5.1.1", "250 2.0.0"]);
}

#[test]
fn s_lmt_06_and_08_replies_leave_when_known() {
    let mut conn = connection(lmtp());
    conn.receive(FOUR.as_bytes());
    conn.receive(b"DATA\r\nhi\r\n.\r\n");
    assert!(matches!(conn.poll_event(), Some(ServerEvent::Message { .. })));
    conn.clear_output();
    let folded = Reply::from_lines(250, None, &["one", "two"]).unwrap();
    conn.reply_recipients(&[folded]).unwrap();
    assert_eq!(conn.output(), b"250-2.0.0 one\r\n250 2.0.0 two\r\n"); // S-LMT-06, S-LMT-08
    assert!(conn.decision_open());
    let no = Reply::parse_text("452 4.2.2 full").unwrap();
    assert_eq!(
        conn.reply_recipients(&[no.clone(), no.clone(), no.clone(), no.clone()]),
        Err(ServerMisuse::TooManyReplies { expected: 3, given: 4 })
    );
    conn.reply_recipients(&[no.clone(), no]).unwrap();
    conn.accept().unwrap();
    assert!(conn.output().ends_with(b"452 4.2.2 full\r\n452 4.2.2 full\r\n250 2.0.0 OK\r\n"));
    assert!(!conn.decision_open());
    assert_eq!(conn.messages(), 2);
}

#[test]
fn s_lmt_07_a_refusal_of_the_content_is_repeated() {
    let small = ServerSettings { max_message_size: Some(3), ..lmtp() };
    let got = run_in(small, format!("{FOUR}DATA\r\n12345\r\n.\r\n")).replies();
    assert_eq!(got[got.len() - 4..], ["552 5.3.4"; 4]);
    let got = run_in(lmtp(), format!("{FOUR}DATA\r\n1\n2\r\n.\r\n")).replies();
    assert_eq!(got[got.len() - 4..], ["550 5.5.2"; 4]);
    let small = ServerSettings { max_message_size: Some(3), ..lmtp() };
    let got = run_in(small, format!("{FOUR}BDAT 5\r\n12345BDAT 1 LAST\r\n6NOOP\r\n")).replies();
    assert_eq!(got[6..], ["552 5.3.4", "503 5.5.1", "503 5.5.1", "503 5.5.1", "503 5.5.1", "250 2.0.0"]);
}

#[test]
fn s_lmt_09_what_lmtp_must_offer() {
    let list = keywords(lmtp());
    for keyword in ["PIPELINING", "ENHANCEDSTATUSCODES", "8BITMIME"] {
        assert!(list.iter().any(|k| k == keyword));
    }
}
