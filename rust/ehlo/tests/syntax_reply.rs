//! RULES group 2: replies, written and read. Each is read whole, cut at every octet, and octet by octet.
use ehlo::syntax::reply::{
    Class, Fed, Reply, ReplyError, ReplyLimits, ReplyParseError, ReplyParser, parse_reply, write_reply,
};
use ehlo::syntax::status::EnhancedCode;
use ehlo::wire::base64;
use ehlo::wire::line::{LineEnds, LineScanner, Scan};

/// All replies that `pieces` hold, or the first error.
fn feed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limits: &ReplyLimits) -> Result<Vec<Reply>, ReplyParseError> {
    let (mut parser, mut replies) = (ReplyParser::new(), Vec::new());
    for mut piece in pieces {
        while !piece.is_empty() {
            let Fed { consumed, reply } = parser.feed(piece, limits)?;
            assert!(reply.is_some() || consumed == piece.len(), "what is not complete is kept");
            piece = &piece[consumed..];
            replies.extend(reply);
        }
    }
    Ok(replies)
}

fn read_in(octets: impl AsRef<[u8]>, limits: &ReplyLimits) -> Result<Vec<Reply>, ReplyParseError> {
    let octets = octets.as_ref();
    let whole = feed([octets], limits);
    if octets.len() < 3000 {
        for cut in 1..octets.len() {
            let (a, b) = octets.split_at(cut);
            assert_eq!(feed([a, b], limits), whole, "{} cut at {cut}", octets.escape_ascii());
        }
    }
    assert_eq!(feed(octets.chunks(1), limits), whole, "{} octet by octet", octets.escape_ascii());
    whole
}

fn read(octets: impl AsRef<[u8]>) -> Result<Vec<Reply>, ReplyParseError> {
    read_in(octets, &ReplyLimits::default())
}

fn one(octets: impl AsRef<[u8]>) -> Reply {
    let mut replies = read(&octets).unwrap();
    assert_eq!(replies.len(), 1, "{}", octets.as_ref().escape_ascii());
    assert_eq!(parse_reply(octets.as_ref()), Ok(replies[0].clone()));
    replies.remove(0)
}

fn lines(reply: &Reply) -> Vec<String> {
    reply.lines().map(|line| line.escape_ascii().to_string()).collect()
}

/// The lines as written, each checked: CRLF, 512 octets at most, code and separator.
fn write(reply: &Reply) -> Vec<String> {
    let mut out = Vec::new();
    reply.write(&mut out);
    written_lines(&out, reply.code())
}

fn written_lines(out: &[u8], code: u16) -> Vec<String> {
    let text = str::from_utf8(out).unwrap();
    let lines: Vec<&str> = text.strip_suffix("\r\n").unwrap().split("\r\n").collect();
    for (number, line) in lines.iter().enumerate() {
        assert!(line.len() + 2 <= 512 && !line.contains(['\r', '\n']), "{line}");
        assert_eq!(line[..3], code.to_string());
        assert_eq!(&line[3..4], if number + 1 == lines.len() { " " } else { "-" });
    }
    lines.into_iter().map(str::to_owned).collect()
}

const NO_USER: EnhancedCode = EnhancedCode::new(5, 1, 1);

// B-RPL-01, RFC 5321 4.2
#[test]
fn b_rpl_01_code_separator_text() {
    let reply = one("250-a\r\n250 b\r\n");
    assert_eq!((reply.code(), reply.class(), lines(&reply)), (250, Class::Success, vec!["a".into(), "b".into()]));
    assert_eq!((&*reply.text(), reply.enhanced()), ("a\nb", None));
    let reply = one("354 End data with <CR><LF>.<CR><LF>\r\n");
    assert_eq!((reply.code(), reply.class()), (354, Class::Intermediate));
    assert_eq!(lines(&reply), ["End data with <CR><LF>.<CR><LF>"]);
    let reply = one("250-mx.example\r\n250-SIZE 10\r\n250-\r\n250 HELP\r\n");
    assert_eq!(lines(&reply), ["mx.example", "SIZE 10", "", "HELP"]);
    assert_eq!(lines(&one("220-a\r\n220\r\n")), ["a", ""]);
    let replies = read("250 a\r\n250-b\r\n250 c\r\n550 5.1.1 d\r\n").unwrap();
    assert_eq!(replies.iter().map(Reply::code).collect::<Vec<_>>(), [250, 250, 550]);
    assert_eq!(replies.iter().map(lines).collect::<Vec<_>>(), [vec!["a"], vec!["b", "c"], vec!["d"]]);

    let reply = Reply::from_lines(250, None, &["a", "b"]).unwrap();
    assert_eq!(write(&reply), ["250-a", "250 b"]);
    assert_eq!(reply.to_string(), "250-a\r\n250 b");
    assert_eq!(one("250-a\r\n250 b\r\n"), reply);
}

// B-RPL-02, RFC 5321 4.2, 4.3.2
#[test]
fn b_rpl_02_codes_that_may_be_sent() {
    for code in [0, 99, 100, 199, 260, 270, 299, 360, 469, 599, 600, 999, 1000, u16::MAX] {
        assert_eq!(Reply::new(code, None, "x"), Err(ReplyError::Code(code)));
        assert_eq!(Reply::from_static(code, None, "x"), Err(ReplyError::Code(code)));
        assert_eq!(Reply::from_lines(code, None, &["x"]), Err(ReplyError::Code(code)));
        if (100..1000).contains(&code) {
            assert_eq!(Reply::parse_text(&format!("{code} x")), Err(ReplyError::Code(code)));
        }
    }
    for code in [200, 250, 259, 354, 421, 459, 550, 559] {
        assert_eq!(write(&Reply::new(code, None, "x").unwrap()), [format!("{code} x")]);
    }
    for text in ["", "25", "2500", "250x", "25 x", "abc x", " 250 x", "250-x", "+25 x", "２50 x"] {
        assert_eq!(Reply::parse_text(text), Err(ReplyError::Format), "{text}");
    }
}

// RFC 5321 4.2: the codes that are read. What a client does about them is the session's.
#[test]
fn codes_are_classed_by_their_first_digit() {
    for (code, class) in [
        (200, Class::Success),
        (299, Class::Success),
        (399, Class::Intermediate),
        (499, Class::Transient),
        (599, Class::Permanent),
    ] {
        assert_eq!(one(format!("{code} x\r\n")).class(), class);
    }
    for code in ["650", "199", "000", "099", "999"] {
        assert_eq!(read(format!("{code} hm\r\n")), Err(ReplyParseError::Code(code.parse().unwrap())));
        assert_eq!(read(format!("{code}-hm\r\n")), Err(ReplyParseError::Code(code.parse().unwrap())));
    }
}

// C-RPL-05, RFC 5321 4.2
#[test]
fn c_rpl_05_a_bare_code() {
    for octets in ["250\r\n", "250 \r\n"] {
        let reply = one(octets);
        assert_eq!((reply.code(), &*reply.text(), reply.lines().count()), (250, "", 1));
    }
    assert_eq!(&*one("250  \r\n").text(), " ");
}

// C-RPL-07, RFC 5321 4.2.1
#[test]
fn c_rpl_07_a_change_of_code() {
    for octets in ["250-a\r\n550 b\r\n", "250-a\r\n251-b\r\n", "250-a\r\n250-b\r\n220\r\n", "550-a\r\n250 b\r\n"] {
        assert_eq!(read(octets), Err(ReplyParseError::CodeChanged), "{octets}");
    }
    // Nothing of it is a reply, and nothing behind it is one.
    let mut parser = ReplyParser::new();
    let limits = ReplyLimits::default();
    assert_eq!(parser.feed(b"250-a\r\n", &limits), Ok(Fed { consumed: 7, reply: None }));
    assert!(parser.is_partial());
    assert_eq!(parser.feed(b"550 b\r\n", &limits), Err(ReplyParseError::CodeChanged));
    assert_eq!(parser.feed(b"250 fine\r\n", &limits), Err(ReplyParseError::CodeChanged));
    assert_eq!(read("250 a\r\n550 b\r\n").unwrap().len(), 2, "two replies are no change");
}

// C-RPL-08, RFC 5321 4.2
#[test]
fn c_rpl_08_the_separator() {
    for octets in
        ["250+ok\r\n", "2500\r\n", "25\r\n", "\r\n", "x\r\n", "250\tok\r\n", "2 50 a\r\n", " 250 a\r\n", "-25 a\r\n"]
    {
        assert_eq!(read(octets), Err(ReplyParseError::Format), "{octets}");
    }
    assert_eq!(read("250-a\r\nb\r\n"), Err(ReplyParseError::Format));
    assert_eq!(read("250-a\r\n250+b\r\n"), Err(ReplyParseError::Format));
}

// C-RPL-09, RFC 5321 2.3.8
#[test]
fn c_rpl_09_bare_cr_and_lf() {
    for octets in
        ["250 a\n250 b\r\n", "250 a\r250 b\r\n", "250 a\r\r\n", "250 a\n\r\n", "250\n", "\n", "250-a\n250 b\n"]
    {
        assert_eq!(read(octets), Err(ReplyParseError::BareNewline), "{octets:?}");
    }
    assert_eq!(read("250 a\r").unwrap(), [], "its LF may come");
    let lenient = ReplyLimits { lenient: true, ..ReplyLimits::default() };
    let replies = read_in("250 a\n250-b\n250 c\r\n220\n", &lenient).unwrap();
    assert_eq!(replies.iter().map(lines).collect::<Vec<_>>(), [vec!["a"], vec!["b", "c"], vec![""]]);
    for octets in ["250 a\r250 b\r\n", "250 a\r\r\n", "250 a\rb\n"] {
        assert_eq!(read_in(octets, &lenient), Err(ReplyParseError::BareNewline), "{octets:?}");
    }
}

// C-RPL-10, RFC 5321 4.2
#[test]
fn c_rpl_10_octets_in_the_text() {
    let reply = one(b"550 \xc4\xe3\r\n");
    assert_eq!((reply.code(), reply.lines().next().unwrap()), (550, &b"\xc4\xe3"[..]));
    assert_eq!(&*reply.text(), "\\xc4\\xe3");
    let reply = one("550 5.1.1 kein Empfänger\r\n");
    assert_eq!((&*reply.text(), reply.enhanced()), ("kein Empfänger", Some(NO_USER)));
    let reply = one(b"550-ok\xc3\xa4\xff\r\n550 \x00\x07\x7f\x1b\r\n");
    assert_eq!(lines(&reply), ["ok\\xc3\\xa4\\xff", "\\x00\\x07\\x7f\\x1b"]);
    assert_eq!(&*reply.text(), "okä\\xff\n\0\x07\x7f\x1b");
    // Passed on, or shown, it is printable.
    assert_eq!(reply.to_string(), "550-ok\\xc3\\xa4\\xff\r\n550 \\x00\\x07\\x7f\\x1b");
}

// C-RPL-11, RFC 5321 4.5.3.1.5
#[test]
fn c_rpl_11_limits_of_what_is_read() {
    let limits = ReplyLimits::default();
    assert_eq!((limits.line, limits.challenge_line, limits.total, limits.lines), (4096, 16384, 65536, 1000));
    let line = |code: u16, length: usize| format!("{code} {}\r\n", "x".repeat(length - 6));
    assert_eq!(one(line(250, 4096)).text().len(), 4096 - 6);
    assert_eq!(read(line(250, 4097)), Err(ReplyParseError::LineTooLong));
    assert_eq!(one(line(334, 16384)).text().len(), 16384 - 6); // RFC 4954 4
    assert_eq!(read(line(334, 16385)), Err(ReplyParseError::LineTooLong));

    let continued = |count: usize| format!("{}250 x\r\n", "250-x\r\n".repeat(count - 1));
    assert_eq!(one(continued(1000)).lines().count(), 1000);
    assert_eq!(read(continued(1001)), Err(ReplyParseError::TooManyLines));

    let long = format!("250-{}\r\n", "x".repeat(1024 - 6));
    assert_eq!(one(format!("{}{}", long.repeat(63), line(250, 1024))).lines().count(), 64);
    assert_eq!(read(format!("{}{}", long.repeat(63), line(250, 1025))), Err(ReplyParseError::TooLong));
    assert_eq!(read(format!("{}250 x\r\n", long.repeat(64))), Err(ReplyParseError::TooLong));

    // The limit is of one reply, and not of a connection.
    let mut parser = ReplyParser::new();
    for _ in 0..100 {
        let octets = line(250, 4096);
        assert_eq!(parser.feed(octets.as_bytes(), &limits).unwrap().consumed, 4096);
        assert!(!parser.is_partial());
    }
}

// B-LIN-19, RFC 4954 4: 12288 octets of base64 are read, as a challenge and as a response
#[test]
fn b_lin_19_long_base64() {
    let octets: Vec<u8> = (0..12288 / 4 * 3).map(|octet| (octet % 251) as u8).collect();
    let text = base64::encode(&octets);
    assert_eq!(text.len(), 12288);
    let reply = one(format!("334 {text}\r\n"));
    assert_eq!(base64::decode(reply.text().as_bytes()).unwrap(), octets);
    // Any other reply as long is refused, and a 334 is not without limit.
    assert_eq!(read(format!("235 {text}\r\n")), Err(ReplyParseError::LineTooLong));

    let line = format!("{text}\r\n");
    for size in [1, 4096, line.len()] {
        let (mut scanner, mut kept) = (LineScanner::default(), Vec::new());
        let mut read = None;
        for piece in line.as_bytes().chunks(size) {
            kept.extend_from_slice(piece);
            match scanner.scan(&kept, 16384, LineEnds::Crlf) {
                Scan::Line { line, consumed } => read = Some((base64::decode(line).unwrap(), consumed)),
                Scan::Partial { discard } => assert_eq!(discard, 0),
                Scan::TooLong { .. } => panic!("12288 octets must be borne"),
            }
        }
        assert_eq!(read, Some((octets.clone(), line.len())));
    }
}

// C-RPL-11: an endless reply ends in an error, at the same octet in whatever pieces it comes
#[test]
fn c_rpl_11_endless_replies() {
    for (piece, error, at) in [
        (&b"250-x\r\n"[..], ReplyParseError::TooManyLines, 7000),
        (b"x", ReplyParseError::LineTooLong, 4097),
        (b"334", ReplyParseError::LineTooLong, 16385),
        (
            b"250-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n",
            ReplyParseError::TooLong,
            65537,
        ),
    ] {
        for size in [1, 7, 4096, 1 << 20] {
            let octets: Vec<u8> = piece.iter().copied().cycle().take(1 << 20).collect();
            let (mut parser, mut fed, mut got) = (ReplyParser::new(), 0, None);
            for piece in octets.chunks(size) {
                if let Err(error) = parser.feed(piece, &ReplyLimits::default()) {
                    got = Some((error, fed + 1..=fed + piece.len()));
                    break;
                }
                fed += piece.len();
            }
            let (got, range) = got.unwrap();
            assert_eq!(got, error);
            assert!(range.contains(&at), "{error:?} at {range:?}, not {at}");
        }
    }
}

// B-LIN-20, RFC 5321 4.5.3.1.5
#[test]
fn b_lin_20_long_text_is_folded() {
    let words = "word ".repeat(400);
    for text in [words.trim_end(), &"x".repeat(2000), &format!("{} {}", "x".repeat(600), "y".repeat(700))] {
        for (code, enhanced) in [(550, Some(NO_USER)), (550, Some(EnhancedCode::new(5, 999, 999))), (220, None)] {
            let reply = Reply::new(code, enhanced, text).unwrap();
            let written = write(&reply);
            assert!(written.len() >= 3);
            let prefix = enhanced.map_or(String::new(), |enhanced| format!("{enhanced} "));
            // S-RPL-19: each line has the enhanced code.
            let texts: Vec<&str> = written.iter().map(|line| line[4..].strip_prefix(&*prefix).unwrap()).collect();
            let joined = if text.starts_with("word") { texts.join(" ") } else { texts.concat() };
            assert_eq!(joined.replace(' ', ""), text.replace(' ', ""), "nothing is lost");
            if text.starts_with("word") {
                assert_eq!(joined, text, "cut between words");
            }
            let again = one(format!("{}\r\n", written.join("\r\n")));
            assert_eq!((again.code(), again.enhanced(), again.lines().count()), (code, enhanced, written.len()));
        }
    }
    // 512 octets with code and CRLF are one line, 513 are two.
    let room = 512 - "550 5.1.1 \r\n".len();
    assert_eq!(write(&Reply::new(550, Some(NO_USER), &"x".repeat(room)).unwrap()).len(), 1);
    let two = write(&Reply::new(550, Some(NO_USER), &"x".repeat(room + 1)).unwrap());
    assert_eq!((two.len(), two[0].len() + 2, &*two[1]), (2, 512, "550 5.1.1 x"));
    // Only the last line of all ends the reply.
    let reply = Reply::from_lines(250, None, &[&"a".repeat(600), &"b".repeat(600)]).unwrap();
    assert_eq!(write(&reply).iter().map(|line| &line[..5]).collect::<Vec<_>>(), ["250-a", "250-a", "250-b", "250 b"]);
}

// B-LIN-20: an escape is not cut in two, nor is a character
#[test]
fn b_lin_20_folds_leave_escapes_whole() {
    for shift in 0..4 {
        let text = format!("{}{}", "x".repeat(shift), "é".repeat(400));
        let reply = Reply::new(220, None, &text).unwrap();
        let mut utf8 = Vec::new();
        reply.write_utf8(&mut utf8);
        let texts: String = written_lines(&utf8, 220).iter().map(|line| line[4..].to_owned()).collect();
        assert_eq!(texts, text);
        for line in write(&reply) {
            assert!(line[4..].trim_start_matches('x').as_bytes().chunks(4).all(|escape| escape.starts_with(b"\\x")));
        }
    }
}

// S-RPL-13, RFC 5321 4.2
#[test]
fn s_rpl_13_no_line_end_gets_into_a_reply() {
    for text in ["a\r\n250 b", "a\rb", "a\nb", "\n", "a\0"] {
        assert_eq!(Reply::new(550, None, text), Err(ReplyError::Text), "{text:?}");
        assert_eq!(Reply::from_lines(550, None, &["fine", text]), Err(ReplyError::Text), "{text:?}");
        assert_eq!(Reply::parse_text(&format!("550 5.1.1 {text}")), Err(ReplyError::Text), "{text:?}");
    }
    let mut out = Vec::new();
    write_reply(550, Some(NO_USER), "a\r\n250 b\0", &mut out);
    assert_eq!(out, b"550 5.1.1 a\\x0d\\x0a250 b\\x00\r\n", "escaped, where a text is the peer's");
}

// S-RPL-14, RFC 5321 4.2 (textstring)
#[test]
fn s_rpl_14_text_is_printable_ascii_and_htab() {
    for octet in (1..=0x7f_u8).filter(|octet| !b"\r\n".contains(octet)) {
        let text = format!("a{}b", char::from(octet));
        let expected =
            if octet == b'\t' || (b' '..=b'~').contains(&octet) { text.clone() } else { format!("a\\x{octet:02x}b") };
        let reply = Reply::new(250, None, &text).unwrap();
        assert_eq!(write(&reply), [format!("250 {expected}")]);
        let mut utf8 = Vec::new();
        reply.write_utf8(&mut utf8);
        assert_eq!(utf8, format!("250 {expected}\r\n").as_bytes());
    }
    let reply = Reply::new(250, None, "é <日本@x>").unwrap();
    assert_eq!(write(&reply), [r"250 \xc3\xa9 <\xe6\x97\xa5\xe6\x9c\xac@x>"]);
    let mut utf8 = Vec::new();
    reply.write_utf8(&mut utf8);
    assert_eq!(utf8, "250 é <日本@x>\r\n".as_bytes(), "where SMTPUTF8 allows it (S-ADR-31)");
    // Of a peer's octets only what is UTF-8 passes even there.
    let mut utf8 = Vec::new();
    one(b"550 \xc3\xa9\xff\r\n").write_utf8(&mut utf8);
    assert_eq!(utf8, "550 é\\xff\r\n".as_bytes());
}

// S-RPL-16, RFC 5321 4.2
#[test]
fn s_rpl_16_text_is_never_empty() {
    for (code, text) in [(250, "OK"), (354, "Go ahead"), (451, "Try again later"), (550, "Refused")] {
        assert_eq!(write(&Reply::new(code, None, "").unwrap()), [format!("{code} {text}")]);
        assert_eq!(Reply::from_static(code, None, "").unwrap(), Reply::parse_text(&code.to_string()).unwrap());
        assert_eq!(&*Reply::from_lines(code, None, &[]).unwrap().text(), text);
    }
    assert_eq!(write(&Reply::parse_text("550 5.1.1").unwrap()), ["550 5.1.1 Refused"]);
}

// S-RPL-19, S-RPL-20, RFC 2034 4
#[test]
fn s_rpl_19_and_20_enhanced_codes_agree_with_the_code() {
    let reply = Reply::from_lines(550, Some(NO_USER), &["a", "b"]).unwrap();
    assert_eq!(write(&reply), ["550-5.1.1 a", "550 5.1.1 b"]);
    for (code, enhanced) in
        [(550, (4, 1, 1)), (250, (5, 1, 1)), (354, (2, 0, 0)), (550, (5, 1000, 1)), (354, (3, 0, 0))]
    {
        let enhanced = EnhancedCode::new(enhanced.0, enhanced.1, enhanced.2);
        assert_eq!(Reply::new(code, Some(enhanced), "x"), Err(ReplyError::Enhanced(enhanced)));
        assert_eq!(
            Reply::new(code, None, "x").unwrap().with_enhanced(Some(enhanced)),
            Err(ReplyError::Enhanced(enhanced))
        );
    }
    assert_eq!(Reply::parse_text("550 4.1.1 x"), Err(ReplyError::Enhanced(EnhancedCode::new(4, 1, 1))));
    for (text, expected) in
        [("250 x", "250 2.0.0 x"), ("354 x", "354 x"), ("451 x", "451 4.0.0 x"), ("550 5.7.1 x", "550 5.7.1 x")]
    {
        assert_eq!(Reply::parse_text(text).unwrap().or_generic_enhanced().to_string(), expected);
    }
    assert_eq!(Reply::parse_text("550 5.7.1 x").unwrap().without_enhanced().to_string(), "550 x");
}

// B-RPL-22, RFC 2034 3, RFC 3463 2; the grammar of the code itself is tested in status.rs
#[test]
fn b_rpl_22_enhanced_codes_are_taken_off_the_text() {
    let reply = one("550-5.1.1 no\r\n550-5.1.1   such\r\n550-user\r\n550 5.1.1\r\n");
    assert_eq!(
        (reply.enhanced(), lines(&reply)),
        (Some(NO_USER), vec!["no".into(), "such".into(), "user".into(), String::new()])
    );
    for text in ["5.01.1 x", "5.1 x", "5.1.1234 x", "5.1.1x", "no 5.1.1", " 5.1.1 x", "5.1.1\tx"] {
        let reply = one(format!("550 {text}\r\n"));
        assert_eq!((reply.enhanced(), &*reply.text()), (None, text));
    }
    // One that only a later line has is text, and so is another one.
    let reply = one("550-a\r\n550 5.1.1 b\r\n");
    assert_eq!((reply.enhanced(), &*reply.text()), (None, "a\n5.1.1 b"));
    let reply = one("550-5.1.1 a\r\n550 5.1.2 b\r\n");
    assert_eq!((reply.enhanced(), &*reply.text()), (Some(NO_USER), "a\n5.1.2 b"));
}

// C-RPL-23, RFC 2034 4
#[test]
fn c_rpl_23_a_class_that_disagrees_is_text() {
    for (octets, class, text) in [
        ("550 2.1.5 ok\r\n", Class::Permanent, "2.1.5 ok"),
        ("250 5.7.1 rejected\r\n", Class::Success, "5.7.1 rejected"),
        ("450 5.1.1 x\r\n", Class::Transient, "5.1.1 x"),
        ("354 2.0.0 go\r\n", Class::Intermediate, "2.0.0 go"),
    ] {
        let reply = one(octets);
        assert_eq!((reply.class(), reply.enhanced(), &*reply.text()), (class, None, text));
    }
}

// C-RPL-24, RFC 3463 2
#[test]
fn c_rpl_24_an_unknown_detail_keeps_class_and_subject() {
    for (octets, expected) in [("550 5.7.250 no\r\n", (5, 7, 250)), ("450 4.99.1 later\r\n", (4, 99, 1))] {
        let code = one(octets).enhanced().unwrap();
        assert_eq!((code.class, code.subject, code.detail), expected);
        assert!(!code.is_registered());
    }
}

// RFC 5321 4.2: one reply, whole
#[test]
fn parse_reply_wants_one_reply_and_all_of_it() {
    for octets in ["", "2", "250", "250 a", "250 a\r", "250-a\r\n", "250-a\r\n250 b"] {
        assert_eq!(parse_reply(octets.as_bytes()), Err(ReplyParseError::Incomplete), "{octets:?}");
    }
    for octets in ["250 a\r\n2", "250 a\r\n250 b\r\n", "250 a\r\n\r\n"] {
        assert_eq!(parse_reply(octets.as_bytes()), Err(ReplyParseError::Trailing), "{octets:?}");
    }
}
