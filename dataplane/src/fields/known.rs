//! The header names that mean something to the proxy itself.

macro_rules! known {
    ($($id:ident $text:literal,)*) => {
        /// A name that the proxy reads, writes or removes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(crate) enum Known {
            $($id,)*
            /// Any other.
            Other,
        }

        const TEXTS: &[(Known, &str)] = &[$((Known::$id, $text),)*];
    };
}

known! {
    Host "Host",
    Connection "Connection",
    TransferEncoding "Transfer-Encoding",
    ContentLength "Content-Length",
    Upgrade "Upgrade",
    Te "TE",
    ProxyAuthenticate "Proxy-Authenticate",
    ProxyAuthorization "Proxy-Authorization",
    KeepAlive "Keep-Alive",
    ProxyConnection "Proxy-Connection",
    Expect "Expect",
    UserAgent "User-Agent",
    ContentType "Content-Type",
    CacheControl "Cache-Control",
    Cookie "Cookie",
    Date "Date",
    RetryAfter "Retry-After",
    XRetryIn "X-Retry-In",
    XForwardedFor "X-Forwarded-For",
    XForwardedHost "X-Forwarded-Host",
    XForwardedProto "X-Forwarded-Proto",
    XRequestId "X-Request-Id",
    XRateLimitLimit "X-RateLimit-Limit",
    XRateLimitRemaining "X-RateLimit-Remaining",
    XRateLimitReset "X-RateLimit-Reset",
    RateLimitPolicy "RateLimit-Policy",
    RateLimit "RateLimit",
    GrpcStatus "grpc-status",
    GrpcMessage "grpc-message",
}

/// Longest known name.
const LONGEST: usize = 24;
/// Most known names of one length.
const PER_LENGTH: usize = 4;
/// Known names by their length, which tells most others apart at once.
const BY_LENGTH: [[Known; PER_LENGTH]; LONGEST] = by_length();

const fn by_length() -> [[Known; PER_LENGTH]; LONGEST] {
    let mut table = [[Known::Other; PER_LENGTH]; LONGEST];
    let mut at = 0;
    while at < TEXTS.len() {
        let row = &mut table[TEXTS[at].1.len()];
        let mut free = 0;
        // A fifth name of one length fails the build here.
        while !matches!(row[free], Known::Other) {
            free += 1;
        }
        row[free] = TEXTS[at].0;
        at += 1;
    }
    table
}

impl Known {
    /// What a name means, in whatever case it is written.
    pub(crate) fn of(name: &[u8]) -> Known {
        let Some(row) = BY_LENGTH.get(name.len()) else { return Known::Other };
        for known in row {
            match known {
                Known::Other => break,
                known if same(known.text().as_bytes(), name) => return *known,
                _ => {}
            }
        }
        Known::Other
    }

    /// As people expect to read it.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Known::Other => "",
            known => TEXTS[known as usize].1,
        }
    }
}

/// The last letters differ more often than the rest: most names are told apart by one look.
fn same(known: &[u8], name: &[u8]) -> bool {
    let last = |text: &[u8]| text.last().map(u8::to_ascii_lowercase);
    last(known) == last(name) && known.eq_ignore_ascii_case(name)
}

/// A set of known names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Names(u64);

impl Names {
    pub(crate) const NONE: Names = Names(0);

    pub(crate) const fn of(names: &[Known]) -> Names {
        let mut bits = 0;
        let mut at = 0;
        while at < names.len() {
            bits |= 1 << names[at] as u8;
            at += 1;
        }
        Names(bits)
    }

    pub(crate) const fn and(self, other: Names) -> Names {
        Names(self.0 | other.0)
    }

    pub(super) fn add(&mut self, name: Known) {
        self.0 |= 1 << name as u8;
    }

    pub(super) fn subtract(&mut self, names: Names) {
        self.0 &= !names.0;
    }

    pub(crate) fn has(self, name: Known) -> bool {
        self.0 & (1 << name as u8) != 0
    }

    pub(super) fn has_any(self, names: Names) -> bool {
        self.0 & names.0 != 0
    }
}

/// Headers that concern one connection only (RFC 9110 section 7.6.1, and the ones that old software sends).
pub(crate) const HOP_BY_HOP: Names = Names::of(&[
    Known::Connection,
    Known::TransferEncoding,
    Known::Upgrade,
    Known::Te,
    Known::ProxyAuthenticate,
    Known::ProxyAuthorization,
    Known::KeepAlive,
    Known::ProxyConnection,
]);
