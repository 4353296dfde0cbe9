//! A client with messages to send, and a server that says any octets: in any pieces the same happens, every message has
//! its result by the end, and the end is told once.
#![no_main]

use std::sync::Arc;

use ehlo::session::Envelope;
use ehlo::session::client::{
    Chunking, ClientConfig, ClientConnection, ClientEvent, ClientSettings, Facts, NewMessage, TlsPolicy,
};
use ehlo_fuzz::pieces;
use libfuzzer_sys::fuzz_target;

fn config(setup: u8) -> ClientConfig {
    let on = |bit: u8| setup & (1 << bit) != 0;
    let settings = ClientSettings {
        hostname: "c.example".into(),
        lmtp: on(0),
        pipelining: !on(1),
        chunking: if on(2) { Chunking::Never } else { Chunking::Auto },
        tls: if on(3) { TlsPolicy::Opportunistic } else { TlsPolicy::Off },
        max_recipients: if on(4) { 1 } else { 100 },
        chunk_size: if on(5) { 3 } else { 1000 },
        window: if on(6) { 1 } else { 16 },
        ..ClientSettings::default()
    };
    ClientConfig::new(settings).expect("good settings")
}

/// What the client says and tells.
fn run<'a>(setup: u8, input: impl Iterator<Item = &'a [u8]>) -> (Vec<String>, Vec<u8>) {
    let mut client = ClientConnection::<Vec<u8>>::new(Arc::new(config(setup)));
    let (mut events, mut said) = (Vec::new(), Vec::new());
    let mut results = 0;
    let long = "a line\r\n".repeat(2100);
    for content in ["1\r\n", ".\n", &long, "", "three\r\nlines\r\n.\r\n"] {
        let Envelope { sender, recipients } = Envelope::parse("a@b", ["c@d", "e@f"]).expect("good paths");
        client.queue(NewMessage::whole(sender, recipients, content.into())).expect("it is open");
    }
    let Envelope { sender, recipients } = Envelope::parse("a@b", ["c@d", "e@f"]).expect("good paths");
    let id = client.mail(sender, Facts::default()).expect("it is open");
    for recipient in recipients {
        client.rcpt(id, recipient).expect("it has no content yet");
    }
    client.give_content(id, Some(b"step by step".to_vec())).expect("it has recipients");
    client.auth("PLAIN", None).expect("it is open");
    let mut turn = |client: &mut ClientConnection| {
        while let Some(event) = client.poll_event() {
            match event {
                ClientEvent::Challenge { .. } => client.respond(b"x").expect("it was asked"),
                ClientEvent::Result(_) => results += 1,
                _ => {}
            }
            events.push(format!("{event:?}"));
        }
        while !client.output().is_empty() {
            said.extend_from_slice(client.output());
            client.clear_output();
        }
    };
    for piece in input {
        client.receive(piece);
        turn(&mut client);
        assert!(client.transcript().len() <= 16 * 1024 + 8192);
    }
    client.receive_eof();
    turn(&mut client);
    assert_eq!(results, 6, "every message has its result");
    assert!(client.is_closed());
    assert_eq!(events.iter().filter(|event| event.starts_with("Disconnect")).count(), 1);
    (events, said)
}

fuzz_target!(|data: &[u8]| {
    let [setup, count, rest @ ..] = data else { return };
    let (cuts, input) = rest.split_at(usize::from(*count % 8).min(rest.len()));
    let octets = run(*setup, input.chunks(1));
    // A challenge, and STARTTLS, hold for the program: what came behind them in the same piece counts otherwise.
    let interactive = octets.0.iter().any(|event| event.starts_with("Challenge") || event.starts_with("StartTls"));
    let cut = run(*setup, pieces(cuts, input));
    assert!(interactive || cut == octets);
});
