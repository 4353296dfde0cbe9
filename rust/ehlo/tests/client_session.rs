//! Greeting, hello, commands, STARTTLS, AUTH, ends: what a client does outside transactions.
mod common;
use common::client::*;
use ehlo::session::client::{
    Chunking, ClientConfig, ClientConfigError, ClientMisuse, ClientSettings, Facts, Newlines, TlsPolicy,
};
use ehlo::syntax::command::Command;

#[test]
fn c_cli_01_the_whole_greeting_comes_first() {
    each_way(settings(), |peer| {
        peer.send(&["c@d"], "hi\r\n");
        peer.say("220-mx.example\r\n");
        peer.hears("");
        peer.say("220 ready\r\n");
        peer.hears("EHLO c.example\r\n"); // C-CLI-05: a domain
    });
}

#[test]
fn c_cli_05_the_name_is_a_domain_or_a_literal() {
    for good in ["c.example", "[192.0.2.1]", "[IPv6:2001:db8::1]"] {
        assert!(ClientConfig::new(ClientSettings { hostname: good.into(), ..settings() }).is_ok(), "{good}");
    }
    for bad in ["", "a b", "c.example\r\nQUIT", "192.0.2.1]", "é.example"] {
        let made = ClientConfig::new(ClientSettings { hostname: bad.into(), ..settings() });
        assert_eq!(made.unwrap_err(), ClientConfigError::Hostname, "{bad}");
    }
    let exact = ClientSettings { newlines: Newlines::Exact, chunking: Chunking::Never, ..settings() };
    assert_eq!(ClientConfig::new(exact).unwrap_err(), ClientConfigError::ExactWithoutChunking);
    assert!(ClientConfig::new(ClientSettings { window: 0, ..settings() }).is_err());
}

#[test]
fn c_cli_02_and_c_oth_04_a_refusing_greeting() {
    for greeting in ["554 no", "521 host takes no mail", "450 later", "556 no"] {
        each_way(settings(), |peer| {
            peer.send(&["c@d"], "hi\r\n");
            peer.say(format!("{greeting}\r\n"));
            peer.hears("QUIT\r\n");
            let lost = "1: c@d - ? (Lost)";
            peer.happened(&[lost, &format!("disconnect: the server refused the connection: {greeting}")]);
            assert!(peer.conn.is_closed());
        });
    }
    each_way(settings(), |peer| {
        peer.say("421 busy\r\n");
        peer.hears("");
        peer.happened(&["disconnect: the server refused the connection: 421 busy"]);
    });
}

#[test]
fn c_cli_03_helo_where_ehlo_is_refused_for_good() {
    for code in ["500", "502", "504", "550", "554"] {
        each_way(settings(), |peer| {
            peer.say("220 mx\r\n");
            peer.say(format!("{code} what\r\n"));
            peer.hears("EHLO c.example\r\nHELO c.example\r\n");
            // A list behind HELO offers nothing.
            peer.say("250-mx\r\n250 PIPELINING\r\n");
            peer.happened(&["ready"]);
            peer.send(&["c@d"], "hi\r\n");
            peer.hears("MAIL FROM:<a@b>\r\n");
            assert!(peer.conn.capabilities().lines().is_empty());
        });
    }
    for reply in ["421 bye", "450 later"] {
        each_way(settings(), |peer| {
            peer.say("220 mx\r\n");
            peer.say(format!("{reply}\r\n"));
            assert!(!peer.heard().contains("HELO c.example\r\nHELO"));
            peer.happened(&[&format!("disconnect: the server refused the hello: {reply}")]);
        });
    }
    each_way(lmtp(), |peer| {
        peer.say("220 mx\r\n");
        peer.say("500 what\r\n");
        peer.hears("LHLO c.example\r\nQUIT\r\n");
        peer.happened(&["disconnect: the server refused the hello: 500 what"]);
    });
    each_way(settings(), |peer| {
        peer.say("220 mx\r\n");
        peer.say("500 what\r\n");
        peer.say("502 what\r\n");
        peer.hears("EHLO c.example\r\nHELO c.example\r\nQUIT\r\n");
        peer.happened(&["disconnect: the server refused the hello: 502 what"]);
    });
}

#[test]
fn c_cli_07_commands_that_end_a_group() {
    ready(settings(), "PIPELINING", |peer| {
        peer.conn.command(Command::Noop(b"".into())).unwrap();
        peer.conn.command(Command::Vrfy { argument: "bob".into(), smtputf8: false }).unwrap();
        peer.conn.command(Command::Rset).unwrap();
        peer.conn.quit().unwrap();
        peer.turn();
        peer.hears("NOOP\r\n");
        peer.say("250 ok\r\n");
        peer.hears("VRFY bob\r\n");
        peer.say("252 perhaps\r\n");
        // RSET may stand anywhere, QUIT last in the same group.
        peer.hears("RSET\r\nQUIT\r\n");
        peer.say("250 ok\r\n221 bye\r\n");
        peer.happened(&["NOOP 250", "VRFY 252", "RSET 250", "QUIT 221", "disconnect: the session was ended by QUIT"]);
        assert_eq!(peer.conn.quit(), Err(ClientMisuse::Closed));
    });
}

#[test]
fn c_cli_06_without_pipelining_one_command_one_reply() {
    ready(settings(), "", |peer| {
        peer.conn.command(Command::Rset).unwrap();
        peer.conn.quit().unwrap();
        peer.turn();
        peer.hears("RSET\r\n");
        peer.say("250 ok\r\n");
        peer.hears("QUIT\r\n");
    });
}

#[test]
fn c_cli_18_a_reply_nobody_asked_for() {
    ready(settings(), "", |peer| {
        peer.say("250 x\r\n");
        peer.happened(&["unsolicited 250", "disconnect: the server sent a reply that nothing had asked for"]);
    });
    // C-CLI-16: a 421 comes unasked and ends the session.
    ready(settings(), "", |peer| {
        peer.say("421 4.3.2 shutting down\r\n");
        peer.happened(&["unsolicited 421", "disconnect: the server ends the session: 421 4.3.2 shutting down"]);
        peer.hears("");
    });
}

#[test]
fn replies_before_commands_are_not_kept() {
    each_way(settings(), |peer| {
        peer.say("220 mx\r\n250 mx\r\n250 early\r\n");
        assert!(peer.events().last().unwrap().starts_with("disconnect: the server sent a reply"));
    });
}

#[test]
fn c_cli_31_quit_and_the_wait_for_221() {
    ready(settings(), "", |peer| {
        peer.conn.quit().unwrap();
        peer.turn();
        assert_eq!(peer.conn.timeout().unwrap().as_secs(), 5);
        peer.timeout();
        peer.happened(&["QUIT lost", "disconnect: the session was ended by QUIT"]);
    });
    ready(settings(), "", |peer| {
        peer.conn.quit().unwrap();
        peer.turn();
        peer.eof();
        peer.happened(&["QUIT lost", "disconnect: the session was ended by QUIT"]);
    });
}

#[test]
fn c_cli_32_each_phase_has_its_timer() {
    each_way(settings(), |peer| {
        let seconds = |peer: &Peer| peer.conn.timeout().map(|wait| wait.as_secs());
        assert_eq!(seconds(peer), Some(300)); // greeting
        peer.say("220 mx\r\n");
        assert_eq!(seconds(peer), Some(300)); // EHLO
        peer.offer("");
        assert_eq!(seconds(peer), None); // nothing outstanding
        peer.send(&["c@d"], "hi\r\n");
        assert_eq!(seconds(peer), Some(300)); // MAIL
        peer.say("250 ok\r\n");
        assert_eq!(seconds(peer), Some(300)); // RCPT
        peer.say("250 ok\r\n");
        assert_eq!(seconds(peer), Some(120)); // DATA
        peer.say("354 go\r\n");
        assert_eq!(seconds(peer), Some(600)); // the dot
        peer.say("250 ok\r\n");
        peer.conn.command(Command::Noop(b"".into())).unwrap();
        peer.turn();
        assert_eq!(seconds(peer), Some(20));
        peer.timeout();
        assert_eq!(peer.events().last().unwrap(), "disconnect: the server did not answer in time");
        assert_eq!(seconds(peer), None);
    });
}

/// FAULTS A10: behind a malformed reply nobody knows which reply is next. QUIT must not become content.
#[test]
fn faults_a10_no_quit_where_it_might_become_content() {
    let group = "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n";
    // The replies to a group, of which the last is malformed.
    for replies in
        ["999 what\r\n", "250 ok\r\n999 what\r\n", "250 ok\r\n250 ok\r\n999 what\r\n", "099 hm\r\n", "what\r\n"]
    {
        for lmtp in [false, true] {
            ready(ClientSettings { lmtp, ..settings() }, "PIPELINING", |peer| {
                peer.send(&["c@d"], "hi\r\n");
                peer.hears(group);
                peer.say(replies);
                peer.say("354 go\r\n");
                peer.hears("");
                assert!(peer.conn.is_closed());
            });
            // By BDAT the rest of the group is on its way, too.
            ready(ClientSettings { lmtp, ..settings() }, "PIPELINING, CHUNKING", |peer| {
                peer.send(&["c@d"], "hi\r\n");
                let heard = peer.heard();
                peer.say(replies.split_inclusive('\n').next_back().unwrap());
                peer.hears("");
                assert!(heard.starts_with("MAIL") && peer.conn.is_closed());
            });
        }
    }
    // One command at a time: behind DATA, and behind content that is on its way, nothing is said.
    ready(settings(), "", |peer| {
        let id = peer.stream(&["c@d"], Facts::default());
        peer.say("250 ok\r\n");
        peer.say("250 ok\r\n");
        peer.say("354 go\r\n");
        peer.piece(id, "half a li");
        peer.heard();
        peer.say("999 what\r\n");
        peer.hears("");
        assert!(peer.conn.is_closed());
    });
    // A message behind another one.
    ready(settings(), "PIPELINING, CHUNKING", |peer| {
        peer.send(&["c@d"], "1\r\n");
        peer.send(&["e@f"], "2\r\n");
        peer.heard();
        peer.say("250 ok\r\n250 ok\r\n999 what\r\n");
        peer.hears("");
    });
    // The response that AUTH waits for would be QUIT, and the TLS handshake, too.
    ready(settings(), "AUTH PLAIN", |peer| {
        peer.conn.auth("PLAIN", None).unwrap();
        peer.turn();
        peer.hears("AUTH PLAIN\r\n");
        peer.say("999 what\r\n");
        peer.hears("");
    });
}

#[test]
fn c_rpl_03_a_code_out_of_range_is_fatal() {
    ready(settings(), "", |peer| {
        peer.send(&["c@d"], "hi\r\n");
        peer.heard();
        peer.say("650 hm\r\n");
        peer.hears("QUIT\r\n");
        peer.happened(&["1: c@d - ? (Lost)", "disconnect: the reply code 650 is outside 200 to 599"]);
    });
}

#[test]
fn what_is_no_reply_ends_the_session() {
    let endless = "250-x\r\n".repeat(1001); // C-RPL-11
    for words in ["250+ok\r\n", "250-a\r\n550 b\r\n", "25\r\n", "250 a\n250 b\r\n", "hello\r\n", &endless] {
        ready(settings(), "", |peer| {
            peer.conn.command(Command::Rset).unwrap();
            peer.turn();
            peer.say(words);
            let events = peer.events();
            assert_eq!(events[0], "RSET lost", "{words:?}");
            assert!(events[1].starts_with("disconnect: "), "{events:?}");
            assert!(peer.conn.is_closed());
        });
    }
}

#[test]
fn c_rpl_06_text_decides_nothing() {
    ready(settings(), "", |peer| {
        peer.send(&["c@d"], "hi\r\n");
        peer.say("250 5.7.1 rejected\r\n");
        assert!(peer.heard().ends_with("RCPT TO:<c@d>\r\n"));
        peer.say("250\r\n"); // no text at all
        assert!(peer.heard().ends_with("DATA\r\n"));
    });
}

// ---- STARTTLS ----

fn tls(policy: TlsPolicy) -> ClientSettings {
    ClientSettings { tls: policy, ..settings() }
}

fn greeted(policy: TlsPolicy, keywords: &str, test: impl Fn(&mut Peer)) {
    each_way(tls(policy), |peer| {
        peer.say("220 mx\r\n");
        peer.offer(keywords);
        assert!(peer.heard().starts_with("EHLO c.example\r\n"));
        test(peer);
    });
}

#[test]
fn c_tls_19_all_is_forgotten_after_the_handshake() {
    each_way(tls(TlsPolicy::Required), |peer| {
        peer.send(&["c@d"], "hi\r\n");
        peer.say("220 mx\r\n");
        peer.offer("STARTTLS, CHUNKING, PIPELINING");
        // C-TLS-23: the last of its group, whatever waits.
        peer.hears("EHLO c.example\r\nSTARTTLS\r\n");
        peer.say("220 go\r\n");
        peer.happened(&["start tls"]);
        peer.hears("");
        assert_eq!(peer.conn.timeout(), None);
        peer.conn.tls_established(true).unwrap();
        peer.turn();
        peer.hears("EHLO c.example\r\n");
        assert!(peer.conn.capabilities().lines().is_empty());
        // C-TLS-24: never twice, even if it is offered again.
        peer.offer("STARTTLS");
        peer.happened(&["ready"]);
        peer.hears("MAIL FROM:<a@b>\r\n");
        assert_eq!(peer.conn.tls_established(true), Err(ClientMisuse::NoHandshake));
    });
}

#[test]
fn c_tls_20_octets_behind_the_220_are_an_attack() {
    let injected = "250-evil\r\n250 AUTH PLAIN\r\n";
    for end in 1..=injected.len() {
        greeted(TlsPolicy::Required, "STARTTLS", |peer| {
            peer.say(format!("220 go\r\n{}", &injected[..end]));
            let last = peer.events().pop().unwrap();
            assert_eq!(last, "disconnect: octets in clear behind the reply to STARTTLS (RFC 3207 6)");
            // A program that shakes hands all the same gets no session out of it.
            assert_eq!(peer.conn.tls_established(true), Ok(()));
            peer.turn();
            peer.hears("");
            assert!(peer.conn.is_closed() && !peer.conn.is_tls());
            assert!(peer.conn.capabilities().auth().is_empty());
        });
    }
}

#[test]
fn c_tls_26_a_reply_left_unread_counts_as_injected() {
    greeted(TlsPolicy::Required, "STARTTLS", |peer| {
        peer.say("250 extra\r\n220 go\r\n");
        assert!(peer.events().pop().unwrap().contains("octets in clear"));
    });
}

#[test]
fn c_tls_21_only_a_positive_reply_starts_tls() {
    for refusal in ["454 4.7.0 not now", "502 5.5.1 no"] {
        greeted(TlsPolicy::Required, "STARTTLS", |peer| {
            peer.say(format!("{refusal}\r\n"));
            peer.hears("QUIT\r\n");
            let refused = format!("disconnect: the server refused STARTTLS, and TLS is required: {refusal}");
            peer.happened(&[&refused]);
        });
        greeted(TlsPolicy::Opportunistic, "STARTTLS", |peer| {
            peer.say(format!("{refusal}\r\n"));
            peer.happened(&["ready"]);
            assert!(!peer.conn.is_tls());
        });
    }
    // A 220 in a continuation that ends otherwise.
    greeted(TlsPolicy::Opportunistic, "STARTTLS", |peer| {
        peer.say("220-go\r\n454 no\r\n");
        assert!(peer.events().pop().unwrap().starts_with("disconnect: "));
    });
}

#[test]
fn c_tls_22_required_sends_nothing_in_clear() {
    each_way(tls(TlsPolicy::Required), |peer| {
        peer.send(&["c@d"], "hi\r\n");
        peer.conn.auth("PLAIN", Some(b"\0a\0b")).unwrap();
        peer.say("220 mx\r\n");
        peer.offer("AUTH PLAIN"); // STARTTLS was stripped off
        peer.hears("EHLO c.example\r\nQUIT\r\n");
        peer.happened(&[
            "1: c@d - ? (Lost)",
            "AUTH lost",
            "disconnect: the server does not offer STARTTLS, and TLS is required",
        ]);
    });
    // HELO offers nothing, TLS least of all.
    each_way(tls(TlsPolicy::Required), |peer| {
        peer.say("220 mx\r\n");
        peer.say("502 no\r\n");
        peer.say("250 mx\r\n");
        peer.hears("EHLO c.example\r\nHELO c.example\r\nQUIT\r\n");
    });
}

#[test]
fn implicit_tls_is_told_before_the_greeting() {
    each_way(tls(TlsPolicy::Required), |peer| {
        peer.conn.tls_established(true).unwrap();
        assert_eq!(peer.conn.tls_established(true), Err(ClientMisuse::NoHandshake));
        peer.say("220 mx\r\n");
        peer.offer("STARTTLS");
        peer.hears("EHLO c.example\r\n");
        peer.happened(&["ready"]);
        assert!(peer.conn.is_tls());
    });
}

// ---- AUTH ----

#[test]
fn an_exchange_of_challenges() {
    ready(settings(), "AUTH LOGIN, PIPELINING", |peer| {
        peer.conn.auth("LOGIN", None).unwrap();
        peer.send(&["c@d"], "hi\r\n");
        peer.hears("AUTH LOGIN\r\n");
        peer.say("334 VXNlcm5hbWU6\r\n");
        peer.happened(&["challenge Username:"]);
        assert_eq!(peer.conn.timeout(), None);
        peer.conn.respond(b"tim").unwrap();
        peer.turn();
        peer.hears("dGlt\r\n");
        assert_eq!(peer.conn.respond(b"again"), Err(ClientMisuse::NoChallenge));
        peer.say("334 \r\n"); // an empty challenge
        peer.happened(&["challenge "]);
        peer.conn.respond(b"").unwrap();
        peer.turn();
        peer.hears("\r\n");
        peer.say("235 2.7.0 in\r\n");
        peer.happened(&["AUTH 235"]);
        assert!(peer.conn.is_authenticated());
        assert!(peer.heard().starts_with("MAIL FROM:<a@b>\r\n"));
        assert!(!peer.conn.transcript().contains("dGlt")); // B-AUT-34 of the client's transcript
    });
}

#[test]
fn c_aut_31_a_long_initial_response_has_a_line_of_its_own() {
    let token = vec![b'x'; 2000];
    ready(settings(), "AUTH XOAUTH2", |peer| {
        peer.conn.auth("XOAUTH2", Some(&token)).unwrap();
        peer.turn();
        peer.hears("AUTH XOAUTH2\r\n");
        peer.say("334 \r\n");
        let line = peer.heard();
        assert_eq!(line.len(), 2668 + 2);
        peer.happened(&[]);
        peer.say("535 5.7.8 no\r\n");
        peer.happened(&["AUTH 535"]);
        assert!(!peer.conn.transcript().contains(line.trim_end()));
    });
    ready(settings(), "AUTH PLAIN", |peer| {
        peer.conn.auth("PLAIN", Some(b"\0tim\0secret")).unwrap();
        peer.turn();
        peer.hears("AUTH PLAIN AHRpbQBzZWNyZXQ=\r\n");
        assert!(peer.conn.transcript().contains("C: AUTH PLAIN [initial response]"));
    });
}

#[test]
fn c_aut_33_an_empty_initial_response() {
    ready(settings(), "AUTH EXTERNAL", |peer| {
        peer.conn.auth("EXTERNAL", Some(b"")).unwrap();
        peer.turn();
        peer.hears("AUTH EXTERNAL =\r\n");
    });
}

/// FAULTS C14: LOGIN does not read its prompts; and white space behind base64 does no harm.
#[test]
fn faults_c14_login_does_not_read_prompts() {
    for prompt in ["VXNlcm5hbWU6", "VXNlcm5hbWU6 \t", "Username:", "?!", "", "VXNlcm5hbWU", "=", "Benutzer \u{fc}"] {
        ready(settings(), "AUTH LOGIN", |peer| {
            peer.conn.auth("login", None).unwrap();
            peer.turn();
            for answer in ["jane", "secret"] {
                peer.heard();
                peer.say(format!("334 {prompt}\r\n"));
                peer.events();
                peer.conn.respond(answer.as_bytes()).unwrap();
                peer.turn();
            }
            peer.hears("c2VjcmV0\r\n");
            peer.say("235 ok\r\n");
            peer.happened(&["AUTH 235"]);
        });
    }
    ready(settings(), "AUTH CRAM-MD5", |peer| {
        peer.conn.auth("CRAM-MD5", None).unwrap();
        peer.turn();
        peer.heard();
        peer.say("334 PDFAeD4= \r\n");
        peer.hears("");
        assert!(peer.conn.respond(b"x").is_ok());
    });
}

#[test]
fn c_aut_32_a_challenge_that_is_no_base64() {
    ready(settings(), "AUTH PLAIN", |peer| {
        peer.conn.auth("PLAIN", None).unwrap();
        peer.turn();
        peer.say("334 ?!\r\n");
        peer.hears("AUTH PLAIN\r\n*\r\n");
        peer.happened(&[]);
        peer.say("501 5.7.0 cancelled\r\n");
        peer.happened(&["AUTH 501"]);
        assert!(!peer.conn.is_closed());
    });
    ready(settings(), "AUTH PLAIN", |peer| {
        peer.conn.auth("PLAIN", None).unwrap();
        peer.turn();
        peer.say("334 \r\n");
        peer.conn.cancel().unwrap();
        peer.turn();
        peer.hears("AUTH PLAIN\r\n*\r\n");
    });
}

#[test]
fn a_command_without_an_answer_is_told() {
    // C-CLI-14: 3yz answers no command; C-CLI-18. Whoever waits for the reply has to hear that there is none.
    ready(settings(), "", |peer| {
        peer.conn.command(Command::Noop(b"".into())).unwrap();
        peer.turn();
        peer.say("354 hm\r\n");
        assert_eq!(peer.events()[0], "NOOP lost");
    });
    ready(settings(), "AUTH PLAIN", |peer| {
        peer.conn.auth("PLAIN", None).unwrap();
        peer.turn();
        peer.say("334 YQ==\r\n");
        peer.eof();
        peer.happened(&["challenge a", "AUTH lost", "disconnect: the server closed the connection"]);
    });
}

#[test]
fn xclient_begins_the_session_anew() {
    ready(settings(), "XCLIENT ADDR", |peer| {
        peer.conn.command(Command::Xclient(vec![("ADDR".into(), "192.0.2.1".into())])).unwrap();
        peer.turn();
        peer.hears("XCLIENT ADDR=192.0.2.1\r\n");
        peer.say("220 mx\r\n");
        peer.hears("EHLO c.example\r\n");
        peer.offer("");
        peer.happened(&["XCLIENT 220", "ready"]);
    });
}

#[test]
fn a_command_that_is_not_known_ends_its_group_and_has_its_reply() {
    let unknown = |verb: &'static [u8], argument: &'static [u8]| Command::Unknown {
        verb: verb.into(),
        argument: argument.into(),
    };
    ready(settings(), "PIPELINING", |peer| {
        assert!(peer.conn.command(unknown(b"XFOO", b"bar\r\nQUIT")).is_err());
        peer.conn.command(unknown(b"XFOO", b"bar baz")).unwrap();
        peer.conn.command(Command::Noop(b"".into())).unwrap();
        peer.turn();
        peer.hears("XFOO bar baz\r\n");
        peer.say("550 no\r\n");
        peer.hears("NOOP\r\n");
        peer.say("250 ok\r\n");
        peer.happened(&["unknown 550", "NOOP 250"]);
        peer.conn.command(unknown(b"XFOO", b"")).unwrap();
        peer.turn();
        peer.hears("XFOO\r\n");
        peer.eof();
        assert_eq!(peer.events()[0], "unknown lost");
    });
}

#[test]
fn misuse_is_told() {
    ready(settings(), "", |peer| {
        assert_eq!(peer.conn.command(Command::Data), Err(ClientMisuse::EngineCommand(command_verb("DATA"))));
        assert!(peer.conn.command(Command::Vrfy { argument: "a\r\nQUIT".into(), smtputf8: false }).is_err());
        assert_eq!(peer.conn.end_content(7), Err(ClientMisuse::UnknownMessage));
        assert_eq!(peer.conn.respond(b""), Err(ClientMisuse::NoChallenge));
        let id = peer.send(&["c@d"], "hi\r\n");
        assert_eq!(peer.conn.end_content(id), Err(ClientMisuse::NoContent));
        peer.eof();
        assert!(peer.conn.auth("PLAIN", None).is_err());
    });
}

fn command_verb(name: &str) -> Option<ehlo::syntax::command::Verb> {
    ehlo::syntax::command::Verb::parse(name.as_bytes())
}

#[test]
fn newlines_auto_keeps_content_by_bdat_and_normalizes_it_in_data() {
    let settings = ClientSettings { newlines: Newlines::Auto, ..settings() };
    let _ = ClientConfig::new(settings.clone()).unwrap();
    let never = ClientSettings { chunking: Chunking::Never, ..settings };
    let _ = ClientConfig::new(never).unwrap();
}
