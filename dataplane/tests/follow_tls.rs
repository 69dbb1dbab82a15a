//! The stream over TLS, with certificates and tokens.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code, reason = "shared with another test")]
#[path = "follow/fake.rs"]
mod fake;

use std::{path::Path, time::Duration};

use edgequota_config::{Document, load::Environment};
use edgequota_ops::tls::ServerTls;
use edgequota_proto::control::{self, from_control_plane::Message as Say};
use fake::{Fake, Follow, bytes, eventually, version};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio_rustls::TlsAcceptor;

/// `ca.pem`, and `server` and `client` certificates of that authority.
fn certificates(dir: &Path) {
    let ca_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    std::fs::write(dir.join("ca.pem"), params.self_signed(&ca_key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(params, ca_key);
    for (file, name) in [("server", "localhost"), ("client", "dataplane")] {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        std::fs::write(dir.join(format!("{file}.pem")), certificate.pem()).unwrap();
        std::fs::write(dir.join(format!("{file}.key")), key.serialize_pem()).unwrap();
    }
}

/// Lines of `control_plane.tls`.
fn tls(dir: &Path, identity: Option<&str>, rest: &str) -> String {
    let file = |name: String| dir.join(name).display().to_string();
    let identity = identity.map_or_else(String::new, |who| {
        format!("cert_file: \"{}\", key_file: \"{}\", ", file(format!("{who}.pem")), file(format!("{who}.key")))
    });
    format!("  tls: {{ enabled: true, {identity}ca_file: \"{}\"{rest} }}\n", file("ca.pem".into()))
}

/// A control plane that asks for a client certificate.
async fn mutual(dir: &Path) -> Fake {
    edgequota_ops::tls::install_provider();
    let text = format!("control_plane:\n{}", tls(dir, Some("server"), ""));
    let settings = Document::parse("s", &text).unwrap().settings(&Environment::new()).unwrap();
    let server = ServerTls::load(&settings.control_plane.tls, &[b"h2"]).unwrap();
    Fake::with(Some(TlsAcceptor::from(server.current()))).await
}

#[tokio::test]
async fn certificates_of_both_sides_are_used_and_secrets_may_be_handed_over() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let mut fake = mutual(dir.path()).await;
    let mut follow = Follow::to(&format!("https://localhost:{}", fake.address.port()));
    follow.extra = tls(dir.path(), Some("client"), "");
    let follow = follow.start();
    let mut stream = fake.accept().await;
    stream.hello().await;
    let mut spec = fake::spec(10);
    spec.events.http.headers.insert("X-Token".into(), "hunter2".into());
    let secret = spec.resolved().canonical();
    stream.push(version(7, &secret), &secret).await;
    stream.ack().await;
    stream.say(Say::SendCurrent(control::SendCurrent {})).await;
    assert_eq!(stream.current().await.1, secret);
    follow.stop().await;
}

#[tokio::test]
async fn the_servers_name_is_checked_and_can_be_given() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let mut fake = mutual(dir.path()).await;
    // The address is not in the certificate.
    let mut wrong = Follow::to(&format!("https://{}", fake.address));
    wrong.extra = tls(dir.path(), Some("client"), "");
    let wrong = wrong.start();
    assert!(tokio::time::timeout(Duration::from_millis(500), fake.accept()).await.is_err());
    wrong.stop().await;
    let mut right = Follow::to(&format!("https://{}", fake.address));
    right.extra = tls(dir.path(), Some("client"), ", server_name: localhost");
    let right = right.start();
    fake.accept().await.hello().await;
    right.stop().await;
}

#[tokio::test]
async fn the_token_is_shown_and_a_rotated_file_counts_with_the_next_stream() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "first\n").unwrap();
    let mut fake = Fake::start().await;
    let mut follow = Follow::of(&fake);
    follow.extra = format!("  token_file: \"{}\"\n", file.display());
    let follow = follow.start();
    let stream = fake.accept().await;
    assert_eq!(stream.authorization.as_deref(), Some("Bearer first"));
    std::fs::write(&file, "second\n").unwrap();
    drop(stream);
    let mut stream = fake.accept().await;
    assert_eq!(stream.authorization.as_deref(), Some("Bearer second"));
    stream.hello().await;
    stream.push(version(7, &bytes(10)), &bytes(10)).await;
    stream.ack().await;
    // A token that cannot be read is no reason to give up.
    std::fs::remove_file(&file).unwrap();
    drop(stream);
    assert!(tokio::time::timeout(Duration::from_millis(300), fake.accept()).await.is_err());
    std::fs::write(&file, "third\n").unwrap();
    assert_eq!(fake.accept().await.authorization.as_deref(), Some("Bearer third"));
    follow.stop().await;
}

#[tokio::test]
async fn settings_that_cannot_work_are_said_at_once() {
    let mut follow = Follow::to("https://localhost:1");
    follow.extra = "  tls: { enabled: true, ca_file: /does/not/exist.pem }\n".into();
    let error = follow.fails().await;
    assert!(error.contains("control_plane.tls") && error.contains("/does/not/exist.pem"), "{error}");
}

#[tokio::test]
async fn a_policy_from_the_kept_file_is_there_while_tls_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let fake = mutual(dir.path()).await;
    let mut follow = Follow::to(&format!("https://localhost:{}", fake.address.port()));
    // No certificate is shown.
    follow.extra = tls(dir.path(), None, "");
    follow.own = Some(fake::spec(99));
    let follow = follow.start();
    eventually("the own policy is in force", async || (follow.slot.serial() > 0).then_some(())).await;
    follow.stop().await;
}
