//! Sockets of the program's, used without Python.
#![allow(unsafe_code)]

use std::io::{self, ErrorKind, Read, Write};
use std::mem::ManuallyDrop;
use std::net::TcpStream;
#[cfg(unix)]
use std::os::fd::FromRawFd;
#[cfg(windows)]
use std::os::windows::io::FromRawSocket;

/// The number of a socket, as `socket.fileno()` gives it.
#[cfg(unix)]
pub(crate) type Descriptor = std::os::fd::RawFd;
#[cfg(windows)]
pub(crate) type Descriptor = std::os::windows::io::RawSocket;

/// "Bad file descriptor", on every Unix; std has no name for it.
const EBADF: i32 = 9;
/// The same of Windows.
const WSAENOTSOCK: i32 = 10038;
/// The number of no socket: Python says it of one that is closed.
const NONE: Descriptor = !0;

/// Use a socket of the program's. `TcpStream` is no more here than the calls of the system: `recv`, and `send` that makes
/// no signal. They are the same for other stream sockets.
///
/// On Apple's systems the signal is an option of the socket. std sets it only for sockets that it has made, so Python sets
/// it for ours (`no_signal` in `_sockets.py`).
fn with_socket<R>(descriptor: Descriptor, operate: impl FnOnce(&mut TcpStream) -> io::Result<R>) -> io::Result<R> {
    if descriptor == NONE {
        return Err(io::Error::from_raw_os_error(if cfg!(windows) { WSAENOTSOCK } else { EBADF }));
    }
    // SAFETY: the number is not the one that std keeps for "none". The socket is not closed here, since it is never dropped.
    // A number that is no open socket makes the system's calls fail, as it does for `socket.socket(fileno=…)`; nothing else
    // is done with it.
    let mut socket = ManuallyDrop::new(unsafe {
        #[cfg(unix)]
        let socket = TcpStream::from_raw_fd(descriptor);
        #[cfg(windows)]
        let socket = TcpStream::from_raw_socket(descriptor);
        socket
    });
    operate(&mut socket)
}

/// How many octets a socket that does not block takes now.
pub(crate) fn send(descriptor: Descriptor, octets: &[u8]) -> io::Result<usize> {
    match with_socket(descriptor, |socket| socket.write(octets)) {
        Err(error) if is_for_later(&error) => Ok(0),
        sent => sent,
    }
}

/// How many octets came from a socket that does not block; 0 at the end of input.
pub(crate) fn receive(descriptor: Descriptor, buffer: &mut [u8]) -> io::Result<usize> {
    with_socket(descriptor, |socket| socket.read(buffer))
}

/// Whether the system only has nothing to give, or no room, at the moment.
pub(crate) fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
