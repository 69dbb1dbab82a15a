//! Load by wrk: one thread.

use std::{net::SocketAddr, process::Command};

use crate::process::program;

/// What wrk saw.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Answers.
    pub requests: u64,
    /// Answers that are neither 2xx nor 3xx.
    pub refused: u64,
    /// Connect, read, write errors and timeouts.
    pub errors: u64,
    /// Seconds it ran.
    pub seconds: f64,
}

/// Which requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// The same one again and again.
    One,
    /// `X-Tenant-Id: t0` to `t9999`, one after the other.
    TenThousand,
}

impl Keys {
    fn script(self) -> &'static str {
        match self {
            Keys::One => "wrk.headers['X-Tenant-Id'] = 'hot'\n",
            Keys::TenThousand => {
                "local all, n = {}, 0\n\
                 init = function(args)\n\
                   for i = 0, 9999 do all[i] = wrk.format('GET', '/', { ['X-Tenant-Id'] = 't' .. i }) end\n\
                 end\n\
                 request = function() n = (n + 1) % 10000; return all[n] end\n"
            }
        }
    }
}

/// A run of it.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Which requests.
    pub keys: Keys,
    /// Kept-alive connections, on one thread.
    pub connections: u32,
    /// Seconds.
    pub seconds: u32,
    /// Core that it runs on, if one is named.
    pub cpu: Option<usize>,
}

impl Load {
    /// Runs it against `to`, within `wrapper` (words that go before the command).
    pub fn run(self, to: SocketAddr, wrapper: &[String]) -> Seen {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("wrk.lua");
        std::fs::write(&script, self.keys.script()).unwrap();
        let mut words = wrapper.to_vec();
        if let Some(cpu) = self.cpu {
            words.extend(["taskset".to_owned(), "-c".to_owned(), cpu.to_string()]);
        }
        words.push(program("wrk").display().to_string());
        let output = Command::new(&words[0])
            .args(&words[1..])
            .args(["-t1", &format!("-c{}", self.connections), &format!("-d{}s", self.seconds), "-s"])
            .arg(&script)
            .arg(format!("http://{to}/"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "wrk failed: {text}{}", String::from_utf8_lossy(&output.stderr));
        parse(&text)
    }
}

fn parse(text: &str) -> Seen {
    let mut seen = Seen::default();
    for line in text.lines().map(str::trim) {
        if let Some((count, rest)) = line.split_once(" requests in ") {
            seen.requests = count.parse().unwrap();
            let time = rest.split(',').next().unwrap();
            seen.seconds = match time.strip_suffix('s') {
                Some(t) if !t.ends_with('m') => t.parse().unwrap(),
                _ => time.trim_end_matches('m').parse::<f64>().unwrap() * 60.0,
            };
        } else if let Some(count) = line.strip_prefix("Non-2xx or 3xx responses: ") {
            seen.refused = count.parse().unwrap();
        } else if let Some(counts) = line.strip_prefix("Socket errors: ") {
            seen.errors = counts.split(", ").map(|c| c.split(' ').nth(1).unwrap().parse::<u64>().unwrap()).sum();
        }
    }
    assert!(seen.requests > 0, "no answer at all: {text}");
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_wrk_prints() {
        let text = "Running 4s test\n  50817 requests in 4.10s, 6.01MB read\n  Socket errors: connect 0, read 3, write 0, timeout 1\n  \
                    Non-2xx or 3xx responses: 17\nRequests/sec: 1\n";
        let seen = parse(text);
        assert_eq!((seen.requests, seen.refused, seen.errors, seen.seconds), (50817, 17, 4, 4.1));
    }
}
