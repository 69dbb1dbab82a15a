//! Watches files for changed *content*: parent directory, `..data` swaps, slow poll, debounce 300 ms after the last
//! change, at most 2 s after the first.
use std::path::PathBuf;
use tokio_util::sync::CancellationToken;

/// What to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// One file.
    File(PathBuf),
    /// All `*.yaml` and `*.yml` in a directory (dot files are not read), not recursive.
    Directory(PathBuf),
}
/// Content seen at one moment, by file name, sorted. `None`: the file does not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// (path as shown, text or why it could not be read)
    pub files: Vec<(PathBuf, Result<String, String>)>,
}
/// Times; `Default` is the contract's (300 ms, 2 s, poll 10 s).
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Pace { pub quiet: std::time::Duration, pub most: std::time::Duration, pub poll: std::time::Duration }

/// Reads once now (returned), then reports every later change of content. `poke` (SIGHUP) makes it read at once.
/// The watch is in place before the first read, so an edit during start is not missed.
pub struct Watch {}
impl Watch {
    /// Starts; the tasks end with `stop`.
    pub async fn start(_targets: Vec<Target>, _pace: Pace, _stop: CancellationToken) -> (Content, Watch) { todo!() }
    /// The next content that differs from the last one reported. Cancel safe.
    pub async fn changed(&mut self) -> Content { todo!() }
    /// A handle that makes the watch read at once.
    pub fn poke(&self) -> Poke { todo!() }
}
/// See [`Watch::poke`].
#[derive(Clone, Debug)]
pub struct Poke {}
impl Poke {
    /// Read now.
    pub fn poke(&self) { todo!() }
}
