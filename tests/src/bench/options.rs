//! What the command line says.

/// Options of `make bench BENCH="..."`.
#[derive(Clone, Debug)]
pub struct Options {
    /// Rounds; each measures every contender once. At least 1; 5 when not said.
    pub rounds: usize,
    /// Seconds of one measurement; 4 when not said.
    pub seconds: u32,
    /// Connections of the load; 64 when not said.
    pub connections: u32,
    /// Only cases whose name contains one of these.
    pub only: Vec<String>,
    /// Parts that are run, in their order; all of them when none is said.
    pub parts: Vec<Part>,
    /// Data planes of the fleet; 50 when not said.
    pub planes: usize,
    /// Whether the page is written.
    pub write: bool,
}

/// A part of the benchmark, with a table of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// CPU time and system calls a request, beside nginx and haproxy.
    Requests,
    /// From one worker to two.
    Scaling,
    /// At rest, under load, after load, with idle connections.
    Memory,
    /// From an edit to its enforcement; many subscribers at once.
    Fleet,
}

impl Part {
    /// All of them, as they are run.
    pub const ALL: [Part; 4] = [Part::Requests, Part::Scaling, Part::Memory, Part::Fleet];

    /// Name on the command line and in the page's marks.
    pub fn name(self) -> &'static str {
        match self {
            Part::Requests => "requests",
            Part::Scaling => "scaling",
            Part::Memory => "memory",
            Part::Fleet => "fleet",
        }
    }
}

/// How to call it.
pub const USAGE: &str = "edgequota-bench [--requests] [--scaling] [--memory] [--fleet] [--rounds N] [--seconds N] \
                         [--connections N] [--only CASE]... [--planes N] [--no-write]";

impl Options {
    /// Reads arguments; the error is what to print.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            rounds: 5,
            seconds: 4,
            connections: 64,
            only: Vec::new(),
            parts: Vec::new(),
            planes: 50,
            write: true,
        };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let part = Part::ALL.into_iter().find(|p| argument.strip_prefix("--") == Some(p.name()));
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value\n{USAGE}"));
            let number = |text: String| text.parse::<u32>().map_err(|e| format!("{text}: {e}\n{USAGE}"));
            match (argument.as_str(), part) {
                (_, Some(part)) => options.parts.push(part),
                ("--rounds", _) => options.rounds = number(value()?)?.max(1) as usize,
                ("--seconds", _) => options.seconds = number(value()?)?.max(1),
                ("--connections", _) => options.connections = number(value()?)?.max(1),
                ("--planes", _) => options.planes = number(value()?)?.max(1) as usize,
                ("--only", _) => options.only.push(value()?),
                ("--no-write", _) => options.write = false,
                (other, _) => return Err(format!("unknown argument {other}\n{USAGE}")),
            }
        }
        // Cases belong to the first part: whoever names one does not want the others.
        if options.parts.is_empty() {
            options.parts = if options.only.is_empty() { Part::ALL.to_vec() } else { vec![Part::Requests] };
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options, String> {
        Options::parse(text.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn all_parts_unless_some_are_named() {
        assert_eq!(parse("").unwrap().parts, Part::ALL);
        assert_eq!(parse("--memory --rounds 7").unwrap().parts, [Part::Memory]);
        assert_eq!(parse("--only flood").unwrap().parts, [Part::Requests]);
        assert!(parse("--rounds").unwrap_err().contains("needs a value"));
        assert!(parse("--round 1").unwrap_err().contains("unknown argument"));
    }
}
