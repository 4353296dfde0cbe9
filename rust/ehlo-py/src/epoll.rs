//! What an epoll of the program's says, asked without Python.
#![allow(unsafe_code)]

use std::io;

/// A number that the system gives to an open file; an epoll has one.
pub(crate) type Descriptor = std::ffi::c_int;

/// The most sockets that one question names.
#[cfg(any(target_os = "linux", target_os = "android"))]
const MOST: usize = 256;

/// Room for the answers of an epoll.
#[derive(Default)]
pub(crate) struct Answers {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    events: Vec<libc::epoll_event>,
}

#[cfg(any(target_os = "linux", target_os = "android"))]
impl Answers {
    /// Ask, without a wait: the descriptors of the sockets that are ready now, and their events.
    pub(crate) fn ask(&mut self, epoll: Descriptor) -> io::Result<impl ExactSizeIterator<Item = (Descriptor, u32)>> {
        self.events.resize(MOST, libc::epoll_event { events: 0, u64: 0 });
        let room = libc::c_int::try_from(MOST).map_err(io::Error::other)?;
        // SAFETY: the system writes no more elements than it is told, and so many there are. A number that is no epoll makes
        // the call fail.
        let count = unsafe { libc::epoll_wait(epoll, self.events.as_mut_ptr(), room, 0) };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        Ok(self.events[..count].iter().map(|event| (descriptor_of(event.u64), event.events)))
    }
}

/// The data that Python's `select.epoll` gives to a socket: its descriptor, in the first octets.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn descriptor_of(data: u64) -> Descriptor {
    let [a, b, c, d, ..] = data.to_ne_bytes();
    Descriptor::from_ne_bytes([a, b, c, d])
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
impl Answers {
    /// There is no epoll here.
    pub(crate) fn ask(&mut self, _: Descriptor) -> io::Result<impl ExactSizeIterator<Item = (Descriptor, u32)>> {
        Err::<std::iter::Empty<_>, _>(io::ErrorKind::Unsupported.into())
    }
}
