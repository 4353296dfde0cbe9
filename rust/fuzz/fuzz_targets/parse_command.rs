//! Any line: no panic; and a command that was read is written, read and written again the same.
#![no_main]

use ehlo::syntax::command::{Command, parse_command};
use ehlo::syntax::options::Options;
use libfuzzer_sys::fuzz_target;

fn written(command: &Command<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    command.write(&mut out).expect("what was parsed can be written");
    out
}

fuzz_target!(|line: &[u8]| {
    let options = Options::default();
    match parse_command(line, &options) {
        Ok(command) => {
            let first = written(&command);
            let line = first.strip_suffix(b"\r\n").expect("a command ends in CRLF");
            assert!(!line.iter().any(|octet| b"\r\n\0".contains(octet)), "C-CLI-27");
            let again = parse_command(line, &options).expect("what was written can be parsed");
            assert_eq!(written(&again).escape_ascii().to_string(), first.escape_ascii().to_string());
        }
        Err(error) => {
            let (code, enhanced, text) = error.reply();
            assert!((500..=599).contains(&code) && enhanced.class == 5 && !text.is_empty());
        }
    }
});
