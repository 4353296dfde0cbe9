//! Memory that Python lends us, and memory that we lend to Python.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::ffi::c_int;
use std::slice;

use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView};
use pyo3::{PyTraverseError, PyVisit, ffi};

use crate::lazy::Lazy;

/// Let `read` see the octets of a `bytes` or of any other contiguous buffer.
///
/// `read` must not run Python code, which could change a mutable buffer under it. (Making a `bytes` or `str` is no
/// such thing: those are not tracked by the collector.)
#[inline]
pub(crate) fn lend<R>(object: &Bound<'_, PyAny>, read: impl FnOnce(&[u8]) -> R) -> PyResult<R> {
    if let Ok(bytes) = object.cast_exact::<PyBytes>() {
        return Ok(read(bytes.as_bytes()));
    }
    let buffer = PyUntypedBuffer::get(object)?;
    if !buffer.is_c_contiguous() {
        return Err(PyBufferError::new_err("expected a contiguous buffer"));
    }
    // SAFETY: `buffer` holds the export until the end of this function, so the memory stays where it is and as long
    // as it is; it is contiguous. See `read_shared` for who may write to it.
    let result = unsafe { read_shared(buffer.buf_ptr().cast(), buffer.len_bytes(), read) };
    buffer.release(object.py());
    Ok(result)
}

/// Let `read` see memory that Python code may write to at other times.
///
/// # Safety
/// `data` points to `len` octets that are allocated and initialised for the length of this call; if `len` is zero it
/// may be anything. Nobody may write to them before `read` returns. With the GIL that is so for Python code: this
/// thread holds it, and `read` runs no Python. What is left is a program that has another thread write into the
/// same memory without the GIL, by `recv_into` on the very buffer it gives to us; the parsers read every octet
/// through bounds-checked slices, so it gets garbage for its protocol and nothing worse. Without the GIL every
/// thread could do so, therefore the octets are copied first, as every extension module has to.
unsafe fn read_shared<R>(data: *const u8, len: usize, read: impl FnOnce(&[u8]) -> R) -> R {
    if len == 0 {
        return read(&[]);
    }
    if cfg!(Py_GIL_DISABLED) {
        let mut copy = Vec::<u8>::with_capacity(len);
        // SAFETY: `data` is readable for `len` octets by the contract; `copy` has room for them and is new, so the two do
        // not overlap; after the copy `len` octets are initialised.
        unsafe {
            data.copy_to_nonoverlapping(copy.as_mut_ptr(), len);
            copy.set_len(len);
        }
        return read(&copy);
    }
    // SAFETY: by the contract; no Rust object is longer than `isize::MAX`, nor is a Python one.
    read(unsafe { slice::from_raw_parts(data, len) })
}

/// A fixed buffer that a transport reads into and the engine reads from, without a copy between them.
///
/// One serves all connections of an event loop whose transports fill it and hand it over in one callback, as
/// `asyncio.BufferedProtocol` does: idle connections then hold no buffer.
///
/// Args:
///     size: octets, 65536 if not given.
///
/// Raises:
///     ValueError: for a size of zero.
///
/// Example:
///     >>> buffer = ehlo.ReceiveBuffer()
///     >>> buffer.view[:6] = b"QUIT\r\n"; conn.receive_from(buffer, 6)
#[pyclass(frozen, module = "ehlo", weakref)]
pub(crate) struct ReceiveBuffer {
    memory: Box<[UnsafeCell<u8>]>,
    view: Lazy<PyMemoryView>,
}

// SAFETY: the cells are read in `with` only, under the rule of `read_shared`, and written by Python only, under the
// rules of the buffer protocol.
unsafe impl Sync for ReceiveBuffer {}

impl ReceiveBuffer {
    /// Let `read` see the first `count` octets. It must not run Python code.
    pub(crate) fn with<R>(&self, count: usize, read: impl FnOnce(&[u8]) -> R) -> PyResult<R> {
        if count > self.memory.len() {
            let size = self.memory.len();
            return Err(PyValueError::new_err(format!("at most {size} octets, the size of the buffer, not {count}")));
        }
        // SAFETY: `count` octets of a live box, initialised when it was made; `self` is borrowed for the whole call.
        Ok(unsafe { read_shared(self.memory.as_ptr().cast(), count, read) })
    }
}

#[pymethods]
impl ReceiveBuffer {
    #[new]
    #[pyo3(signature = (size = 65536))]
    fn new(size: usize) -> PyResult<Self> {
        if size == 0 {
            return Err(PyValueError::new_err("size must be 1 or more"));
        }
        let mut memory = Vec::new();
        memory.try_reserve_exact(size).map_err(|_| pyo3::exceptions::PyMemoryError::new_err(()))?;
        memory.resize_with(size, || UnsafeCell::new(0));
        Ok(Self { memory: memory.into_boxed_slice(), view: Lazy::new() })
    }

    /// The whole buffer as a writable memoryview; always the same object.
    #[getter]
    fn view<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyMemoryView>> {
        slf.get().view.get(slf.py(), || PyMemoryView::from(slf.as_any()))
    }

    fn __len__(&self) -> usize {
        self.memory.len()
    }

    fn __repr__(&self) -> String {
        format!("ReceiveBuffer({})", self.memory.len())
    }

    /// # Safety
    /// Called by CPython with a `view` to fill.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let memory = &slf.get().memory;
        // SAFETY: `view` is given by CPython. The memory is a box that is never replaced and lives as long as `slf`, to
        // which `view` takes a reference of its own. Writing through it is what the cells are for. The length fits
        // `Py_ssize_t`, as that of every box does.
        let failed = unsafe {
            ffi::PyBuffer_FillInfo(
                view,
                slf.as_ptr(),
                memory.as_ptr().cast_mut().cast(),
                memory.len() as ffi::Py_ssize_t,
                0,
                flags,
            )
        };
        if failed == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }

    /// The view refers back to us. The memoryview clears itself, which ends the cycle.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.view.visit(&visit)
    }
}
