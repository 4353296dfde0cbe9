//! Generated sessions: the same result for every split, nothing panics, memory stays bounded (B-OTH-08).
mod common;
use common::*;
use ehlo::session::{ContentMode, Decisions, ServerSettings, TlsFacts, TlsMode};
use ehlo::syntax::xattr::AttributeName;
use ehlo::wire::content::BareNewlines;
use proptest::prelude::*;

fn piece() -> impl Strategy<Value = Vec<u8>> {
    let lines = [
        "EHLO c.example",
        "HELO c.example",
        "LHLO c.example",
        "MAIL FROM:<a@b>",
        "MAIL FROM:<> SIZE=10",
        "MAIL FROM:<ü@b> SMTPUTF8",
        "MAIL FROM:<a@b> BODY=BINARYMIME",
        "RCPT TO:<c@d>",
        "RCPT TO:<Postmaster>",
        "RCPT TO:<x@y> NOTIFY=NEVER",
        "DATA",
        "RSET",
        "NOOP",
        "VRFY bob",
        "HELP",
        "BDAT 3",
        "BDAT 3 LAST",
        "BDAT 0 LAST",
        "BDAT 0",
        "BDAT 4 X",
        "BDAT x",
        "FOO",
        "",
        ".",
        "..",
        "text",
        "QUIT",
        "EXPN x",
        "ETRN x",
        "STARTTLS",
        "STARTTLS x",
        "AUTH PLAIN",
        "AUTH PLAIN AGEAYg==",
        "AUTH LOGIN =",
        "AUTH CRAM-MD5",
        "AUTH CRAM-MD5 =",
        "AUTH EXTERNAL",
        "AGEAYg==",
        "*",
        "=",
        "MAIL FROM:<a@b> AUTH=<>",
        "XCLIENT NAME=a.example LOGIN=jane",
        "XCLIENT ADDR=192.0.2.1",
        "XFORWARD NAME=a.example",
        "PROXY UNKNOWN",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2",
    ];
    prop_oneof![
        12 => proptest::sample::select(lines.to_vec()).prop_map(|line| format!("{line}\r\n").into_bytes()),
        2 => proptest::sample::select(vec!["\r", "\n", ".", "\r\n", "a", "abc", "\r\n.\r\n", "\n.\n", "\0", "\u{e9}"])
            .prop_map(|text| text.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..12),
    ]
}

/// Starts well more often than not, so that sessions get somewhere.
fn session() -> impl Strategy<Value = Vec<u8>> {
    let opening = proptest::sample::select(vec![
        "",
        "EHLO x\r\n",
        "EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n",
        "EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n",
        "LHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\n",
        "EHLO x\r\nAUTH PLAIN\r\n",
        "PROXY TCP6 ::1 ::2 1 2\r\nEHLO x\r\n",
        "\r\n\r\n\0\r\nQUIT\n\x20\0\0\x01xEHLO x\r\n",
    ]);
    (opening, proptest::collection::vec(piece(), 0..24))
        .prop_map(|(opening, pieces)| [opening.as_bytes(), &pieces.concat()].concat())
}

fn config() -> impl Strategy<Value = ServerSettings> {
    let content = proptest::sample::select(vec![ContentMode::Collect, ContentMode::Stream, ContentMode::Discard]);
    let bare = proptest::sample::select(vec![BareNewlines::Reject, BareNewlines::Normalize, BareNewlines::Allow]);
    let tls = proptest::sample::select(vec![TlsMode::Off, TlsMode::StartTls, TlsMode::Implicit]);
    let more = (tls, any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (content, bare, any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), more).prop_map(
        |(content, bare_newlines, lmtp, ask, small, chunking, (tls, auth, require, proxy, fronts))| ServerSettings {
            tls,
            auth: names(auth, &["PLAIN", "LOGIN", "CRAM-MD5", "EXTERNAL"]),
            auth_in_clear: names(auth, &["PLAIN", "CRAM-MD5"]),
            require_auth: auth && require,
            require_tls: require && small && tls != TlsMode::Off,
            proxy: proxy && fronts,
            xclient: if fronts { vec![AttributeName::Name, AttributeName::Login, AttributeName::Addr] } else { vec![] },
            xforward: if fronts { vec![AttributeName::Name] } else { vec![] },
            submission: auth && require && small && !ask,
            content,
            bare_newlines,
            bdat_bare_newlines: bare_newlines,
            lmtp,
            chunking,
            binarymime: chunking,
            decisions: if ask {
                Decisions { command: true, refusal: true, ..all_decisions() }
            } else {
                settings().decisions
            },
            max_message_size: Some(if small { 10 } else { 1 << 20 }),
            ..settings()
        },
    )
}

/// From a client that is trusted, so that XCLIENT and XFORWARD do something where they are offered.
fn feed<'a>(
    settings: &ServerSettings,
    pieces: impl IntoIterator<Item = &'a [u8]>,
    eof: bool,
    program: Program,
) -> Outcome {
    let mut conn = connection(settings.clone());
    conn.set_trusted(true);
    feed_to(conn, pieces, eof, program)
}

fn names(there: bool, names: &[&str]) -> Vec<String> {
    names.iter().filter(|_| there).map(|&name| name.to_owned()).collect()
}

/// STARTTLS is answered 454 here: what comes behind it in the same read is another matter than what comes later, as it
/// has to be. `server_tls.rs` has that.
fn no_tls(event: &str) -> Option<&'static str> {
    match event {
        "StartTls" => Some("454 4.7.0 not now"),
        "auth PLAIN" | "auth CRAM-MD5" => Some("334 go on"),
        _ => None,
    }
}

/// Says no now and then, by what it is asked only, so that each run of a session hears the same.
fn moody(event: &str) -> Option<&'static str> {
    if let Some(answer) = no_tls(event) {
        return Some(answer);
    }
    match event.bytes().map(u32::from).sum::<u32>() % 7 {
        0 => Some("550 5.7.1 no"),
        1 => Some("451 4.3.0 later"),
        2 if event.len().is_multiple_of(5) => Some("421 4.7.0 bye"),
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_split_gives_the_same(
        settings in config(), input in session(), cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6), eof in any::<bool>(),
    ) {
        let program: Program = if settings.decisions.mail { moody } else { no_tls };
        let whole = feed(&settings, [&input[..]], eof, program);
        let octets = feed(&settings, input.chunks(1), eof, program);
        prop_assert_eq!(&octets, &whole);
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        at.extend([0, input.len()]);
        at.sort_unstable();
        let pieces = feed(&settings, at.windows(2).map(|w| &input[w[0]..w[1]]), eof, program);
        prop_assert_eq!(&pieces, &whole);
    }

    #[test]
    fn every_split_gives_the_same_inside_tls(settings in config(), input in session(), certificate in any::<bool>()) {
        let facts = TlsFacts { client_certificate: certificate, ..TlsFacts::default() };
        let input = &input[..input.len().min(300)];
        let settings = ServerSettings { tls: TlsMode::Implicit, proxy: false, ..settings };
        let outcome = flights(&settings, &[input], facts, no_tls);
        prop_assert!(outcome.has("handshake") && !outcome.output.contains("-STARTTLS"));
    }

    #[test]
    fn any_octets_are_borne(settings in config(), input in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let whole = feed(&settings, [&input[..]], true, moody);
        prop_assert!(whole.closed);
        prop_assert_eq!(feed(&settings, input.chunks(7), true, moody), whole);
    }

    #[test]
    fn memory_is_bounded(octet in any::<u8>(), opening in proptest::sample::select(vec![
        "", "EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n", "EHLO x\r\nBDAT 1000000\r\n",
    ])) {
        let mut conn = connection(ServerSettings { max_message_size: Some(1000), ..settings() });
        conn.receive(opening.as_bytes());
        let read = [octet; 4096];
        for _ in 0..64 {
            conn.receive(&read);
            while let Some(event) = conn.poll_event() {
                if conn.decision_open() { drop(event); conn.accept().unwrap(); }
            }
            prop_assert!(conn.buffered() <= 2048 + read.len());
            prop_assert!(conn.output().len() <= 64 * 1024);
            conn.clear_output();
        }
    }
}
