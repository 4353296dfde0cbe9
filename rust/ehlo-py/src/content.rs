//! Content on its way in: a `bytes` object in the making.
//!
//! The engine unstuffs straight into the memory of the object that the program gets, so a message of 20 MB is
//! written once. The object is made by CPython's own `PyBytesWriter` (PEP 782; PyO3 brings it to older versions),
//! which grows it by `realloc`, and large blocks move without being copied.

#[cfg(not(Py_LIMITED_API))]
pub(crate) use writer::Collected;

#[cfg(Py_LIMITED_API)]
pub(crate) use vec::Collected;

#[cfg(not(Py_LIMITED_API))]
#[allow(unsafe_code)]
mod writer {
    use std::mem;
    use std::ptr::NonNull;

    use ehlo::session::Content;
    use ehlo::wire::content::Sink;
    use pyo3::ffi;
    use pyo3::ffi::compat::{
        PyBytesWriter, PyBytesWriter_Create, PyBytesWriter_Discard, PyBytesWriter_FinishWithSize,
        PyBytesWriter_GetData, PyBytesWriter_Resize,
    };
    use pyo3::prelude::*;
    use pyo3::types::PyBytes;

    /// A content that grows beyond this gets so much room at once that glibc maps it, whatever was freed before (it
    /// stops to raise its threshold at 32 MiB): only what is mapped moves without being copied, and to copy 15 MB would
    /// stall an event loop for 10 ms. Pages that are not written cost nothing.
    const LARGE: usize = 1 << 20;
    const MAPPED: usize = if cfg!(all(target_os = "linux", target_pointer_width = "64")) { 33 << 20 } else { LARGE };

    /// Octets that become a `bytes`. Empty, it owns nothing.
    ///
    /// Invariant: `data` points to `capacity` writable octets, of which the first `len` are initialised; they
    /// belong to `writer`, which belongs to nobody else. Without a `writer`, `capacity` is zero.
    pub(crate) struct Collected {
        writer: Option<NonNull<PyBytesWriter>>,
        data: NonNull<u8>,
        len: usize,
        capacity: usize,
    }

    // SAFETY: the writer is owned, not shared: no other pointer to it exists, so it may be used from whichever
    // thread owns this value. Each call into CPython attaches that thread first.
    unsafe impl Send for Collected {}
    // SAFETY: `&Collected` gives access to `len` only.
    unsafe impl Sync for Collected {}

    impl Default for Collected {
        fn default() -> Self {
            Self { writer: None, data: NonNull::dangling(), len: 0, capacity: 0 }
        }
    }

    impl Content for Collected {
        fn is_empty(&self) -> bool {
            self.len == 0
        }
    }

    impl Sink for Collected {
        #[inline]
        fn put(&mut self, octets: &[u8]) {
            if octets.len() > self.capacity - self.len {
                self.grow(octets.len());
            }
            // SAFETY: by the line above `capacity - len` octets are enough; they are writable by the invariant, and
            // `octets` is no part of them, as nobody else can see them before `finish`.
            unsafe { self.data.add(self.len).copy_from_nonoverlapping(NonNull::from(octets).cast(), octets.len()) };
            self.len += octets.len();
        }
    }

    impl Collected {
        /// Room for `capacity` octets, to be made with the first of them.
        pub(crate) fn with_capacity(capacity: usize) -> Self {
            let mut collected = Self::default();
            if capacity > 0 {
                collected.allocate(capacity);
            }
            collected
        }

        /// The `bytes`, shrunk to what was put in. No copy of the whole: the object was there all the time.
        pub(crate) fn finish(mut self, py: Python<'_>) -> PyResult<Bound<'_, PyBytes>> {
            let Some(writer) = self.writer.take() else {
                return Ok(PyBytes::new(py, &[]));
            };
            // SAFETY: `writer` is live and ours, and given up here: it was taken, so Drop will not see it. `len` is at
            // most its size and fits `Py_ssize_t`, because `capacity` came from one. The result is a new reference
            // to a `bytes`, or NULL with an exception set.
            unsafe {
                let bytes = PyBytesWriter_FinishWithSize(writer.as_ptr(), self.len as ffi::Py_ssize_t);
                Ok(Bound::from_owned_ptr_or_err(py, bytes)?.cast_into_unchecked())
            }
        }

        #[cold]
        fn grow(&mut self, more: usize) {
            let needed = self.len.checked_add(more).expect("memory is smaller than its address space");
            // A little more for the first octets, so that the end of a small message finds room; then half as much
            // again (to which CPython adds a quarter): pages that are not written are not paid for.
            let extra = if self.capacity == 0 { 64 + more / 8 } else { self.capacity / 2 };
            let capacity = needed.max(self.capacity.saturating_add(extra));
            if !((LARGE..MAPPED).contains(&capacity) && self.map()) {
                self.allocate(capacity);
            }
        }

        /// Move to a mapped block. Says no where that much address space is not to be had.
        fn map(&mut self) -> bool {
            Python::attach(|py| {
                // SAFETY: we are attached, and the size fits `Py_ssize_t`.
                let Some(mapped) = NonNull::new(unsafe { PyBytesWriter_Create(MAPPED as ffi::Py_ssize_t) }) else {
                    drop(PyErr::take(py));
                    return false;
                };
                // SAFETY: `mapped` is live, and has room for `MAPPED` octets, which is more than `len`; nobody else knows it.
                // The old writer is live and ours, and given up here.
                unsafe {
                    let data = NonNull::new_unchecked(PyBytesWriter_GetData(mapped.as_ptr()).cast());
                    data.copy_from_nonoverlapping(self.data, self.len);
                    if let Some(old) = self.writer.replace(mapped) {
                        PyBytesWriter_Discard(old.as_ptr());
                    }
                    (self.data, self.capacity) = (data, MAPPED);
                }
                true
            })
        }

        fn allocate(&mut self, capacity: usize) {
            let size = ffi::Py_ssize_t::try_from(capacity).expect("memory is smaller than half its address space");
            // Own nothing until there is memory: when there is none, this unwinds.
            let (writer, len) = (self.writer.take(), mem::take(&mut self.len));
            (self.data, self.capacity) = (NonNull::dangling(), 0);
            Python::attach(|py| {
                let grown = match writer {
                    // SAFETY: we are attached, and `size` is not negative.
                    None => NonNull::new(unsafe { PyBytesWriter_Create(size) }),
                    // SAFETY: the same, and `writer` is live and ours. It stays so if this fails, and is given up then.
                    Some(writer) => (unsafe { PyBytesWriter_Resize(writer.as_ptr(), size) } == 0).then_some(writer),
                };
                let Some(grown) = grown else {
                    panic!("no memory for {capacity} octets of content: {:?}", PyErr::take(py));
                };
                // SAFETY: `grown` is live; it has `size` octets or more, the first `len` of which are those of before. They
                // stay where they are until the next resize, which comes by here.
                let data = unsafe { PyBytesWriter_GetData(grown.as_ptr()) };
                self.data = NonNull::new(data.cast()).expect("a writer has its data");
                (self.writer, self.len, self.capacity) = (Some(grown), len, capacity);
            });
        }
    }

    impl Drop for Collected {
        fn drop(&mut self) {
            if let Some(writer) = self.writer.take() {
                // Without an interpreter there is nothing to give the memory back to.
                // SAFETY: we are attached; `writer` is live and ours, and was taken, so nobody uses it after this.
                Python::try_attach(|_| unsafe { PyBytesWriter_Discard(writer.as_ptr()) });
            }
        }
    }
}

/// The stable ABI has no `PyBytesWriter`: collect in a `Vec`, copy at the end.
#[cfg(Py_LIMITED_API)]
mod vec {
    use ehlo::session::Content;
    use ehlo::wire::content::Sink;
    use pyo3::prelude::*;
    use pyo3::types::PyBytes;

    /// Octets that become a `bytes`.
    #[derive(Default)]
    pub(crate) struct Collected(Vec<u8>);

    impl Content for Collected {
        fn is_empty(&self) -> bool {
            self.0.is_empty()
        }
    }

    impl Sink for Collected {
        fn put(&mut self, octets: &[u8]) {
            self.0.extend_from_slice(octets);
        }
    }

    impl Collected {
        pub(crate) fn with_capacity(capacity: usize) -> Self {
            Self(Vec::with_capacity(capacity))
        }

        pub(crate) fn finish(self, py: Python<'_>) -> PyResult<Bound<'_, PyBytes>> {
            Ok(PyBytes::new(py, &self.0))
        }
    }
}
