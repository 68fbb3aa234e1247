//! Data on stdout.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::errors::Failure;

/// Writes data to stdout. A reader that goes away early (`| head`) is no failure.
///
/// # Errors
///
/// Where stdout cannot be written for another reason.
pub(crate) fn write(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    let result = write(&mut out).and_then(|()| out.flush());
    // What could not be flushed would be tried again on drop.
    let _ = out.into_parts();
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::output("write", Path::new("stdout"), error))
        }
        _ => Ok(()),
    }
}
