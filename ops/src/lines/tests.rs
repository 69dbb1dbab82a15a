#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::sync::mpsc;

use super::*;

const LIMIT: Duration = Duration::from_secs(20);

fn config(shards: usize, capacity: usize) -> Config {
    Config { name: "test-lines", shards, capacity, gather: Duration::from_millis(1) }
}

/// Takes at most `at_most` bytes a call.
#[derive(Clone, Default)]
struct Taken {
    bytes: Arc<Mutex<Vec<u8>>>,
    at_most: Option<usize>,
}

impl Taken {
    fn text(&self) -> String {
        String::from_utf8(self.bytes.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Taken {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = buf.len().min(self.at_most.unwrap_or(usize::MAX));
        self.bytes.lock().unwrap().extend_from_slice(&buf[..n]);
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Says that it was called, then waits for permission.
struct Stuck {
    called: mpsc::SyncSender<usize>,
    go_on: mpsc::Receiver<()>,
}

impl Write for Stuck {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.called.send(buf.len()).unwrap();
        let _ = self.go_on.recv();
        Ok(buf.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn lines_of_many_threads_arrive_whole_and_each_thread_in_order() {
    const THREADS: usize = 4;
    const LINES: usize = 2000;
    let taken = Taken { at_most: Some(7), ..Taken::default() };
    let lines = Lines::start(&config(THREADS + 1, 8 << 20), Box::new(taken.clone()));
    std::thread::scope(|scope| {
        // the last two share shard 0
        for thread in 1..=THREADS + 2 {
            let lines = lines.clone();
            scope.spawn(move || {
                metrics::enter_worker(thread);
                for n in 0..LINES {
                    assert!(lines.push(format!("{thread} {n} end\n").as_bytes()));
                }
            });
        }
    });
    assert!(lines.flush(LIMIT));
    assert_eq!(lines.dropped(), 0);
    let mut seen = [const { Vec::new() }; THREADS + 3];
    for line in taken.text().lines() {
        let parts: Vec<&str> = line.split(' ').collect();
        assert!(parts.len() == 3 && parts[2] == "end", "torn line {line:?}");
        seen[parts[0].parse::<usize>().unwrap()].push(parts[1].parse::<usize>().unwrap());
    }
    for numbers in &mut seen[1..] {
        // two buffers may change places, so the order is nearly, not wholly, kept: every line is there once
        numbers.sort_unstable();
        assert!(numbers.iter().copied().eq(0..LINES));
    }
}

#[test]
fn a_writer_that_hangs_makes_lines_drop_and_never_blocks() {
    let (called, calls) = mpsc::sync_channel(100);
    let (allow, go_on) = mpsc::sync_channel(100);
    let lines = Lines::start(&config(1, 1000), Box::new(Stuck { called, go_on }));
    let line = [b'x'; 100];
    assert!(lines.push(&line));
    assert_eq!(calls.recv_timeout(LIMIT).unwrap(), 100, "the writer hangs now");
    let taken = (0..25).filter(|_| lines.push(&line)).count();
    assert_eq!(taken, 10, "the capacity holds ten lines");
    assert_eq!(lines.dropped(), 15);
    assert!(!lines.flush(Duration::from_millis(1)));
    drop(allow);
    assert!(lines.flush(LIMIT));
    assert!(lines.push(&line), "there is room again");
    assert_eq!(lines.dropped(), 15);
}

#[test]
fn a_line_larger_than_a_buffer_is_dropped_and_counted() {
    let lines = Lines::start(&config(1, 100), Box::new(Taken::default()));
    assert!(!lines.push(&[b'x'; 51]));
    assert_eq!(lines.dropped(), 1);
}

#[test]
fn what_the_writer_refuses_is_counted() {
    struct Broken;
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines::start(&config(1, 1000), Box::new(Broken));
    lines.push(b"one\ntwo\n");
    assert!(lines.flush(LIMIT));
    assert_eq!(lines.dropped(), 2);
}

#[test]
fn the_last_handle_leaves_nothing_behind() {
    struct End(Taken, mpsc::SyncSender<()>);
    impl Write for End {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.0.write(buf)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    impl Drop for End {
        fn drop(&mut self) {
            let _ = self.1.send(());
        }
    }
    let taken = Taken::default();
    let (ended, end) = mpsc::sync_channel(100);
    let lines = Lines::start(&config(1, 1000), Box::new(End(taken.clone(), ended)));
    lines.push(b"last\n");
    drop(lines);
    end.recv_timeout(LIMIT).expect("the writer thread ends");
    assert_eq!(taken.text(), "last\n");
}
