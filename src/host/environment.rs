//! The environment of a program, which may have secrets in it. `Command` would keep copies of them in memory that is not
//! wiped.

use std::ffi::c_char;
use std::io;
use zeroize::Zeroizing;

unsafe extern "C" {
    /// The environment that execvp(3) gives a program.
    static mut environ: *const *const c_char;
}

/// Variables as a program gets them; wiped when dropped.
pub(super) struct Environment {
    /// `NAME=VALUE`, with a zero byte.
    _variables: Vec<Zeroizing<Vec<u8>>>,
    /// To each of them, and null.
    pointers: Vec<*const c_char>,
}

// SAFETY: the pointers are to buffers that this owns and nobody changes.
unsafe impl Send for Environment {}
// SAFETY: as above.
unsafe impl Sync for Environment {}

impl Environment {
    /// Of these variables alone.
    pub(super) fn new<'a>(
        variables: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> io::Result<Self> {
        let variable = |(name, value): (&str, &str)| {
            if value.contains('\0') {
                let what = format!("the variable {name} would have a zero byte");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
            }
            // As large as it gets: one that grows leaves a copy behind.
            let mut text = Zeroizing::new(Vec::with_capacity(name.len() + value.len() + 2));
            for part in [name.as_bytes(), b"=", value.as_bytes(), b"\0"] {
                text.extend_from_slice(part);
            }
            Ok(text)
        };
        let variables: Vec<_> = variables.into_iter().map(variable).collect::<io::Result<_>>()?;
        let pointers = variables.iter().map(|text| text.as_ptr().cast());
        let pointers = pointers.chain([std::ptr::null()]).collect();
        Ok(Self { _variables: variables, pointers })
    }

    /// Makes it that of the program that this process is about to run. Writes one word, and allocates nothing.
    ///
    /// # Safety
    /// Only in a child that has been forked and ends, or runs a program, while this lives.
    pub(super) unsafe fn take_over(&self) {
        // SAFETY: a forked child has one thread, so nobody reads it meanwhile; the array ends with null and, with
        // what it points to, lives as long as the child needs it.
        unsafe { environ = self.pointers.as_ptr() }
    }
}
