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
    /// Whether the page is written.
    pub write: bool,
}

/// How to call it.
pub const USAGE: &str = "edgequota-bench [--rounds N] [--seconds N] [--connections N] [--only CASE]... [--no-write]";

impl Options {
    /// Reads arguments; the error is what to print.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Options, String> {
        let mut options = Options { rounds: 5, seconds: 4, connections: 64, only: Vec::new(), write: true };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value\n{USAGE}"));
            let number = |text: String| text.parse::<u32>().map_err(|e| format!("{text}: {e}\n{USAGE}"));
            match argument.as_str() {
                "--rounds" => options.rounds = number(value()?)?.max(1) as usize,
                "--seconds" => options.seconds = number(value()?)?.max(1),
                "--connections" => options.connections = number(value()?)?.max(1),
                "--only" => {
                    let name = value()?;
                    options.only.push(name);
                }
                "--no-write" => options.write = false,
                other => return Err(format!("unknown argument {other}\n{USAGE}")),
            }
        }
        Ok(options)
    }
}
