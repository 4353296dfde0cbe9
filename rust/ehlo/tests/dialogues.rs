//! The dialogues of tests/data, line for line. tests/core/test_dialogues.py plays the same files against the binding.
//!
//! Rules seen there: S-PAR-10 (RFC 1870 5: the size counts unstuffed octets), S-DAT-03 (RFC 5321 4.5.2), S-BDT-01
//! (RFC 3030 2), S-LMT-03 (RFC 2033 4.2), S-RPL-17 (RFC 5321 4.3.1).

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use ehlo::session::{ServerConfig, ServerConnection, ServerEvent, ServerSettings};
use ehlo::syntax::reply::Reply;

/// One file. Format: tests/data/README.md.
struct Dialogue {
    name: String,
    config: Arc<ServerConfig>,
    /// `C` and `S` lines in their order.
    script: Vec<(char, String)>,
    answers: VecDeque<String>,
    messages: String,
}

fn dialogues() -> Vec<Dialogue> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/dialogues");
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = files.map(|path| read(&path)).collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn read(path: &Path) -> Dialogue {
    let mut settings = ServerSettings::default();
    let (mut script, mut answers, mut messages) = (Vec::new(), VecDeque::new(), String::new());
    for line in fs::read_to_string(path).unwrap().lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (kind, text) = line.split_once(':').unwrap();
        let text = text.strip_prefix(' ').unwrap_or(text);
        match kind {
            "X" => set(&mut settings, text),
            "P" => answers.push_back(text.to_owned()),
            "M" => messages.push_str(&format!("{text}\r\n")),
            "C" | "S" => script.push((kind.chars().next().unwrap(), format!("{text}\r\n"))),
            _ => panic!("{}: {line}", path.display()),
        }
    }
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    Dialogue { name, config: Arc::new(ServerConfig::new(settings).unwrap()), script, answers, messages }
}

fn set(settings: &mut ServerSettings, text: &str) {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    match (word, rest) {
        ("hostname", name) => settings.hostname = name.into(),
        ("greeting", text) => settings.greeting = text.into(),
        ("lmtp", "") => settings.lmtp = true,
        ("size", number) => settings.max_message_size = number.parse().ok(),
        ("decide", "rcpt") => settings.decisions.rcpt = true,
        ("offer", words) => {
            let offers = |word| words.split(' ').any(|offered| offered == word);
            settings.chunking = offers("CHUNKING");
            settings.binarymime = offers("BINARYMIME");
            settings.smtputf8 = offers("SMTPUTF8");
            settings.dsn = Some(offers("DSN"));
            settings.limits_keyword = offers("LIMITS");
            settings.help = offers("HELP");
        }
        _ => panic!("X: {text}"),
    }
}

/// A session with the program of a dialogue.
struct Play<'a> {
    dialogue: &'a Dialogue,
    connection: ServerConnection,
    answers: VecDeque<String>,
    messages: Vec<u8>,
}

impl<'a> Play<'a> {
    fn new(dialogue: &'a Dialogue) -> Self {
        let connection = ServerConnection::new(Arc::clone(&dialogue.config));
        Self { dialogue, connection, answers: dialogue.answers.clone(), messages: Vec::new() }
    }

    fn feed(&mut self, octets: &[u8]) {
        self.connection.receive(octets);
        while let Some(event) = self.connection.poll_event() {
            if let ServerEvent::Message { envelope, content, size, .. } = event {
                assert_eq!(size, content.len() as u64);
                self.messages.extend_from_slice(&content);
                if self.dialogue.config.settings().lmtp {
                    let replies: Vec<_> = envelope.recipients.iter().map(|_| self.answer().unwrap()).collect();
                    self.connection.reply_recipients(&replies).unwrap();
                    continue;
                }
            }
            if self.connection.decision_open() {
                match self.answer() {
                    Some(reply) => self.connection.reply(&reply).unwrap(),
                    None => self.connection.accept().unwrap(),
                }
            }
        }
    }

    fn answer(&mut self) -> Option<Reply> {
        self.answers.pop_front().filter(|text| text != "ok").map(|text| Reply::parse_text(&text).unwrap())
    }

    fn check(&self, expected: &str) {
        assert_eq!(String::from_utf8_lossy(self.connection.output()), expected, "{}", self.dialogue.name);
    }

    fn check_end(&self) {
        self.check(&self.dialogue.all('S'));
        assert_eq!(String::from_utf8_lossy(&self.messages), self.dialogue.messages, "{}", self.dialogue.name);
        assert!(self.answers.is_empty(), "{}: {:?} left", self.dialogue.name, self.answers);
        assert!(self.connection.is_closed(), "{}", self.dialogue.name);
    }
}

impl Dialogue {
    fn all(&self, kind: char) -> String {
        self.script.iter().filter(|(which, _)| *which == kind).map(|(_, line)| line.as_str()).collect()
    }
}

#[test]
fn lock_step_line_for_line() {
    for dialogue in &dialogues() {
        let mut play = Play::new(dialogue);
        let mut expected = String::new();
        for (kind, line) in &dialogue.script {
            if *kind == 'S' {
                expected.push_str(line);
            } else {
                play.check(&expected);
                play.feed(line.as_bytes());
            }
        }
        play.check_end();
    }
}

#[test]
fn in_one_piece_and_cut_at_every_octet() {
    for dialogue in &dialogues() {
        let input = dialogue.all('C').into_bytes();
        for cut in 0..input.len() {
            let mut play = Play::new(dialogue);
            play.feed(&input[..cut]);
            play.feed(&input[cut..]);
            play.check_end();
        }
    }
}

#[test]
fn octet_by_octet() {
    for dialogue in &dialogues() {
        let mut play = Play::new(dialogue);
        dialogue.all('C').as_bytes().chunks(1).for_each(|octet| play.feed(octet));
        play.check_end();
    }
}

#[test]
fn all_files_are_there() {
    let names: Vec<_> = dialogues().into_iter().map(|dialogue| dialogue.name).collect();
    for name in ["rfc2033-4.2.txt", "rfc3030-4.1.txt", "rfc5321-d1.txt", "size-57.txt"] {
        assert!(names.iter().any(|found| found == name), "{name} is missing");
    }
}
