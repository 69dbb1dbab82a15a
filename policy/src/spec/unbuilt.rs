//! Features whose settings are read and checked, but that this version does not have.

use super::{BackendProtocol, BackendSpec, BackendTlsSpec, PolicySpec};
use crate::{Problem, backend::url};

pub(super) fn not_built(spec: &PolicySpec) -> Vec<Problem> {
    let mut found = Found(Vec::new());
    let off = "set it to false";
    if spec.auth.enabled {
        found.add("auth.enabled".into(), "the auth service", off);
    }
    if spec.events.enabled {
        found.add("events.enabled".into(), "sending events", off);
    }
    if spec.rate_limit.external.enabled {
        found.add("rate_limit.external.enabled".into(), "the external limit service", off);
    }
    backend(&mut found, "backend", &spec.backend);
    for (i, named) in spec.backends.iter().enumerate() {
        backend(&mut found, &format!("backends[{i}]"), &named.plain());
    }
    found.0
}

fn backend(found: &mut Found, path: &str, backend: &BackendSpec) {
    if url::parse(&backend.url).is_ok_and(|url| url.tls) {
        found.add(format!("{path}.url"), "TLS to a backend", "use http");
    }
    if backend.tls != BackendTlsSpec::default() {
        found.add(format!("{path}.tls"), "TLS to a backend", "remove it");
    }
    if backend.tls_insecure_skip_verify {
        found.add(format!("{path}.tls_insecure_skip_verify"), "TLS to a backend", "set it to false");
    }
    if backend.transport.backend_protocol == BackendProtocol::H3 {
        found.add(format!("{path}.transport.backend_protocol"), "HTTP/3 to a backend", "set it to auto, h1 or h2");
    }
}

struct Found(Vec<Problem>);

impl Found {
    fn add(&mut self, path: String, what: &str, instead: &str) {
        let message = format!("{path}: {what} is not built yet in this version; {instead}");
        self.0.push(Problem { path, message });
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;

    #[test]
    fn each_feature_that_is_missing_names_itself() {
        let mut spec = PolicySpec::default();
        assert_eq!(spec.not_built(), []);
        spec.auth.enabled = true;
        spec.events.enabled = true;
        spec.rate_limit.external.enabled = true;
        spec.backend.url = "https://a".into();
        spec.backend.tls.ca_file = "/ca".into();
        spec.backend.transport.backend_protocol = BackendProtocol::H3;
        spec.backends.push(NamedBackendSpec { name: "b".into(), url: "wss://b".into(), ..Default::default() });
        let found = spec.not_built();
        let paths: Vec<&str> = found.iter().map(|p| p.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "auth.enabled",
                "events.enabled",
                "rate_limit.external.enabled",
                "backend.url",
                "backend.tls",
                "backend.transport.backend_protocol",
                "backends[0].url",
            ]
        );
        assert_eq!(
            found[0].message,
            "auth.enabled: the auth service is not built yet in this version; set it to false"
        );
    }
}
