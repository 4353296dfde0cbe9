//! Messages: what is sent in one group, and what each reply means for each recipient.
mod common;
use std::sync::Arc;

use common::client::*;
use ehlo::session::client::{
    Chunking, ClientConnection, ClientEvent, ClientMisuse, ClientSettings, Facts, NewMessage, Newlines,
};
use ehlo::session::{Envelope, Recipient, Sender};
use ehlo::syntax::command::Command;
use ehlo::syntax::options::Options;
use ehlo::syntax::parameter::{MailParameters, RcptParameters};

const DATA: &str = "PIPELINING";
const BDAT: &str = "PIPELINING, CHUNKING";

fn with_mail(text: &str, content: impl Into<Vec<u8>>) -> NewMessage<Vec<u8>> {
    let Envelope { sender, recipients } = Envelope::parse("a@b", ["c@d"]).unwrap();
    let parameters = MailParameters::parse(text, &Options::default()).unwrap().into_owned();
    NewMessage::whole(Arc::new(Sender { path: sender.path.clone(), parameters }), recipients, content.into())
}

fn with_rcpt(text: &str) -> NewMessage<Vec<u8>> {
    let Envelope { sender, recipients } = Envelope::parse("a@b", ["c@d"]).unwrap();
    let parameters = RcptParameters::parse(text, &Options::default()).unwrap().into_owned();
    let recipient = Recipient { path: recipients[0].path.clone(), parameters };
    NewMessage::whole(sender, vec![Arc::new(recipient)], b"hi\r\n".to_vec())
}

// ---- groups ----

#[test]
fn c_cli_07_one_group_up_to_data() {
    ready(settings(), DATA, |peer| {
        peer.send(&["c@d", "e@f", "g@h"], "hi\r\n");
        // C-CLI-29: upper case, single spaces. C-CLI-34: one transaction for all.
        peer.hears("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\nRCPT TO:<g@h>\r\nDATA\r\n");
        peer.say("250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n");
        peer.hears(""); // C-CLI-14: content waits for 354
        peer.say("354 go\r\n");
        peer.hears("hi\r\n.\r\n");
        peer.say("250 2.0.0 queued\r\n");
        peer.happened(&["1: c@d + 250 Content, e@f + 250 Content, g@h + 250 Content"]);
        assert!(peer.conn.is_idle());
    });
}

#[test]
fn c_cli_08_the_next_message_behind_the_dot() {
    ready(settings(), DATA, |peer| {
        for text in ["1\r\n", "2\r\n"] {
            peer.send(&["c@d"], text);
        }
        peer.conn.quit().unwrap();
        peer.turn();
        let group = "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n";
        peer.hears(group);
        peer.say("250 ok\r\n250 ok\r\n354 go\r\n");
        peer.hears(&format!("1\r\n.\r\n{group}"));
        // One round trip a message; C-CLI-30: no RSET between them.
        peer.say("250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n");
        peer.hears("2\r\n.\r\nQUIT\r\n");
        peer.say("250 ok\r\n221 bye\r\n");
        peer.happened(&[
            "1: c@d + 250 Content",
            "2: c@d + 250 Content",
            "QUIT 221",
            "disconnect: the session was ended by QUIT",
        ]);
    });
}

#[test]
fn c_cli_06_lock_step_without_pipelining() {
    for settings in [settings(), ClientSettings { pipelining: false, ..settings() }] {
        let offer = if settings.pipelining { "" } else { DATA };
        ready(settings, offer, |peer| {
            peer.send(&["c@d", "e@f"], "hi\r\n");
            for (line, reply) in [
                ("MAIL FROM:<a@b>\r\n", "250 ok\r\n"),
                ("RCPT TO:<c@d>\r\n", "250 ok\r\n"),
                ("RCPT TO:<e@f>\r\n", "251 will forward to <x@y>\r\n"),
                ("DATA\r\n", "354 go\r\n"),
                ("hi\r\n.\r\n", "250 ok\r\n"),
            ] {
                peer.hears(line);
                peer.say(reply);
            }
            // C-CLI-35: 251 counts as accepted.
            peer.happened(&["1: c@d + 250 Content, e@f + 250 Content"]);
        });
    }
}

#[test]
fn nobody_accepts_without_pipelining() {
    ready(settings(), "", |peer| {
        peer.send(&["c@d"], "1\r\n");
        peer.send(&["e@f"], "2\r\n");
        peer.say("250 ok\r\n");
        peer.say("550 no\r\n");
        // No DATA for nobody; the transaction that is open is dropped before the next.
        peer.hears("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRSET\r\n");
        peer.say("250 ok\r\n");
        peer.hears("MAIL FROM:<a@b>\r\n");
        peer.say("550 no\r\n");
        peer.hears("");
        // C-CLI-15
        peer.happened(&["1: c@d - 550 Rcpt", "2: e@f - 550 Mail"]);
    });
}

// ---- refusals ----

#[test]
fn c_cli_13_some_recipients_are_refused() {
    ready(settings(), DATA, |peer| {
        peer.send(&["c@d", "e@f", "g@h"], "hi\r\n");
        peer.heard();
        peer.say("250 ok\r\n250 ok\r\n550 5.1.1 no\r\n451 4.2.0 later\r\n354 go\r\n");
        peer.hears("hi\r\n.\r\n");
        peer.say("250 ok\r\n");
        peer.happened(&["1: c@d + 250 Content, e@f - 550 Rcpt, g@h - 451 Rcpt"]);
    });
}

#[test]
fn c_cli_10_all_replies_of_a_group_are_read() {
    ready(settings(), DATA, |peer| {
        peer.send(&["c@d"], "1\r\n");
        peer.send(&["c@d"], "2\r\n");
        peer.heard();
        peer.say("550 no\r\n503 no\r\n");
        peer.hears("");
        peer.say("503 no\r\n");
        peer.happened(&["1: c@d - 550 Mail"]);
        // MAIL was refused: there is no transaction to drop.
        peer.hears("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n");
        peer.say("250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n");
        peer.happened(&["2: c@d + 250 Content"]);
    });
}

#[test]
fn c_cli_11_and_12_the_lone_dot() {
    // C-CLI-11: RCPT refused. C-CLI-12: MAIL refused.
    for (mail, rcpt, fate) in [("250", "550", "550 Rcpt"), ("450", "250", "450 Mail")] {
        for end in ["554 no", "250 queued"] {
            ready(settings(), DATA, |peer| {
                peer.send(&["c@d"], "secret\r\n");
                peer.heard();
                peer.say(format!("{mail} x\r\n{rcpt} x\r\n354 go\r\n"));
                peer.hears(".\r\n");
                peer.say(format!("{end}\r\n"));
                peer.happened(&[&format!("1: c@d - {fate}")]);
                peer.send(&["e@f"], "next\r\n");
                peer.hears("MAIL FROM:<a@b>\r\nRCPT TO:<e@f>\r\nDATA\r\n");
            });
        }
    }
}

#[test]
fn data_refused() {
    ready(settings(), DATA, |peer| {
        peer.send(&["c@d", "e@f"], "hi\r\n");
        peer.send(&["g@h"], "hi\r\n");
        peer.heard();
        peer.say("250 ok\r\n250 ok\r\n550 no\r\n451 4.3.0 later\r\n");
        peer.happened(&["1: c@d - 451 Data, e@f - 550 Rcpt"]);
        // The transaction is still open over there.
        peer.hears("RSET\r\nMAIL FROM:<a@b>\r\nRCPT TO:<g@h>\r\nDATA\r\n");
        peer.say("250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n552 5.3.4 too big\r\n");
        peer.happened(&["2: g@h - 552 Content"]);
    });
}

#[test]
fn c_cli_24_mail_refused_for_its_size() {
    for code in ["552", "452"] {
        ready(settings(), "SIZE 1000", |peer| {
            peer.send(&["c@d"], "hi\r\n");
            peer.say(format!("{code} no\r\n"));
            peer.hears("MAIL FROM:<a@b> SIZE=4\r\n");
            peer.happened(&[&format!("1: c@d - {code} Mail")]);
        });
    }
}

#[test]
fn c_cli_14_replies_of_the_wrong_kind() {
    let all = ["MAIL FROM:<a@b>\r\n", "RCPT TO:<c@d>\r\n", "DATA\r\n", "hi\r\n.\r\n"];
    let right = ["250 ok\r\n", "250 ok\r\n", "354 go\r\n", "250 ok\r\n"];
    let wrong = ["354 go\r\n", "334 hm\r\n", "250 ok\r\n", "354 go\r\n"];
    for at in 0..all.len() {
        ready(settings(), "", |peer| {
            peer.send(&["c@d"], "hi\r\n");
            for step in 0..at {
                peer.hears(all[step]);
                peer.say(right[step]);
            }
            peer.hears(all[at]);
            peer.say(wrong[at]);
            peer.hears(""); // no content, no next command
            let failure = if at == 3 { "Unknown" } else { "Lost" };
            let events = peer.events();
            assert_eq!(events[0], format!("1: c@d - ? ({failure})"));
            assert!(events[1].starts_with("disconnect: the server's reply does not answer"));
        });
    }
}

#[test]
fn c_rpl_04_the_first_digit_is_enough() {
    for (code, fate) in [("299", "+ 250 Content"), ("599", "- 599 Rcpt"), ("499", "- 499 Rcpt")] {
        ready(settings(), "", |peer| {
            peer.send(&["x@y", "c@d"], "hi\r\n");
            for reply in ["250 a\r\n", "250 a\r\n", &format!("{code} what\r\n"), "354 go\r\n", "250 ok\r\n"] {
                peer.say(reply);
            }
            peer.happened(&[&format!("1: x@y + 250 Content, c@d {fate}")]);
        });
    }
}

#[test]
fn c_cli_09_replies_count_by_order() {
    ready(settings(), DATA, |peer| {
        peer.send(&["c@d"], "hi\r\n");
        peer.say("250 RCPT\r\n221 MAIL\r\n354 end\r\n250 DATA\r\n");
        peer.happened(&["1: c@d + 250 Content"]);
    });
}

// ---- ends ----

#[test]
fn c_cli_16_a_421_ends_all() {
    ready(settings(), DATA, |peer| {
        peer.send(&["c@d", "e@f"], "hi\r\n");
        peer.send(&["g@h"], "hi\r\n");
        peer.heard();
        peer.say("250 ok\r\n550 no\r\n421 4.3.2 down\r\n250 stray\r\n");
        peer.happened(&[
            "1: c@d - 550 Rcpt, e@f - 421 Rcpt",
            "2: g@h - ? (Lost)",
            "disconnect: the server ends the session: 421 4.3.2 down",
        ]);
        peer.hears("");
        assert_eq!(peer.conn.unfinished(), 0);
    });
    // As the reply to the content it is an outcome.
    ready(settings(), DATA, |peer| {
        peer.send(&["c@d"], "hi\r\n");
        peer.say("250 ok\r\n250 ok\r\n354 go\r\n421 4.3.2 down\r\n");
        let events = peer.events();
        assert_eq!(events[0], "1: c@d - 421 Content");
    });
}

#[test]
fn c_cli_17_lost_and_unknown() {
    let replies = ["250 ok\r\n", "250 ok\r\n", "354 go\r\n"];
    for said in 0..=replies.len() {
        ready(settings(), DATA, |peer| {
            peer.send(&["c@d"], "hi\r\n");
            peer.send(&["e@f"], "hi\r\n");
            peer.say(replies[..said].concat());
            peer.eof();
            let failure = if said == replies.len() { "Unknown" } else { "Lost" };
            peer.happened(&[
                &format!("1: c@d - ? ({failure})"),
                "2: e@f - ? (Lost)",
                "disconnect: the server closed the connection",
            ]);
        });
    }
    // C-CLI-20: a recipient that was too many at first, and in the second transaction got as far as the dot.
    ready(settings(), DATA, |peer| {
        peer.send(&["p@x", "q@x"], "hi\r\n");
        peer.say("250 ok\r\n250 ok\r\n452 4.5.3 many\r\n354 go\r\n250 first\r\n");
        peer.say("250 ok\r\n250 ok\r\n354 go\r\n");
        peer.eof();
        assert_eq!(peer.events()[0], "1: p@x + 250 Content, q@x - ? (Unknown)");
    });
    // The limit of transactions is no reason to call a message unsent that may have been taken.
    ready(settings(), "PIPELINING, LIMITS MAILMAX=1 RCPTMAX=1", |peer| {
        peer.send(&["p@x", "q@x"], "hi\r\n");
        peer.say("250 ok\r\n250 ok\r\n354 go\r\n");
        peer.eof();
        assert_eq!(peer.events()[0], "1: p@x - ? (Unknown), q@x - ? (Unknown)".replace(" (Unknown),", ","));
    });
    // A refusal that is known stands, whatever comes after it.
    ready(settings(), DATA, |peer| {
        peer.send(&["c@d", "e@f"], "hi\r\n");
        peer.say("250 ok\r\n550 no\r\n250 ok\r\n354 go\r\n");
        peer.timeout();
        assert_eq!(peer.events()[0], "1: c@d - 550 Rcpt, e@f - ? (Unknown)");
    });
    ready(settings(), BDAT, |peer| {
        peer.send(&["c@d"], "hi\r\n");
        peer.send(&["e@f"], "hi\r\n");
        peer.say("550 no\r\n503 no\r\n");
        peer.eof();
        // Nobody can have got the first.
        assert_eq!(peer.events()[..2], ["1: c@d - 550 Mail", "2: e@f - ? (Unknown)"]);
    });
}

#[test]
fn c_cli_33_a_refusal_while_content_is_sent() {
    for reply in ["552 5.3.4 enough", "451 4.3.1 full", "421 4.3.2 down"] {
        ready(settings(), DATA, |peer| {
            let id = peer.stream(&["c@d"], Facts::default());
            peer.say("250 ok\r\n250 ok\r\n354 go\r\n");
            assert_eq!(peer.conn.content_wanted(), Some(id));
            assert!(peer.piece(id, "half\r\n"));
            peer.say(format!("{reply}\r\n"));
            assert!(!peer.heard().contains("\r\n.\r\n"));
            assert!(!peer.piece(id, "more\r\n"));
            let code = &reply[..3];
            let refused = format!("disconnect: the server refused while content was sent: {reply}");
            peer.happened(&[&format!("1: c@d - {code} Content"), &refused]);
        });
    }
}

// ---- content ----

#[test]
fn c_dat_22_to_24_content_as_it_is_sent() {
    for (content, wire) in [
        ("", ".\r\n"),
        ("a", "a\r\n.\r\n"),
        ("a\r\n", "a\r\n.\r\n"),
        ("a\r", "a\r\n.\r\n"),
        ("a\nb", "a\r\nb\r\n.\r\n"),
        ("a\rb\r\n", "a\r\nb\r\n.\r\n"),
        ("a\r\r\nb", "a\r\n\r\nb\r\n.\r\n"),
        (".\r\n..\r\na.\r\n", "..\r\n...\r\na.\r\n.\r\n"),
        ("a\n.\nb\n", "a\r\n..\r\nb\r\n.\r\n"),
    ] {
        ready(settings(), DATA, |peer| {
            peer.send(&["c@d"], content);
            peer.say("250 ok\r\n250 ok\r\n354 go\r\n");
            assert!(peer.heard().ends_with(&format!("DATA\r\n{wire}")), "{content:?}");
        });
        // In pieces of one octet.
        ready(settings(), DATA, |peer| {
            let id = peer.stream(&["c@d"], Facts::default());
            peer.say("250 ok\r\n250 ok\r\n354 go\r\n");
            peer.heard();
            for octet in content.as_bytes() {
                peer.piece(id, &char::from(*octet).to_string());
            }
            peer.end(id);
            peer.hears(wire);
        });
    }
}

#[test]
fn c_dat_23_bare_newlines_refused() {
    let settings = ClientSettings { newlines: Newlines::Reject, ..settings() };
    ready(settings.clone(), DATA, |peer| {
        peer.send(&["c@d"], "ab\ncd");
        peer.hears("");
        peer.happened(&["1: c@d - ? (BareNewline(2))"]);
        peer.send(&["c@d"], "ab\r\n");
        assert!(peer.heard().starts_with("MAIL"));
    });
    ready(settings, DATA, |peer| {
        let id = peer.stream(&["c@d"], Facts::default());
        peer.say("250 ok\r\n250 ok\r\n354 go\r\n");
        peer.piece(id, "ab\r");
        peer.piece(id, "cd");
        assert!(peer.conn.is_closed());
        assert!(!peer.heard().contains("\r\n.\r\n"));
        assert_eq!(peer.events()[0], "1: c@d - ? (BareNewline(2))");
    });
}

#[test]
fn c_dat_25_content_that_is_given_up() {
    ready(settings(), DATA, |peer| {
        let id = peer.stream(&["c@d"], Facts::default());
        peer.say("250 ok\r\n250 ok\r\n354 go\r\n");
        peer.piece(id, "half");
        peer.conn.abort_content(id).unwrap();
        peer.turn();
        assert!(peer.heard().ends_with("half"));
        assert!(peer.conn.is_closed());
        assert_eq!(peer.events()[0], "1: c@d - ? (Aborted)");
    });
    // Before the connection got to it, nothing happens at all.
    ready(settings(), DATA, |peer| {
        peer.send(&["x@y"], "hi\r\n");
        let id = peer.stream(&["c@d"], Facts::default());
        peer.conn.abort_content(id).unwrap();
        peer.say("250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n");
        peer.happened(&["1: x@y + 250 Content", "2: c@d - ? (Aborted)"]);
        assert!(peer.conn.is_idle());
    });
    // Between chunks RSET says it.
    ready(settings(), BDAT, |peer| {
        let id = peer.stream(&["c@d"], Facts::default());
        peer.piece(id, "half");
        peer.conn.abort_content(id).unwrap();
        peer.send(&["e@f"], "hi\r\n");
        peer.say("250 ok\r\n250 ok\r\n250 ok\r\n");
        let heard = peer.heard();
        assert!(heard.contains("BDAT 4\r\nhalfRSET\r\nMAIL FROM:<a@b>\r\n"), "{heard}");
        peer.happened(&["1: c@d - ? (Aborted)"]);
    });
}

#[test]
fn c_cli_25_eight_bit_content() {
    ready(settings(), "8BITMIME", |peer| {
        peer.send(&["c@d"], "Subject: x\r\n\r\né\r\n");
        peer.hears("MAIL FROM:<a@b> BODY=8BITMIME\r\n");
    });
    ready(settings(), "8BITMIME", |peer| {
        peer.send(&["c@d"], "seven bits\r\n");
        peer.hears("MAIL FROM:<a@b>\r\n");
    });
    ready(settings(), "", |peer| {
        peer.send(&["c@d"], "Subject: x\r\n\r\né\r\n");
        peer.hears("");
        peer.happened(&["1: c@d - ? (Need(EightBitMime))"]);
    });
    ready(ClientSettings { force_8bit: true, ..settings() }, "", |peer| {
        peer.send(&["c@d"], "Subject: x\r\n\r\né\r\n");
        peer.hears("MAIL FROM:<a@b>\r\n");
    });
    // Of a stream nobody knows before.
    ready(settings(), "8BITMIME", |peer| {
        peer.stream(&["c@d"], Facts::default());
        peer.hears("MAIL FROM:<a@b> BODY=8BITMIME\r\n");
    });
    ready(settings(), DATA, |peer| {
        let id = peer.stream(&["c@d"], Facts::default());
        peer.say("250 ok\r\n250 ok\r\n354 go\r\n");
        peer.piece(id, "é");
        assert!(peer.conn.is_closed());
        assert_eq!(peer.events()[0], "1: c@d - ? (EightBit)");
    });
}

#[test]
fn c_cli_26_smtputf8_where_it_is_needed() {
    let offer = "8BITMIME, SMTPUTF8";
    ready(settings(), offer, |peer| {
        peer.send(&["ü@x"], "hi\r\n");
        peer.hears("MAIL FROM:<a@b> SMTPUTF8\r\n");
    });
    let asks = |content: &[u8], utf8_header| {
        let Envelope { sender, recipients } = Envelope::parse("a@b", ["c@d"]).unwrap();
        NewMessage::whole(sender, recipients, content.to_vec()).with_utf8_header(utf8_header)
    };
    let (utf8, latin1) = ("Subject: ü\r\n\r\nhi\r\n".as_bytes(), b"Subject: \xfc\r\n\r\nhi\r\n");
    // FAULTS C10: 8-bit header fields alone are no reason; the program asks, and the header section has to be UTF-8.
    let cases: [(&[u8], Option<bool>, &str); 8] = [
        (utf8, None, " BODY=8BITMIME"),
        (utf8, Some(false), " BODY=8BITMIME"),
        (utf8, Some(true), " BODY=8BITMIME SMTPUTF8"),
        (latin1, None, " BODY=8BITMIME"),
        (latin1, Some(false), " BODY=8BITMIME"),
        (latin1, Some(true), " BODY=8BITMIME"),
        (b"Subject: u\r\n\r\nhi\r\n", Some(true), ""),
        (b"Subject: u\r\n\r\n\xfc\r\n", Some(true), " BODY=8BITMIME"),
    ];
    for (content, utf8_header, parameters) in cases {
        ready(settings(), offer, |peer| {
            peer.queue(asks(content, utf8_header));
            peer.hears(&format!("MAIL FROM:<a@b>{parameters}\r\n"));
        });
        let smtputf8 = parameters.contains("SMTPUTF8");
        ready(settings(), "8BITMIME", |peer| {
            peer.queue(asks(content, utf8_header));
            peer.hears(&if smtputf8 { String::new() } else { format!("MAIL FROM:<a@b>{parameters}\r\n") });
        });
        // What the sender's parameters ask for counts where the program says no more.
        ready(settings(), offer, |peer| {
            peer.queue(with_mail("SMTPUTF8", content).with_utf8_header(utf8_header));
            assert_eq!(peer.heard().contains("SMTPUTF8"), content == utf8 && utf8_header != Some(false));
        });
        // By BDAT, LMTP and step by step it is the same.
        ready(ClientSettings { lmtp: true, ..settings() }, "8BITMIME, SMTPUTF8, CHUNKING, PIPELINING", |peer| {
            peer.queue(asks(content, utf8_header));
            assert_eq!(peer.heard().contains("SMTPUTF8"), smtputf8);
        });
        ready(settings(), "8BITMIME, CHUNKING", |peer| {
            let Envelope { sender, recipients } = Envelope::parse("a@b", ["c@d"]).unwrap();
            let facts = Facts { eight_bit: Some(true), utf8_header: Some(false), ..Facts::default() };
            let id = peer.conn.mail(sender, facts).unwrap();
            peer.turn();
            peer.hears("MAIL FROM:<a@b> BODY=8BITMIME\r\n");
            peer.say("250 ok\r\n");
            peer.conn.rcpt(id, recipients[0].clone()).unwrap();
            peer.conn.give_content(id, Some(content.to_vec())).unwrap();
            peer.turn();
            peer.hears("RCPT TO:<c@d>\r\n");
            peer.say("250 ok\r\n");
            assert!(peer.heard().starts_with("BDAT"));
        });
    }
    // 8-bit octets behind the header section are no matter of SMTPUTF8; an A-label is ASCII.
    ready(settings(), offer, |peer| {
        peer.send(&["c@xn--bcher-kva.example"], "Subject: x\r\n\r\nü\r\n");
        peer.hears("MAIL FROM:<a@b> BODY=8BITMIME\r\n");
    });
    ready(settings(), "8BITMIME", |peer| {
        peer.send(&["ü@x"], "hi\r\n");
        peer.queue(asks(utf8, Some(true)));
        peer.hears("");
        peer.happened(&["1: ü@x - ? (Need(Smtputf8))", "2: c@d - ? (Need(Smtputf8))"]);
    });
}

/// RFC 9422 4: a transaction step by step says no more recipients than the peer takes. The others are 452 without RCPT.
#[test]
fn limits_hold_in_a_transaction_step_by_step() {
    let (two, domain) = ("PIPELINING, LIMITS RCPTMAX=2", "PIPELINING, LIMITS RCPTDOMAINMAX=1");
    for (offer, to, said, refused) in [
        (two, ["c@d", "e@f", "g@h", "i@j"], ["c@d", "e@f"], ["g@h", "i@j"]),
        (domain, ["c@d", "e@f", "g@D", "i@j"], ["c@d", "g@D"], ["e@f", "i@j"]),
    ] {
        ready(settings(), offer, |peer| {
            let Envelope { sender, .. } = Envelope::parse("a@b", ["c@d"]).unwrap();
            let id = peer.conn.mail(sender, Facts { eight_bit: Some(false), ..Facts::default() }).unwrap();
            for one in to {
                let Envelope { recipients, .. } = Envelope::parse("a@b", [one]).unwrap();
                peer.conn.rcpt(id, recipients[0].clone()).unwrap();
            }
            peer.turn();
            peer.hears(&format!("MAIL FROM:<a@b>\r\nRCPT TO:<{}>\r\nRCPT TO:<{}>\r\n", said[0], said[1]));
            peer.happened(&["RCPT 452", "RCPT 452"]);
            peer.say("250 ok\r\n250 ok\r\n250 ok\r\n");
            peer.happened(&["MAIL 250", "RCPT 250", "RCPT 250"]);
            peer.conn.give_content(id, Some(b"hi\r\n".to_vec())).unwrap();
            peer.turn();
            peer.hears("DATA\r\n");
            peer.say("354 go\r\n250 ok\r\n");
            let result = peer.events().pop().unwrap();
            for one in said {
                assert!(result.contains(&format!("{one} + 250 Content")), "{result}");
            }
            for one in refused {
                assert!(result.contains(&format!("{one} - 452 Rcpt")), "{result}");
            }
        });
    }
}

#[test]
fn c_cli_22_and_23_size() {
    // C-CLI-22: more than the peer takes. C-CLI-23: SIZE is sent where it is offered and known.
    ready(settings(), "SIZE 100", |peer| {
        peer.send(&["c@d"], &"x".repeat(99)); // 101 octets with the CRLF that is missing
        peer.hears("");
        peer.happened(&["1: c@d - ? (Need(Size { octets: 101, limit: 100 }))"]);
        peer.send(&["c@d"], "Subject: \n.\n"); // lines with CRLF, unstuffed
        peer.hears("MAIL FROM:<a@b> SIZE=14\r\n");
    });
    ready(settings(), "SIZE", |peer| {
        peer.stream(&["c@d"], Facts { size: Some(57), ..Facts::default() });
        peer.hears("MAIL FROM:<a@b> SIZE=57\r\n");
    });
    ready(settings(), "", |peer| {
        peer.send(&["c@d"], "hi\r\n");
        peer.hears("MAIL FROM:<a@b>\r\n");
    });
}

// ---- parameters ----

#[test]
fn c_par_35_only_what_is_offered() {
    let needs = [
        ("RET=HDRS", "DSN", "Dsn"),
        ("ENVID=x", "DSN", "Dsn"),
        ("BY=60;R", "DELIVERBY", "DeliverBy"),
        ("HOLDFOR=60", "FUTURERELEASE 3600 2030-01-01T00:00:00Z", "FutureRelease"),
        ("MT-PRIORITY=3", "MT-PRIORITY", "MtPriority"),
        ("X-FOO=1", "X-FOO", "Parameter(\"X-FOO\")"),
    ];
    for (parameter, keyword, need) in needs {
        ready(settings(), keyword, |peer| {
            peer.queue(with_mail(parameter, "hi\r\n"));
            peer.hears(&format!("MAIL FROM:<a@b> {parameter}\r\n"));
        });
        ready(settings(), "", |peer| {
            peer.queue(with_mail(parameter, "hi\r\n"));
            peer.hears("");
            peer.happened(&[&format!("1: c@d - ? (Need({need}))")]);
        });
    }
    for (parameter, keyword, need) in [
        ("NOTIFY=SUCCESS,DELAY", "DSN", "Dsn"),
        ("ORCPT=rfc822;x@y", "DSN", "Dsn"),
        ("RRVS=2024-01-01T00:00:00Z", "RRVS", "Rrvs"),
    ] {
        ready(settings(), &format!("{keyword}, PIPELINING"), |peer| {
            peer.queue(with_rcpt(parameter));
            peer.hears(&format!("MAIL FROM:<a@b>\r\nRCPT TO:<c@d> {parameter}\r\nDATA\r\n"));
        });
        ready(settings(), "", |peer| {
            peer.queue(with_rcpt(parameter));
            peer.happened(&[&format!("1: c@d - ? (Need({need}))")]);
        });
    }
}

#[test]
fn limits_of_what_is_offered() {
    for (parameter, keyword) in [("BY=60;R", "DELIVERBY 100"), ("HOLDFOR=60", "FUTURERELEASE 59 2030-01-01T00:00:00Z")]
    {
        ready(settings(), keyword, |peer| {
            peer.queue(with_mail(parameter, "hi\r\n"));
            assert!(peer.events()[0].contains("(Need("), "{parameter}");
        });
    }
    // RFC 2852 4: the minimum concerns mode R only.
    ready(settings(), "DELIVERBY 100", |peer| {
        peer.queue(with_mail("BY=60;N", "hi\r\n"));
        peer.hears("MAIL FROM:<a@b> BY=60;N\r\n");
    });
    // RFC 4954 5: who submitted a message is told to those only that speak AUTH.
    ready(settings(), "", |peer| {
        peer.queue(with_mail("AUTH=x@y", "hi\r\n"));
        peer.hears("MAIL FROM:<a@b>\r\n");
    });
}

#[test]
fn c_cli_37_dsn_may_be_dropped_by_choice() {
    let settings = ClientSettings { drop_dsn: true, ..settings() };
    ready(settings.clone(), DATA, |peer| {
        peer.queue(with_mail("RET=HDRS ENVID=x", "hi\r\n"));
        peer.hears("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n");
    });
    ready(settings, DATA, |peer| {
        peer.queue(with_rcpt("NOTIFY=NEVER"));
        peer.hears("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n");
    });
}

#[test]
fn c_aut_35_a_relay_says_who_submitted() {
    for (relay_auth, logged_in, text, expected) in [
        (true, true, "", "MAIL FROM:<a@b> AUTH=<>\r\n"),
        (true, true, "AUTH=x@y", "MAIL FROM:<a@b> AUTH=x@y\r\n"),
        (true, false, "", "MAIL FROM:<a@b>\r\n"),
        (false, true, "", "MAIL FROM:<a@b>\r\n"),
    ] {
        let settings = ClientSettings { relay_auth, ..settings() };
        ready(settings, "AUTH PLAIN", |peer| {
            if logged_in {
                peer.conn.auth("PLAIN", Some(b"\0a\0b")).unwrap();
                peer.turn();
                peer.hears("AUTH PLAIN AGEAYg==\r\n");
                peer.say("235 ok\r\n");
                peer.happened(&["AUTH 235"]);
            }
            peer.queue(with_mail(text, "hi\r\n"));
            peer.hears(expected);
        });
    }
}

#[test]
fn c_cli_38_requiretls_needs_tls_and_the_keyword() {
    for (tls, keyword) in [(None, "REQUIRETLS"), (Some(true), "8BITMIME"), (Some(false), "REQUIRETLS")] {
        each_way(settings(), |peer| {
            if let Some(verified) = tls {
                peer.conn.tls_established(verified).unwrap();
            }
            peer.say("220 mx\r\n");
            peer.offer(keyword);
            peer.queue(with_mail("REQUIRETLS", "hi\r\n"));
            peer.happened(&["ready", "1: c@d - ? (Need(RequireTls))"]);
        });
    }
    each_way(settings(), |peer| {
        peer.conn.tls_established(true).unwrap();
        peer.say("220 mx\r\n");
        peer.offer("REQUIRETLS");
        peer.queue(with_mail("REQUIRETLS", "hi\r\n"));
        assert!(peer.heard().ends_with("MAIL FROM:<a@b> REQUIRETLS\r\n"));
    });
}

#[test]
fn c_cli_27_and_28_arguments() {
    // C-CLI-27: no CR, LF, NUL. C-CLI-28: no longer line than the peer has to take.
    for bad in ["a@b>\r\nRCPT TO:<x", "a@b\n", "a\0@b", "a b@c"] {
        assert!(Envelope::parse(bad, ["c@d"]).is_err(), "{bad:?}");
        assert!(Envelope::parse("a@b", [bad]).is_err(), "{bad:?}");
    }
    // An option of the server's side lets longer local parts in; a line stays a line.
    let options = Options { max_local_part: 2000, ..Options::default() };
    let long = format!("{}@d", "x".repeat(600));
    let path = ehlo::syntax::address::ForwardPath::parse(&long, &options).unwrap().into_owned();
    let recipient = Arc::new(Recipient { path, parameters: RcptParameters::default() });
    ready(settings(), "", |peer| {
        let sender = Envelope::parse("a@b", []).unwrap().sender;
        peer.queue(NewMessage::whole(sender, vec![recipient.clone()], Vec::new()));
        assert!(peer.events()[0].ends_with("(Need(LineLength))"));
    });
    let sender = Envelope::parse("", []).unwrap().sender;
    each_way(settings(), |peer| {
        let message = NewMessage::whole(sender.clone(), Vec::new(), Vec::new());
        assert_eq!(peer.conn.queue(message), Err(ClientMisuse::NoRecipients));
    });
}

#[test]
fn c_cli_36_the_null_reverse_path() {
    ready(settings(), "", |peer| {
        let Envelope { sender, recipients } = Envelope::parse("<>", ["Postmaster"]).unwrap();
        peer.queue(NewMessage::whole(sender, recipients, b"hi\r\n".to_vec()));
        peer.say("250 ok\r\n");
        peer.hears("MAIL FROM:<>\r\nRCPT TO:<Postmaster>\r\n");
    });
}

// ---- several transactions ----

#[test]
fn c_cli_21_more_recipients_than_rcptmax() {
    ready(settings(), "PIPELINING, LIMITS RCPTMAX=2", |peer| {
        peer.send(&["1@x", "2@x", "3@x"], "hi\r\n");
        peer.hears("MAIL FROM:<a@b>\r\nRCPT TO:<1@x>\r\nRCPT TO:<2@x>\r\nDATA\r\n");
        peer.say("250 ok\r\n250 ok\r\n550 no\r\n354 go\r\n");
        peer.hears("hi\r\n.\r\nMAIL FROM:<a@b>\r\nRCPT TO:<3@x>\r\nDATA\r\n");
        peer.say("250 1\r\n250 ok\r\n250 ok\r\n354 go\r\n");
        peer.happened(&[]);
        peer.hears("hi\r\n.\r\n");
        peer.say("452 4.3.1 full\r\n");
        peer.happened(&["1: 1@x + 250 Content, 2@x - 550 Rcpt, 3@x - 452 Content"]);
    });
    ready(ClientSettings { max_recipients: 1, ..settings() }, DATA, |peer| {
        peer.send(&["1@x", "2@x"], "hi\r\n");
        peer.hears("MAIL FROM:<a@b>\r\nRCPT TO:<1@x>\r\nDATA\r\n");
    });
    ready(settings(), "PIPELINING, LIMITS RCPTDOMAINMAX=1", |peer| {
        peer.send(&["1@x", "2@y", "3@X"], "hi\r\n");
        peer.hears("MAIL FROM:<a@b>\r\nRCPT TO:<1@x>\r\nRCPT TO:<3@X>\r\nDATA\r\n");
    });
    // Content that comes once goes out once.
    ready(settings(), "LIMITS RCPTMAX=2", |peer| {
        peer.stream(&["1@x", "2@x", "3@x"], Facts::default());
        peer.hears("");
        peer.happened(&["1: 1@x - ?, 2@x - ?, 3@x - ? (Need(OneTransaction))"]);
    });
}

#[test]
fn c_cli_21_mailmax() {
    ready(settings(), "PIPELINING, LIMITS MAILMAX=1", |peer| {
        assert_eq!(peer.conn.mail_left(), Some(1));
        peer.send(&["1@x"], "hi\r\n");
        peer.send(&["2@x"], "hi\r\n");
        peer.say("250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n");
        peer.happened(&["1: 1@x + 250 Content", "2: 2@x - ? (MailMax)"]);
        peer.hears("MAIL FROM:<a@b>\r\nRCPT TO:<1@x>\r\nDATA\r\nhi\r\n.\r\n");
        assert_eq!(peer.conn.mail_left(), Some(0));
    });
}

#[test]
fn c_cli_20_too_many_recipients_go_again() {
    for code in ["452 4.5.3", "552 5.5.3"] {
        ready(settings(), DATA, |peer| {
            peer.send(&["1@x", "2@x", "3@x"], "hi\r\n");
            peer.send(&["9@x"], "other\r\n");
            peer.heard();
            peer.say(format!("250 ok\r\n250 ok\r\n{code} too many\r\n{code} too many\r\n354 go\r\n250 first\r\n"));
            assert!(peer.heard().starts_with("hi\r\n.\r\nMAIL FROM:<a@b>\r\nRCPT TO:<9@x>\r\nDATA\r\n"));
            // The results keep their order, so the second waits for the rest of the first.
            peer.say("250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n");
            peer.happened(&[]);
            peer.hears("other\r\n.\r\nMAIL FROM:<a@b>\r\nRCPT TO:<2@x>\r\nRCPT TO:<3@x>\r\nDATA\r\n");
            peer.say("250 ok\r\n250 ok\r\n550 no\r\n354 go\r\n250 second\r\n");
            peer.happened(&["1: 1@x + 250 Content, 2@x + 250 Content, 3@x - 550 Rcpt", "2: 9@x + 250 Content"]);
        });
    }
    // Where nobody was accepted there is no progress to be had.
    ready(settings(), DATA, |peer| {
        peer.send(&["1@x"], "hi\r\n");
        peer.say("250 ok\r\n452 4.5.3 too many\r\n554 nobody\r\n");
        peer.happened(&["1: 1@x - 452 Rcpt"]);
    });
}

// ---- BDAT ----

#[test]
fn bdat_in_one_group() {
    ready(settings(), BDAT, |peer| {
        peer.send(&["c@d"], ".hi\n");
        // C-BDT-28: counted after the newlines were made whole; not stuffed.
        peer.hears("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 5 LAST\r\n.hi\r\n");
        peer.say("250 ok\r\n250 ok\r\n");
        peer.send(&["e@f"], "");
        // RFC 3030 2: what the state is behind a BDAT that may fail, RSET makes certain.
        peer.hears("RSET\r\nMAIL FROM:<a@b>\r\nRCPT TO:<e@f>\r\nBDAT 0 LAST\r\n");
        peer.say("250 1\r\n250 reset\r\n250 ok\r\n250 ok\r\n250 2\r\n");
        // C-CLI-30: once it is answered well, nothing has to be made sure.
        peer.send(&["g@h"], "");
        peer.hears("MAIL FROM:<a@b>\r\nRCPT TO:<g@h>\r\nBDAT 0 LAST\r\n");
        peer.happened(&["1: c@d + 250 Content", "2: e@f + 250 Content"]);
    });
    // Without PIPELINING there is still no DATA.
    ready(settings(), "CHUNKING", |peer| {
        peer.send(&["c@d"], "hi\r\n");
        peer.say("250 ok\r\n");
        peer.say("250 ok\r\n");
        peer.hears("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 4 LAST\r\nhi\r\n");
    });
    ready(ClientSettings { chunking: Chunking::Never, ..settings() }, BDAT, |peer| {
        peer.send(&["c@d"], "hi\r\n");
        assert!(peer.heard().ends_with("DATA\r\n"));
    });
}

#[test]
fn messages_back_to_back_stay_apart() {
    ready(settings(), BDAT, |peer| {
        peer.send(&["c@d"], "1\r\n");
        peer.send(&["c@d"], "2\r\n");
        // Nobody knows yet what becomes of the first: RSET makes sure that the second begins anew.
        peer.hears(
            "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 3 LAST\r\n1\r\nRSET\r\n\
             MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 3 LAST\r\n2\r\n",
        );
        peer.say("250 ok\r\n550 no\r\n554 nobody\r\n250 reset\r\n250 ok\r\n250 ok\r\n250 ok\r\n");
        peer.happened(&["1: c@d - 550 Rcpt", "2: c@d + 250 Content"]);
        peer.send(&["c@d"], "3\r\n");
        peer.hears("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 3 LAST\r\n3\r\n");
    });
    ready(settings(), BDAT, |peer| {
        peer.send(&["c@d"], "1\r\n");
        peer.say("250 ok\r\n550 no\r\n554 nobody\r\n");
        peer.heard();
        peer.send(&["c@d"], "2\r\n");
        assert!(peer.heard().starts_with("RSET\r\nMAIL"));
    });
    ready(ClientSettings { window: 2, ..settings() }, BDAT, |peer| {
        for _ in 0..5 {
            peer.send(&["c@d"], "x\r\n");
        }
        assert_eq!(peer.heard().matches("MAIL").count(), 2);
        peer.say("250 ok\r\n250 ok\r\n250 ok\r\n");
        assert_eq!(peer.heard().matches("MAIL").count(), 1);
    });
}

#[test]
fn c_bdt_25_chunking_insisted_on() {
    ready(ClientSettings { chunking: Chunking::Always, ..settings() }, DATA, |peer| {
        peer.send(&["c@d"], "hi\r\n");
        peer.happened(&["1: c@d - ? (Need(Chunking))"]);
        peer.hears("");
    });
}

#[test]
fn c_bdt_26_after_a_refused_chunk() {
    ready(ClientSettings { chunk_size: 4, ..settings() }, BDAT, |peer| {
        peer.send(&["c@d"], "1\r\n2\r\n3\r\n4\r\n5\r\n");
        // The first goes with the envelope, the others when somebody is going to get them.
        peer.hears("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 4\r\n1\r\n2");
        peer.say("250 ok\r\n250 ok\r\n");
        peer.hears("BDAT 4\r\n\r\n3\rBDAT 4\r\n\n4\r\nBDAT 3 LAST\r\n5\r\n");
        peer.send(&["e@f"], "x\r\n");
        // It is not known what the peer makes of a chunk refused before the last.
        assert!(peer.heard().starts_with("RSET\r\nMAIL"));
        peer.say("552 5.3.4 too big\r\n503 no\r\n503 no\r\n503 no\r\n");
        peer.happened(&["1: c@d - 552 Content"]);
        peer.say("250 reset\r\n250 ok\r\n250 ok\r\n250 ok\r\n");
    });
    ready(ClientSettings { chunk_size: 4, ..settings() }, "CHUNKING", |peer| {
        peer.send(&["c@d"], "1\r\n2\r\n3\r\n");
        for reply in ["250 ok\r\n", "250 ok\r\n", "552 too big\r\n"] {
            peer.say(reply);
        }
        peer.hears("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 4\r\n1\r\n2");
        peer.happened(&["1: c@d - 552 Content"]);
        peer.send(&["c@d"], "x\r\n");
        peer.hears("RSET\r\n");
    });
}

#[test]
fn c_bdt_27_binary_content() {
    ready(settings(), BDAT, |peer| {
        peer.queue(with_mail("BODY=BINARYMIME", "a\nb\r"));
        peer.happened(&["1: c@d - ? (Need(BinaryMime))"]);
    });
    ready(settings(), "PIPELINING, CHUNKING, BINARYMIME, SIZE", |peer| {
        peer.queue(with_mail("BODY=BINARYMIME", "a\nb\r"));
        peer.hears("MAIL FROM:<a@b> SIZE=4 BODY=BINARYMIME\r\nRCPT TO:<c@d>\r\nBDAT 4 LAST\r\na\nb\r");
    });
}

#[test]
fn c_bdt_28_streams_are_counted_as_they_are_sent() {
    ready(settings(), BDAT, |peer| {
        let id = peer.stream(&["c@d"], Facts::default());
        peer.hears("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n");
        assert_eq!(peer.conn.content_wanted(), Some(id));
        peer.piece(id, "a\nb\r");
        peer.hears("BDAT 5\r\na\r\nb\r");
        assert_eq!(peer.conn.content_wanted(), None); // more when the envelope is answered
        peer.say("250 ok\r\n250 ok\r\n");
        assert_eq!(peer.conn.content_wanted(), Some(id));
        peer.piece(id, "c");
        peer.hears("BDAT 2\r\n\nc");
        peer.end(id);
        peer.hears("BDAT 2 LAST\r\n\r\n");
        peer.say("250 ok\r\n250 ok\r\n250 ok\r\n");
        peer.happened(&["1: c@d + 250 Content"]);
    });
    let exact = ClientSettings { newlines: Newlines::Exact, ..settings() };
    ready(exact.clone(), BDAT, |peer| {
        peer.send(&["c@d"], "a\nb\r");
        assert!(peer.heard().ends_with("BDAT 4 LAST\r\na\nb\r"));
    });
    ready(exact, DATA, |peer| {
        peer.send(&["c@d"], "a\nb\r");
        peer.happened(&["1: c@d - ? (Need(Chunking))"]);
    });
}

#[test]
fn a_stream_for_nobody_is_not_read() {
    for offer in [DATA, BDAT, "", "CHUNKING"] {
        ready(settings(), offer, |peer| {
            let id = peer.stream(&["c@d"], Facts::default());
            peer.say("250 ok\r\n");
            peer.say("550 no\r\n");
            if offer == DATA {
                peer.say("554 nobody\r\n");
            }
            assert_eq!(peer.conn.content_wanted(), None);
            peer.happened(&["1: c@d - 550 Rcpt"]);
            assert!(!peer.piece(id, "x"));
        });
    }
}

#[test]
fn rset_follows_a_failed_bdat_last() {
    // RFC 3030 2: "The resulting state from a failed BDAT command is indeterminate. A RSET command MUST be issued".
    ready(settings(), BDAT, |peer| {
        peer.send(&["c@d"], "hi\r\n");
        peer.say("250 ok\r\n250 ok\r\n552 5.3.4 too big\r\n");
        peer.happened(&["1: c@d - 552 Content"]);
        peer.heard();
        peer.send(&["e@f"], "hi\r\n");
        assert!(peer.heard().starts_with("RSET\r\nMAIL"));
    });
    ready(lmtp(), BDAT, |peer| {
        peer.send(&["c@d", "e@f"], "hi\r\n");
        peer.say("250 ok\r\n250 ok\r\n250 ok\r\n552 no\r\n250 yes\r\n");
        peer.heard();
        peer.send(&["e@f"], "hi\r\n");
        peer.hears("MAIL FROM:<a@b>\r\nRCPT TO:<e@f>\r\n");
    });
}

#[test]
fn content_given_up_between_chunks_does_not_run_into_the_next_message() {
    // C-DAT-25: the chunk that was sent is not answered yet, the envelope is.
    for fault in ["abort", "8bit"] {
        ready(settings(), BDAT, |peer| {
            let id = peer.stream(&["victim@x"], Facts::default());
            peer.say("250 ok\r\n250 ok\r\n");
            peer.piece(id, "half a message\r\n");
            peer.send(&["other@x"], "whole\r\n");
            if fault == "abort" {
                peer.conn.abort_content(id).unwrap();
            } else {
                peer.piece(id, "\u{e9}");
            }
            peer.turn();
            let heard = peer.heard();
            assert!(heard.contains("half a message\r\nRSET\r\nMAIL FROM:<a@b>\r\nRCPT TO:<other@x>\r\n"), "{heard}");
            peer.say("250 chunk\r\n250 reset\r\n250 ok\r\n250 ok\r\n250 ok\r\n");
            let events = peer.events();
            assert!(events[0].starts_with("1: victim@x - ? ("), "{events:?}");
            assert_eq!(events[1], "2: other@x + 250 Content");
        });
    }
}

#[test]
fn an_envelope_given_up_on_its_way_is_reset() {
    let paths: Vec<String> =
        (0..9000).map(|number| format!("recipient-number-{number}@a-rather-long.example")).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let mut peer_settings = settings();
    peer_settings.max_recipients = 10_000;
    ready(peer_settings, DATA, |peer| {
        let Envelope { sender, recipients } = Envelope::parse("a@b", paths.iter().copied()).unwrap();
        let id = peer.conn.queue(NewMessage::stream(sender, recipients, Facts::default())).unwrap();
        let first = peer.conn.output().len(); // not all of it fits
        assert!(first < 9000 * 50);
        peer.conn.abort_content(id).unwrap();
        let Envelope { sender, recipients } = Envelope::parse("a@b", ["e@f"]).unwrap();
        peer.conn.queue(NewMessage::whole(sender, recipients, Vec::new())).unwrap();
        peer.turn();
        assert!(peer.heard().ends_with("RSET\r\nMAIL FROM:<a@b>\r\nRCPT TO:<e@f>\r\nDATA\r\n"));
    });
}

#[test]
fn a_chunk_of_nothing_is_not_sent() {
    ready(ClientSettings { chunk_size: 1, ..settings() }, BDAT, |peer| {
        peer.send(&["c@d"], "\r\n\r");
        peer.say("250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n");
        assert!(!peer.heard().contains("BDAT 0\r\n"));
    });
}

#[test]
fn commands_that_no_transaction_may_surround() {
    ready(settings(), DATA, |peer| {
        peer.send(&["c@d"], "hi\r\n");
        peer.say("250 ok\r\n550 no\r\n554 nobody\r\n");
        peer.heard();
        peer.conn.auth("PLAIN", None).unwrap();
        peer.turn();
        peer.hears("RSET\r\nAUTH PLAIN\r\n");
    });
}

// ---- LMTP ----

#[test]
fn c_lmt_12_a_reply_for_each_accepted_recipient() {
    ready(lmtp(), DATA, |peer| {
        peer.send(&["a@x", "b@x", "c@x", "a@x"], "hi\r\n");
        peer.send(&["d@x"], "next\r\n");
        peer.heard();
        peer.say("250 ok\r\n250 ok\r\n550 no\r\n250 ok\r\n250 ok\r\n354 go\r\n");
        assert!(peer.heard().starts_with("hi\r\n.\r\nMAIL"));
        peer.say("250 one\r\n452-two\r\n452 lines\r\n");
        peer.happened(&[]);
        peer.say("550 three\r\n");
        peer.happened(&["1: a@x + 250 Content, b@x - 550 Rcpt, c@x - 452 Content, a@x - 550 Content"]);
        peer.say("250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n");
        peer.happened(&["2: d@x + 250 Content"]);
    });
    // By BDAT nothing is sent before it is known how many replies there will be.
    ready(lmtp(), BDAT, |peer| {
        peer.send(&["a@x", "b@x"], "hi\r\n");
        peer.hears("MAIL FROM:<a@b>\r\nRCPT TO:<a@x>\r\nRCPT TO:<b@x>\r\n");
        peer.say("250 ok\r\n250 ok\r\n250 ok\r\n");
        peer.hears("BDAT 4 LAST\r\nhi\r\n");
        peer.say("250 ok\r\n451 later\r\n");
        peer.happened(&["1: a@x + 250 Content, b@x - 451 Content"]);
    });
    ready(lmtp(), BDAT, |peer| {
        peer.send(&["a@x"], "hi\r\n");
        peer.send(&["b@x"], "hi\r\n");
        peer.say("250 ok\r\n550 no\r\n");
        peer.hears("MAIL FROM:<a@b>\r\nRCPT TO:<a@x>\r\nRSET\r\nMAIL FROM:<a@b>\r\nRCPT TO:<b@x>\r\n");
    });
}

#[test]
fn c_lmt_11_replies_that_came_count() {
    ready(lmtp(), DATA, |peer| {
        peer.send(&["a@x", "b@x"], "hi\r\n");
        peer.say("250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n");
        peer.eof();
        assert_eq!(peer.events()[0], "1: a@x + 250 Content, b@x - ? (Unknown)");
    });
}

#[test]
fn c_lmt_13_no_content_without_354() {
    ready(lmtp(), DATA, |peer| {
        peer.send(&["a@x"], "hi\r\n");
        peer.send(&["b@x"], "hi\r\n");
        peer.heard();
        peer.say("250 ok\r\n250 ok\r\n503 no\r\n");
        peer.happened(&["1: a@x - 503 Data"]);
        assert!(peer.heard().starts_with("RSET\r\nMAIL"));
    });
    // 354 for nobody: how many replies would follow is not written anywhere.
    ready(lmtp(), DATA, |peer| {
        peer.send(&["a@x"], "hi\r\n");
        peer.say("250 ok\r\n550 no\r\n354 go\r\n");
        assert!(peer.conn.is_closed());
        assert_eq!(peer.events()[0], "1: a@x - 550 Rcpt");
    });
}

#[test]
fn what_cannot_be_written_is_not_sent() {
    let Envelope { sender, recipients } = Envelope::parse("a@b", ["c@d", "e@f"]).unwrap();
    let parameters = MailParameters { raw: "X=\r\nQUIT".into(), ..MailParameters::default() };
    let sender = Arc::new(Sender { path: sender.path.clone(), parameters });
    ready(settings(), "PIPELINING, X", |peer| {
        peer.queue(NewMessage::whole(sender.clone(), recipients.clone(), Vec::new()));
        peer.send(&["g@h"], "");
        peer.hears("MAIL FROM:<a@b>\r\nRCPT TO:<g@h>\r\nDATA\r\n");
        assert!(peer.events()[0].ends_with("(Unwritable(ForbiddenOctet))"));
    });
}

// ---- size ----

#[test]
fn large_content_goes_out_in_bounded_pieces() {
    let content = "0123456789abcdef".repeat(1 << 18); // 4 MiB in one line
    for offer in [DATA, BDAT] {
        ready(settings(), offer, |peer| {
            let Envelope { sender, recipients } = Envelope::parse("a@b", ["c@d"]).unwrap();
            peer.conn.queue(NewMessage::whole(sender, recipients, content.clone().into_bytes())).unwrap();
            let mut sent = Vec::new();
            let mut replies = "250 ok\r\n250 ok\r\n354 go\r\n".to_owned();
            if offer == BDAT {
                replies = "250 ok\r\n250 ok\r\n".to_owned() + &"250 ok\r\n".repeat(17);
            }
            for reply in replies.split_inclusive("\r\n") {
                loop {
                    let output = peer.conn.output();
                    assert!(output.len() <= 2 * 256 * 1024 + 4096, "{}", output.len());
                    if output.is_empty() {
                        break;
                    }
                    sent.extend_from_slice(output);
                    peer.conn.clear_output();
                }
                if !peer.conn.is_idle() {
                    peer.conn.receive(reply.as_bytes());
                }
            }
            while !peer.conn.output().is_empty() {
                sent.extend_from_slice(peer.conn.output());
                peer.conn.clear_output();
            }
            assert!(sent.len() > content.len());
            assert!(sent.len() < content.len() + 4096);
        });
    }
}

/// Give output piece by piece; says which of them was the content itself.
fn outputs(conn: &mut ClientConnection) -> Vec<(Vec<u8>, bool)> {
    let mut pieces = Vec::new();
    loop {
        let octets = conn.output().to_vec();
        if octets.is_empty() {
            return pieces;
        }
        pieces.push((octets, conn.output_content().is_some()));
        conn.clear_output();
    }
}

#[test]
fn large_content_that_needs_no_change_is_not_copied() {
    let content = "line\r\n".repeat(5000);
    ready(settings(), DATA, |peer| {
        peer.send(&["c@d"], &content);
        peer.send(&["c@d"], "short\r\n");
        peer.say("250 ok\r\n250 ok\r\n");
        peer.heard();
        peer.conn.receive(b"354 go\r\n");
        assert_eq!(
            outputs(&mut peer.conn),
            [
                (content.clone().into_bytes(), true),
                (b".\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n".to_vec(), false),
            ]
        );
    });
    ready(settings(), BDAT, |peer| {
        let Envelope { sender, recipients } = Envelope::parse("a@b", ["c@d"]).unwrap();
        peer.conn.queue(NewMessage::whole(sender, recipients, content.clone().into_bytes())).unwrap();
        assert_eq!(
            outputs(&mut peer.conn),
            [
                (b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 30000 LAST\r\n".to_vec(), false),
                (content.clone().into_bytes(), true),
            ]
        );
    });
    // A line that begins with a dot: what goes out is not what came in.
    ready(settings(), DATA, |peer| {
        peer.send(&["c@d"], &format!("{content}.\r\n"));
        peer.say("250 ok\r\n250 ok\r\n");
        peer.conn.receive(b"354 go\r\n");
        assert_eq!(outputs(&mut peer.conn), [(format!("{content}..\r\n.\r\n").into_bytes(), false)]);
    });
}

#[test]
fn a_chunk_goes_out_whole_whatever_was_answered_meanwhile() {
    let content = "line\r\n".repeat(5000);
    ready(settings(), BDAT, |peer| {
        let Envelope { sender, recipients } = Envelope::parse("a@b", ["c@d"]).unwrap();
        peer.conn.queue(NewMessage::whole(sender, recipients, content.clone().into_bytes())).unwrap();
        assert!(peer.conn.output().ends_with(b"BDAT 30000 LAST\r\n"));
        peer.conn.clear_output();
        // The size was said: the octets are owed, though nobody gets them (RFC 3030 2).
        peer.conn.receive(b"550 no\r\n503 no\r\n503 no\r\n");
        assert!(matches!(peer.conn.poll_event(), Some(ClientEvent::Result(_))));
        peer.conn.command(Command::Noop(b"".into())).unwrap();
        let [(octets, true), (next, false)] = &outputs(&mut peer.conn)[..] else { panic!("content, then the next") };
        assert_eq!((&octets[..], &next[..]), (content.as_bytes(), &b"NOOP\r\n"[..]));
    });
    // Content and its dot go out, or neither: a session that ends meanwhile makes no shorter message of it.
    ready(settings(), DATA, |peer| {
        peer.send(&["c@d"], &content);
        peer.say("250 ok\r\n250 ok\r\n");
        peer.heard();
        peer.conn.receive(b"354 go\r\n421 down\r\n");
        assert!(peer.conn.is_closed());
        assert_eq!(outputs(&mut peer.conn), [(content.clone().into_bytes(), true), (b".\r\n".to_vec(), false)]);
    });
}

// ---- step by step ----

/// MAIL, and then nothing.
fn opened(offer: &str, test: impl Fn(&mut Peer, u64)) {
    ready(settings(), offer, |peer| {
        let Envelope { sender, .. } = Envelope::parse("a@b", ["c@d"]).unwrap();
        let id = peer.conn.mail(sender, Facts::default()).unwrap();
        peer.turn();
        peer.hears("MAIL FROM:<a@b>\r\n");
        test(peer, id);
    });
}

fn rcpt(peer: &mut Peer, id: u64, path: &str) -> Result<u64, ClientMisuse> {
    let Envelope { recipients, .. } = Envelope::parse("a@b", [path]).unwrap();
    let number = peer.conn.rcpt(id, recipients[0].clone());
    peer.turn();
    number
}

#[test]
fn step_by_step_the_program_gives_recipients_and_content() {
    for offer in ["", DATA] {
        opened(offer, |peer, id| {
            peer.say("250 ok\r\n");
            assert_eq!(peer.conn.timeout(), None, "it is the program's turn");
            for path in ["c@d", "e@f"] {
                rcpt(peer, id, path).unwrap();
                peer.hears(&format!("RCPT TO:<{path}>\r\n"));
                peer.say(if path == "c@d" { "250 ok\r\n" } else { "550 no\r\n" });
            }
            peer.happened(&["MAIL 250", "RCPT 250", "RCPT 550"]);
            peer.conn.give_content(id, Some(b"hi".to_vec())).unwrap();
            assert_eq!(peer.conn.give_content(id, None), Err(ClientMisuse::NoTransaction));
            assert_eq!(rcpt(peer, id, "g@h"), Err(ClientMisuse::NoTransaction));
            peer.hears("DATA\r\n");
            peer.say("354 go\r\n");
            peer.hears("hi\r\n.\r\n");
            peer.say("250 ok\r\n");
            peer.happened(&["1: c@d + 250 Content, e@f - 550 Rcpt"]);
            assert!(peer.conn.is_idle());
        });
    }
}

#[test]
fn step_by_step_given_up_there_is_one_rset() {
    opened(DATA, |peer, id| {
        peer.say("250 ok\r\n");
        rcpt(peer, id, "c@d").unwrap();
        peer.hears("RCPT TO:<c@d>\r\n");
        peer.conn.abort_content(id).unwrap();
        peer.conn.command(Command::Rset).unwrap();
        peer.send(&["c@d"], "hi\r\n");
        peer.hears("RSET\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n");
    });
}

#[test]
fn step_by_step_no_content_without_recipients() {
    opened(DATA, |peer, id| {
        assert_eq!(peer.conn.give_content(id, None), Err(ClientMisuse::NoRecipients));
        assert_eq!(peer.conn.give_content(id + 1, None), Err(ClientMisuse::NoTransaction));
    });
}

#[test]
fn step_by_step_every_command_has_an_end() {
    opened("", |peer, id| {
        rcpt(peer, id, "c@d").unwrap(); // not sent: the reply to MAIL is due
        peer.say("550 no\r\n");
        peer.happened(&["MAIL 550", "RCPT lost", "1: c@d - 550 Mail"]);
        assert!(peer.conn.is_idle());
    });
}
