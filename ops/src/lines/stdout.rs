//! Standard output, shared by everybody who writes lines.

use std::{
    io::{self, Write},
    time::Duration,
};

/// Standard output for whole lines: one lock for everybody who writes there, held until all of `buf` is out, so that
/// lines of the log and of the access log never run into each other.
pub(crate) struct Stdout;

impl Write for Stdout {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_all(buf).map(|()| buf.len())
    }

    fn write_all(&mut self, mut buf: &[u8]) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        while !buf.is_empty() {
            match stdout.write(buf) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => buf = &buf[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // somebody else made the terminal or the pipe non-blocking
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => pause(),
                Err(error) => return Err(error),
            }
        }
        loop {
            match stdout.flush() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => pause(),
                flushed => return flushed,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Only writer threads come here.
#[allow(clippy::disallowed_methods, reason = "a thread of its own, which has nothing else to do")]
fn pause() {
    std::thread::sleep(Duration::from_millis(1));
}
