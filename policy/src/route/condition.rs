//! Conditions beside host and path: methods and headers.

use http::{HeaderName, Method};

use crate::{RequestView, spec::MatchSpec};

/// All must hold. Each route's methods count as one condition, each header as one.
#[derive(Debug)]
pub(crate) struct Conditions {
    /// Empty: any.
    methods: Box<[Method]>,
    headers: Box<[HeaderCondition]>,
}

#[derive(Debug)]
struct HeaderCondition {
    name: HeaderName,
    test: HeaderTest,
}

#[derive(Debug, PartialEq, Eq)]
enum HeaderTest {
    /// Exactly one line with this value. (Of several lines none would be "the" value, and routes that differ in
    /// the value could both match.)
    Exact(Box<[u8]>),
    Present,
    Absent,
}

/// A method as it is compared: the usual ones in any case, others as they are written.
pub(crate) fn method(text: &str) -> Option<Method> {
    const USUAL: [&str; 9] = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "CONNECT", "PATCH", "TRACE"];
    let usual = USUAL.iter().find(|name| text.eq_ignore_ascii_case(name));
    Method::from_bytes(usual.copied().unwrap_or(text).as_bytes()).ok()
}

impl Conditions {
    /// `spec` is checked; what could not be read is left out.
    pub(crate) fn compile(spec: &MatchSpec) -> Conditions {
        let headers = spec.headers.iter().filter_map(|header| {
            let test = match (&header.exact, header.present) {
                (Some(value), _) => HeaderTest::Exact(value.as_bytes().into()),
                (None, Some(false)) => HeaderTest::Absent,
                (None, _) => HeaderTest::Present,
            };
            Some(HeaderCondition { name: HeaderName::from_bytes(header.name.as_bytes()).ok()?, test })
        });
        Conditions {
            methods: spec.methods.iter().filter_map(|text| method(text)).collect(),
            headers: headers.collect(),
        }
    }

    /// How many.
    pub(crate) fn count(&self) -> usize {
        usize::from(!self.methods.is_empty()) + self.headers.len()
    }

    pub(crate) fn hold(&self, request: &RequestView<'_>) -> bool {
        (self.methods.is_empty() || self.methods.contains(request.method))
            && self.headers.iter().all(|condition| condition.holds(request))
    }

    /// The first header that must have a certain value.
    pub(crate) fn exact_header(&self) -> Option<&HeaderName> {
        let exact = |header: &&HeaderCondition| matches!(header.test, HeaderTest::Exact(_));
        self.headers.iter().find(exact).map(|header| &header.name)
    }

    /// The value that a header must have.
    pub(crate) fn exact_value(&self, name: &HeaderName) -> Option<&[u8]> {
        self.headers.iter().find_map(|header| match &header.test {
            HeaderTest::Exact(value) if header.name == name => Some(&**value),
            _ => None,
        })
    }

    /// No request can meet both: their methods differ, or they ask a header for different things.
    pub(crate) fn exclude(&self, other: &Conditions) -> bool {
        let both_name_methods = !self.methods.is_empty() && !other.methods.is_empty();
        if both_name_methods && !self.methods.iter().any(|m| other.methods.contains(m)) {
            return true;
        }
        self.headers.iter().any(|a| other.headers.iter().any(|b| a.name == b.name && a.test.excludes(&b.test)))
    }
}

impl HeaderCondition {
    fn holds(&self, request: &RequestView<'_>) -> bool {
        match &self.test {
            HeaderTest::Present => request.headers.line(&self.name, 0).is_some(),
            HeaderTest::Absent => request.headers.line(&self.name, 0).is_none(),
            HeaderTest::Exact(value) => request.headers.only_line(&self.name) == Some(&**value),
        }
    }
}

impl HeaderTest {
    fn excludes(&self, other: &HeaderTest) -> bool {
        match (self, other) {
            (HeaderTest::Exact(a), HeaderTest::Exact(b)) => a != b,
            (a, b) => a != b && (*a == HeaderTest::Absent || *b == HeaderTest::Absent),
        }
    }
}
