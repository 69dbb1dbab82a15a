//! What a request asks the origin to do: `x-origin: status=503; head-delay=200`.

use std::time::Duration;

/// Parsed `x-origin`. Times are milliseconds.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// `status=N`: status of the answer.
    pub status: Option<u16>,
    /// `head-delay=N`: waits, after the request head, before it answers.
    pub head_delay: Duration,
    /// `chunks=N`: the body is N pieces of unknown total length.
    pub chunks: Option<usize>,
    /// `chunk-size=N`: bytes of a piece, 16 when absent.
    pub chunk_size: Option<usize>,
    /// `chunk-delay=N`: waits before each piece.
    pub chunk_delay: Duration,
    /// `sse=N`: N events of `text/event-stream`, paced by `chunk-delay`.
    pub sse: Option<usize>,
    /// `length=N`: the body is N bytes of known length.
    pub length: Option<usize>,
    /// `body=TEXT`: the body is this text.
    pub body: Option<String>,
    /// `trailers`: after the body comes `x-trailer: end`.
    pub trailers: bool,
    /// `stream`: what comes in goes out, piece by piece.
    pub stream: bool,
    /// `early`: answers without waiting for the request body, which is read on the side.
    pub early: bool,
    /// `unread`: answers without ever reading the request body.
    pub unread: bool,
    /// `drop=head`: closes without an answer.
    pub drop_head: bool,
    /// `drop=body`: breaks off after the pieces.
    pub drop_body: bool,
    /// `header=NAME:VALUE`: more fields on the answer; repeatable.
    pub headers: Vec<(String, String)>,
}

impl Script {
    /// Reads it.
    ///
    /// # Panics
    /// On a word it does not know: a test with a misspelt script must not pass.
    pub fn parse(text: &str) -> Script {
        let mut script = Script::default();
        for word in text.split(';').map(str::trim).filter(|w| !w.is_empty()) {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let number = || value.parse::<usize>().unwrap_or_else(|_| panic!("x-origin: {word:?} needs a number"));
            let millis = || Duration::from_millis(number() as u64);
            match name {
                "status" => script.status = Some(value.parse().unwrap()),
                "head-delay" => script.head_delay = millis(),
                "chunks" => script.chunks = Some(number()),
                "chunk-size" => script.chunk_size = Some(number()),
                "chunk-delay" => script.chunk_delay = millis(),
                "sse" => script.sse = Some(number()),
                "length" => script.length = Some(number()),
                "body" => script.body = Some(value.to_owned()),
                "trailers" => script.trailers = true,
                "stream" => script.stream = true,
                "early" => script.early = true,
                "unread" => script.unread = true,
                "drop" if value == "head" => script.drop_head = true,
                "drop" if value == "body" => script.drop_body = true,
                "header" => {
                    let (n, v) = value.split_once(':').unwrap_or_else(|| panic!("x-origin: {word:?} needs NAME:VALUE"));
                    script.headers.push((n.to_owned(), v.to_owned()));
                }
                _ => panic!("x-origin: unknown word {word:?}"),
            }
        }
        script
    }
}
