//! Client and server wired together, and a client alone with servers of every kind: generated sessions, every split.
mod common;
use std::sync::Arc;

use common::client::describe;
use ehlo::session::client::{Chunking, ClientConfig, ClientConnection, ClientEvent, ClientSettings, Facts, NewMessage};
use ehlo::session::{Decisions, Envelope, ServerConfig, ServerConnection, ServerEvent, ServerSettings};
use ehlo::syntax::reply::Reply;
use proptest::prelude::*;

/// A message in words: recipients by number, content, and how it is given.
#[derive(Clone, Debug)]
struct Letter {
    recipients: Vec<usize>,
    content: String,
    streamed: bool,
    /// By MAIL, RCPT and content, all of it said at once.
    stepwise: bool,
}

/// Recipients, and what the server makes of each.
const FATES: [(&str, Option<&str>); 4] =
    [("ok@x", None), ("no@x", Some("550 5.1.1 no")), ("later@x", Some("451 4.2.0 later")), ("yes@y", None)];

/// Most are short and full of what is difficult; some long and without fault, so that they are sent without a copy.
fn any_letter() -> impl Strategy<Value = Letter> {
    let long = (letter(), 1usize..30).prop_map(|(letter, lines)| Letter {
        content: format!("{}\r\n", "line ".repeat(200)).repeat(lines),
        streamed: false,
        ..letter
    });
    prop_oneof![3 => letter(), 1 => long]
}

fn letter() -> impl Strategy<Value = Letter> {
    let recipients = proptest::collection::vec(0..FATES.len(), 1..5);
    let piece = proptest::sample::select(vec![".", "\r\n", "\n", "\r", "a", "..\r\n", "line\r\n", "é", "\r\n.\r\n"]);
    let content = proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat());
    (recipients, content, any::<bool>(), any::<bool>()).prop_map(|(recipients, content, streamed, stepwise)| Letter {
        recipients,
        content,
        streamed,
        stepwise,
    })
}

/// Ask the client to send it. Gives its number.
fn queue(client: &mut ClientConnection, letter: &Letter) -> u64 {
    let paths = letter.recipients.iter().map(|&index| FATES[index].0);
    let Envelope { sender, recipients } = Envelope::parse("a@b", paths).unwrap();
    let content = (!letter.streamed).then(|| letter.content.clone().into_bytes());
    if letter.stepwise {
        let id = client.mail(sender, Facts::default()).unwrap();
        for recipient in recipients {
            client.rcpt(id, recipient).unwrap();
        }
        client.give_content(id, content).unwrap();
        return id;
    }
    let message = match content {
        Some(content) => NewMessage::whole(sender, recipients, content),
        None => NewMessage::stream(sender, recipients, Facts::default()),
    };
    client.queue(message).unwrap()
}

fn sides() -> impl Strategy<Value = (ClientSettings, ServerSettings)> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (flags, 1usize..4, prop_oneof![1usize..20, Just(1 << 20)], 1usize..4).prop_map(
        |((lmtp, pipelining, chunking, offered, small), max, chunk_size, window)| {
            let client = ClientSettings {
                hostname: "c.example".into(),
                lmtp,
                pipelining,
                chunking: if chunking { Chunking::Auto } else { Chunking::Never },
                max_recipients: max,
                chunk_size,
                window,
                ..ClientSettings::default()
            };
            let server = ServerSettings {
                hostname: "mx.example".into(),
                lmtp,
                chunking: offered,
                binarymime: offered,
                max_message_size: Some(if small { 12 } else { 1 << 20 }),
                decisions: Decisions { rcpt: true, message: true, ..Decisions::default() },
                ..ServerSettings::default()
            };
            (client, server)
        },
    )
}

/// What came out: the client's results, the messages that the server took.
#[derive(Debug, PartialEq)]
struct Story {
    results: Vec<String>,
    taken: Vec<(Vec<String>, Vec<u8>)>,
}

/// Let both talk until neither has anything to say. `cut` says how many octets go over at a time.
fn talk(client: &ClientSettings, server: &ServerSettings, letters: &[Letter], cut: usize) -> Story {
    let mut client = ClientConnection::<Vec<u8>>::new(Arc::new(ClientConfig::new(client.clone()).unwrap()));
    let mut server: ServerConnection = ServerConnection::new(Arc::new(ServerConfig::new(server.clone()).unwrap()));
    let mut story = Story { results: Vec::new(), taken: Vec::new() };
    let mut streams: Vec<(u64, Vec<Vec<u8>>)> = Vec::new();
    for letter in letters {
        let id = queue(&mut client, letter);
        if letter.streamed {
            streams.push((id, letter.content.as_bytes().chunks(3).rev().map(<[u8]>::to_vec).collect()));
        }
    }
    client.quit().unwrap();
    for _ in 0..100_000 {
        let to_client = server.output().to_vec();
        server.clear_output();
        for piece in to_client.chunks(cut) {
            client.receive(piece);
        }
        while let Some(event) = client.poll_event() {
            if !matches!(event, ClientEvent::Ready) {
                story.results.push(describe(&event));
            }
        }
        if let Some(id) = client.content_wanted() {
            let (_, pieces) = streams.iter_mut().find(|(stream, _)| *stream == id).unwrap();
            match pieces.pop() {
                Some(piece) => drop(client.send_content(id, piece).unwrap()),
                None => client.end_content(id).unwrap(),
            }
        }
        let to_server = client.output().to_vec();
        client.clear_output();
        for piece in to_server.chunks(cut) {
            server.receive(piece);
            serve(&mut server, &mut story);
        }
        serve(&mut server, &mut story);
        if to_client.is_empty() && to_server.is_empty() && client.content_wanted().is_none() {
            break;
        }
    }
    assert!(client.is_closed() && server.is_closed(), "in sync to the end: {client:?} {server:?} {story:?}");
    story
}

fn serve(server: &mut ServerConnection, story: &mut Story) {
    while let Some(event) = server.poll_event() {
        match event {
            ServerEvent::Rcpt(recipient) => {
                let path = recipient.path.as_written().to_owned();
                match FATES.iter().find(|(name, _)| *name == path).unwrap().1 {
                    None => server.accept().unwrap(),
                    Some(refusal) => server.reply(&Reply::parse_text(refusal).unwrap()).unwrap(),
                }
            }
            ServerEvent::Message { envelope, content, .. } => {
                let to = envelope.recipients.iter().map(|to| to.path.as_written().to_owned()).collect();
                story.taken.push((to, content));
                server.accept().unwrap();
            }
            _ => {}
        }
    }
}

/// Content as it has to arrive: each line with its CRLF, the last one too.
fn normal(content: &str) -> Vec<u8> {
    let mut lines = content.replace("\r\n", "\n").replace('\r', "\n").replace('\n', "\r\n");
    if !lines.is_empty() && !lines.ends_with("\r\n") {
        lines.push_str("\r\n");
    }
    lines.into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_sides_agree_in_every_split(
        (client, server) in sides(), letters in proptest::collection::vec(any_letter(), 1..6),
    ) {
        let whole = talk(&client, &server, &letters, usize::MAX);
        for cut in [1, 7] {
            prop_assert_eq!(&talk(&client, &server, &letters, cut), &whole);
        }
        // What the client calls accepted is what the server took, octet by octet, and nothing else.
        let results: Vec<&String> = whole.results.iter().filter(|event| event.as_bytes()[0].is_ascii_digit()).collect();
        prop_assert_eq!(results.len(), letters.len());
        let mut taken = whole.taken.iter();
        for (letter, result) in letters.iter().zip(results) {
            let mut deliveries: Vec<&str> = Vec::new();
            let accepted = result.matches(" + ").count();
            while deliveries.len() < accepted {
                let (to, content) = taken.next().expect("the server took it");
                prop_assert_eq!(content, &normal(&letter.content));
                deliveries.extend(to.iter().map(String::as_str));
            }
            prop_assert_eq!(deliveries.len(), accepted, "{}", result);
            for (index, part) in letter.recipients.iter().zip(result.split(": ").nth(1).unwrap().split(", ")) {
                if let Some(refusal) = FATES[*index].1 && !part.contains('?') && !part.contains("Mail") {
                    prop_assert!(part.contains(&refusal[..3]), "{}", result);
                }
            }
        }
        prop_assert!(taken.next().is_none());
    }

    /// B-OTH-08: whatever a server says, in whatever pieces, every message gets a result, and the end is told once.
    #[test]
    fn any_server_is_borne(
        replies in proptest::collection::vec(
            prop_oneof![
                9 => proptest::sample::select(vec![
                    "220 mx", "250 ok", "250-PIPELINING\r\n250-CHUNKING\r\n250 SIZE", "354 go", "334 ", "550 no", "450 later",
                    "421 down", "250-a\r\n250 b", "235 in", "503 no", "221 bye", "250", "452 4.5.3 many",
                ]).prop_map(|line| format!("{line}\r\n").into_bytes()),
                1 => proptest::collection::vec(any::<u8>(), 0..8),
                1 => proptest::sample::select(vec!["250-a\r\n550 b\r\n", "999 x\r\n", "250 a\n", "\r\n"]).prop_map(|s| s.as_bytes().to_vec()),
            ],
            0..24,
        ),
        letters in proptest::collection::vec(any_letter(), 0..4),
        lmtp in any::<bool>(),
        eof in any::<bool>(),
    ) {
        let mut input = b"220 mx\r\n250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n".to_vec();
        input.extend(replies.concat());
        let run = |cut: usize| {
            let settings = ClientSettings { lmtp, hostname: "c.example".into(), ..ClientSettings::default() };
            let mut client = ClientConnection::<Vec<u8>>::new(Arc::new(ClientConfig::new(settings).unwrap()));
            let (mut events, mut said) = (Vec::new(), Vec::new());
            for letter in &letters {
                queue(&mut client, &Letter { streamed: false, ..letter.clone() });
            }
            for piece in input.chunks(cut) {
                client.receive(piece);
                while let Some(event) = client.poll_event() {
                    events.push(describe(&event));
                }
                while !client.output().is_empty() {
                    said.extend_from_slice(client.output());
                    client.clear_output();
                }
            }
            if eof { client.receive_eof() } else { client.receive_timeout() }
            while let Some(event) = client.poll_event() {
                events.push(describe(&event));
            }
            (events, said, client.is_closed(), client.unfinished())
        };
        let whole = run(usize::MAX);
        prop_assert_eq!(&run(1), &whole);
        prop_assert_eq!(&run(5), &whole);
        let (events, _, closed, unfinished) = whole;
        let ends = events.iter().filter(|event| event.starts_with("disconnect")).count();
        prop_assert_eq!(ends, usize::from(closed));
        let results = events.iter().filter(|event| event.as_bytes()[0].is_ascii_digit()).count();
        prop_assert_eq!(results + unfinished, letters.len());
        prop_assert!(!eof || closed);
    }
}
