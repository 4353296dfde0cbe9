//! The usual wake-up of many connections in one call: octets in, and what the engines say by themselves out.

use std::any::Any;
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::panic::PanicException;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

use crate::client::connection::ClientConnection;
use crate::epoll::{self, Answers};
use crate::server::connection::ServerConnection;
use crate::socket::{self, Descriptor, is_for_later};

/// Connections whose output goes out together. Each time that the GIL is released, a busy thread may take it and keep it for
/// milliseconds. In larger groups the first peer would wait for the octets of the last.
const GROUP: usize = 4;
/// Memory for output above which it is given back after a group.
const KEEP_CAPACITY: usize = 1 << 18;

/// The usual wake-up of many connections in one call. For each socket that can be read from: one `recv`, the engine,
/// and, if it has no event for the program, one `send` of its output. One of these serves an event loop, servers and
/// clients alike.
///
/// It is for connections in clear text. Output of a connection from before goes out before it. It calls no
/// Python code. It releases the GIL while it sends.
///
/// Args:
///     size: octets that are read from a socket in a turn at most, 65536 if not given.
///
/// Raises:
///     ValueError: for a size of zero.
///
/// Example:
///     >>> watched = {sock.fileno(): (on_turn, conn)}
///     >>> for (on_turn, conn), left in exchange.turn(epoll.poll(0), watched, monotonic()): on_turn(conn, left)
#[pyclass(module = "ehlo")]
pub(crate) struct Exchange {
    input: Box<[u8]>,
    outbox: Outbox,
    answers: Answers,
}

/// The output of a few connections.
#[derive(Default)]
struct Outbox {
    /// One behind the other.
    octets: Vec<u8>,
    sends: Vec<Sending>,
}

/// The output of one connection.
struct Sending {
    descriptor: Descriptor,
    /// In `Outbox::octets`: what the system has not taken.
    octets: Range<usize>,
    failure: Option<io::Error>,
}

/// What one connection needs after its input.
enum Outcome<'py> {
    Nothing,
    Octets(Range<usize>),
    /// The program has to ask the connection.
    Ask,
    /// Something else for the program.
    Left(Bound<'py, PyAny>),
}

/// The connection of one side, a server's or a client's, as an exchange uses it.
pub(crate) trait Side {
    /// Whether an exchange may read for it.
    fn is_open_to_exchange(&self) -> bool;

    /// Octets came at this time. Appends what to send, or leaves it in the connection and gives false: then the program
    /// has to ask.
    fn exchange(&mut self, py: Python<'_>, octets: &[u8], now: f64, output: &mut Vec<u8>) -> PyResult<bool>;

    /// Take back what could not be sent: it goes out before all other output.
    fn take_back(&mut self, octets: &[u8]);
}

#[pymethods]
impl Exchange {
    #[new]
    #[pyo3(signature = (size = 65536))]
    fn new(size: usize) -> PyResult<Self> {
        if size == 0 {
            return Err(PyValueError::new_err("size must be 1 or more"));
        }
        Ok(Self { input: vec![0; size].into_boxed_slice(), outbox: Outbox::default(), answers: Answers::default() })
    }

    /// Read from sockets, and send what the engines say. What is left for the program comes back; most often that is
    /// nothing.
    ///
    /// Args:
    ///     ready: pairs of a descriptor and its events, as `select.epoll.poll` gives them. The sockets do not block.
    ///     watched: a tuple for each descriptor, whose last element is the `ServerConnection` or `ClientConnection`, or
    ///         None if the program wants the events. Descriptors that it does not have are passed over.
    ///     now: the time, for `exchanged_at` of the connections.
    ///
    /// Returns:
    ///     Pairs of a tuple of `watched` and one of these: None, if the connection has an event or wants content, or if
    ///     output is left: ask `next_event`, then `data_to_send`; b"" at the end of input; an OSError, if the
    ///     connection is broken; the events of the descriptor as `ready` has them, if nothing was read: there is no
    ///     connection, it is `held`, it has an event from before, or it has TLS or waits for it.
    ///
    /// Raises:
    ///     TypeError: if `ready` or `watched` are something else.
    ///
    /// Example:
    ///     >>> exchange.turn([(sock.fileno(), 1)], {sock.fileno(): (conn,)}, monotonic())
    ///     []
    fn turn<'py>(
        &mut self,
        ready: &Bound<'py, PyList>,
        watched: &Bound<'py, PyDict>,
        now: f64,
    ) -> PyResult<Bound<'py, PyList>> {
        let Self { input, outbox, .. } = self;
        let mut turn = Turn { input, outbox, watched, now, left: PyList::empty(ready.py()) };
        turn.outbox.clear();
        for pair in ready {
            let pair = pair.cast_into::<PyTuple>()?;
            turn.serve(&pair.get_item(0)?, || pair.get_item(1))?;
        }
        turn.end()
    }

    /// The same for the sockets of an epoll that are ready now, up to 256 of them. It does not wait.
    ///
    /// Args:
    ///     epoll: the descriptor of a `select.epoll`.
    ///     watched, now: as for `turn`.
    ///
    /// Returns:
    ///     How many sockets were ready, and what is left for the program, as `turn` gives it.
    ///
    /// Raises:
    ///     OSError: if the descriptor is no epoll, or the system has none.
    ///     TypeError: if `watched` is something else.
    ///
    /// Example:
    ///     >>> count, left = exchange.turn_epoll(epoll.fileno(), watched, monotonic())
    ///     >>> for (on_turn, conn), what in left: on_turn(conn, what)
    fn turn_epoll<'py>(
        &mut self,
        epoll: epoll::Descriptor,
        watched: &Bound<'py, PyDict>,
        now: f64,
    ) -> PyResult<(usize, Bound<'py, PyList>)> {
        let py = watched.py();
        let Self { input, outbox, answers } = self;
        let ready = answers.ask(epoll).map_err(|error| os_error(&error))?;
        let count = ready.len();
        let mut turn = Turn { input, outbox, watched, now, left: PyList::empty(py) };
        turn.outbox.clear();
        for (descriptor, events) in ready {
            let events = || Ok(events.into_pyobject(py)?.into_any());
            turn.serve(descriptor.into_pyobject(py)?.as_any(), events)?;
        }
        Ok((count, turn.end()?))
    }
}

/// One turn, for the sockets that are ready.
struct Turn<'a, 'py> {
    input: &'a mut [u8],
    outbox: &'a mut Outbox,
    watched: &'a Bound<'py, PyDict>,
    now: f64,
    /// For the program.
    left: Bound<'py, PyList>,
}

impl<'py> Turn<'_, 'py> {
    /// One socket with these events.
    fn serve(
        &mut self,
        descriptor: &Bound<'py, PyAny>,
        events: impl FnOnce() -> PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let py = descriptor.py();
        let Some(entry) = self.watched.get_item(descriptor)? else { return Ok(()) };
        let conn = entry.cast::<PyTuple>()?.iter_borrowed().next_back();
        let descriptor = descriptor.extract()?;
        // The fault of one connection must not lose what is left of the others.
        let serve = || conn.and_then(|conn| serve(&conn, descriptor, self.input, &mut self.outbox.octets, self.now));
        let outcome = catch_unwind(AssertUnwindSafe(serve)).unwrap_or_else(|fault| Some(left_by_panic(py, &*fault)));
        match outcome.map_or_else(|| events().map(Outcome::Left), Ok)? {
            Outcome::Nothing => {}
            Outcome::Octets(octets) => {
                self.outbox.sends.push(Sending { descriptor, octets, failure: None });
                if self.outbox.sends.len() >= GROUP {
                    self.outbox.flush(self.watched, &self.left)?;
                }
            }
            Outcome::Ask => self.left.append((entry, none(py)))?,
            Outcome::Left(what) => self.left.append((entry, what))?,
        }
        Ok(())
    }

    /// What is left, after the last socket.
    fn end(self) -> PyResult<Bound<'py, PyList>> {
        self.outbox.flush(self.watched, &self.left)?;
        Ok(self.left)
    }
}

/// One read, then the engine. None if that is the program's to do.
fn serve<'py>(
    conn: &Bound<'py, PyAny>,
    descriptor: Descriptor,
    input: &mut [u8],
    output: &mut Vec<u8>,
    now: f64,
) -> Option<Outcome<'py>> {
    let py = conn.py();
    // A connection that another thread uses at the moment is the program's, too: it gets its RuntimeError.
    if let Ok(conn) = conn.cast::<ServerConnection>() {
        serve_side(&mut *conn.try_borrow_mut().ok()?, py, descriptor, input, output, now)
    } else {
        let conn = conn.cast::<ClientConnection>().ok()?;
        serve_side(&mut *conn.try_borrow_mut().ok()?, py, descriptor, input, output, now)
    }
}

fn serve_side<'py>(
    conn: &mut impl Side,
    py: Python<'py>,
    descriptor: Descriptor,
    input: &mut [u8],
    output: &mut Vec<u8>,
    now: f64,
) -> Option<Outcome<'py>> {
    if !conn.is_open_to_exchange() {
        return None;
    }
    let count = match socket::receive(descriptor, input) {
        Ok(0) => return Some(Outcome::Left(PyBytes::new(py, b"").into_any())),
        Ok(count) => count,
        Err(error) if is_for_later(&error) => return Some(Outcome::Nothing),
        Err(error) => return Some(Outcome::failure(py, os_error(&error))),
    };
    let start = output.len();
    Some(match conn.exchange(py, &input[..count], now, output) {
        Ok(false) => Outcome::Ask,
        Ok(true) if output.len() == start => Outcome::Nothing,
        Ok(true) => Outcome::Octets(start..output.len()),
        Err(error) => Outcome::failure(py, error),
    })
}

impl<'py> Outcome<'py> {
    fn failure(py: Python<'py>, error: PyErr) -> Self {
        Self::Left(exception(py, error))
    }
}

fn none(py: Python<'_>) -> Bound<'_, PyAny> {
    py.None().into_bound(py)
}

/// Give octets that the system did not take back to the engine of a tuple of `watched`.
fn take_back(entry: &Bound<'_, PyAny>, octets: &[u8]) -> PyResult<()> {
    if let Some(conn) = entry.cast::<PyTuple>()?.iter_borrowed().next_back() {
        if let Ok(conn) = conn.cast::<ServerConnection>() {
            conn.try_borrow_mut()?.take_back(octets);
        } else {
            conn.cast::<ClientConnection>()?.try_borrow_mut()?.take_back(octets);
        }
    }
    Ok(())
}

fn exception(py: Python<'_>, error: PyErr) -> Bound<'_, PyAny> {
    error.into_value(py).into_bound(py).into_any()
}

/// As Python makes it: with `errno`, and `strerror` without the number.
fn os_error(error: &io::Error) -> PyErr {
    let text = error.to_string();
    PyOSError::new_err((error.raw_os_error(), text.split(" (os error").next().unwrap_or_default().to_owned()))
}

fn left_by_panic<'py>(py: Python<'py>, fault: &(dyn Any + Send)) -> Outcome<'py> {
    let said = fault.downcast_ref::<String>().map(String::as_str).or_else(|| fault.downcast_ref::<&str>().copied());
    Outcome::failure(py, PanicException::new_err(said.unwrap_or("a panic").to_owned()))
}

impl Outbox {
    /// Send all, and tell what is left of it.
    fn flush<'py>(&mut self, watched: &Bound<'py, PyDict>, left: &Bound<'py, PyList>) -> PyResult<()> {
        let Self { octets: output, sends } = self;
        if sends.is_empty() {
            return Ok(());
        }
        let py = watched.py();
        py.detach(|| sends.iter_mut().for_each(|sending| sending.send(output)));
        for Sending { descriptor, octets, failure } in sends.drain(..) {
            if failure.is_none() && octets.is_empty() {
                continue;
            }
            let Some(entry) = watched.get_item(descriptor)? else { continue };
            let taken = take_back(&entry, &output[octets]); // what was not sent may be sent again, by a client
            let what = match failure {
                Some(error) => exception(py, os_error(&error)),
                None => taken.map_or_else(|error| exception(py, error), |()| none(py)),
            };
            left.append((entry, what))?;
        }
        self.clear();
        Ok(())
    }

    fn clear(&mut self) {
        self.sends.clear();
        if self.octets.capacity() > KEEP_CAPACITY {
            self.octets = Vec::new();
        } else {
            self.octets.clear();
        }
    }
}

impl Sending {
    fn send(&mut self, output: &[u8]) {
        match socket::send(self.descriptor, &output[self.octets.clone()]) {
            Ok(count) => self.octets.start += count,
            Err(error) => self.failure = Some(error),
        }
    }
}
