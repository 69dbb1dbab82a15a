//! Who may subscribe, over what, and who sees literal secrets.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use support::{Home, http, plane::*};
use tokio_rustls::TlsConnector;
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

const SECRET: &str = "backend: { url: \"http://b:1\" }\nevents: { http: { headers: { X-Token: hunter2 } } }\nrate_limit: { average: 10, burst: 5, period: 1m }\n";

/// A certificate authority with a certificate of a server and one of a client, as PEM files.
struct Authority {
    ca: String,
    client: (String, String),
}

fn authority(dir: &Path) -> Authority {
    let ca_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(params, ca_key);
    let signed = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    };
    let server = signed("localhost");
    for (name, text) in [("ca.pem", &ca.pem()), ("server.pem", &server.0), ("server.key", &server.1)] {
        std::fs::write(dir.join(name), text).unwrap();
    }
    Authority { ca: ca.pem(), client: signed("dataplane") }
}

async fn tls_channel(
    address: SocketAddr,
    ca: &str,
    identity: Option<&(String, String)>,
) -> Result<Channel, tonic::transport::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let connect = tower::service_fn(move |_: tonic::codegen::http::Uri| {
        let connector = connector.clone();
        async move {
            let tcp = tokio::net::TcpStream::connect(address).await?;
            let stream = connector.connect(ServerName::try_from("localhost").unwrap(), tcp).await?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect_with_connector(connect).await
}

fn tls_home(dir: &Path, mutual: bool) -> Home {
    let mut home = Home::new();
    home.write("policy.yaml", SECRET);
    let ca = if mutual { format!(", ca_file: \"{}\"", dir.join("ca.pem").display()) } else { String::new() };
    home.extra = format!(
        "  tls: {{ enabled: true, cert_file: \"{}\", key_file: \"{}\"{ca} }}\n",
        dir.join("server.pem").display(),
        dir.join("server.key").display(),
    );
    home
}

#[tokio::test]
async fn a_token_opens_the_stream_and_nothing_else_does() {
    let mut home = Home::with(10);
    home.extra = "  token: right\n".into();
    let running = home.start().await;
    for wrong in [None, Some("wrong"), Some("righ"), Some("")] {
        let refused = Plane::silent(channel(running.grpc).await, "a", wrong).await.err().unwrap();
        assert_eq!(refused.code(), Code::Unauthenticated, "{wrong:?}");
        assert!(!refused.message().contains("right"));
    }
    let mut plane = Plane::silent(channel(running.grpc).await, "a", Some("right")).await.unwrap();
    plane.hello(None).await;
    plane.take().await;
    let (_, fleet) = http::get(running.admin, "/v1/dataplanes").await;
    let entry = &fleet["dataplanes"][0];
    assert_eq!((&entry["authenticated"], &entry["tls"]), (&true.into(), &false.into()));
    running.stop().await;
}

#[tokio::test]
async fn a_literal_secret_is_withheld_from_an_open_stream() {
    let home = Home::new();
    home.write("policy.yaml", SECRET);
    let running = home.start().await;
    running.average(10).await;
    let mut plane = Plane::join(running.grpc, "a", None).await;
    match plane.next().await.unwrap() {
        Said::Waiting(waiting) => assert!(waiting.reason.contains("not encrypted"), "{}", waiting.reason),
        other => panic!("a reason, not {other:?}"),
    }
    assert!(plane.within(Duration::from_millis(200)).await.is_empty(), "it is said once");
    let (_, fleet) = http::get(running.admin, "/v1/dataplanes").await;
    assert!(fleet["dataplanes"][0]["withheld"].as_str().unwrap().contains("literal secrets"), "{fleet}");
    // Written as a reference it goes out.
    home.write("policy.yaml", &SECRET.replace("hunter2", "{ env: TOKEN }"));
    plane.take().await;
    running.stop().await;
}

#[tokio::test]
async fn a_token_alone_does_not_uncover_literal_secrets_but_the_override_does() {
    let mut home = Home::new();
    home.write("policy.yaml", SECRET);
    home.extra = "  token: right\n".into();
    let running = home.start().await;
    running.average(10).await;
    let mut plane = Plane::silent(channel(running.grpc).await, "a", Some("right")).await.unwrap();
    plane.hello(None).await;
    assert!(matches!(plane.next().await.unwrap(), Said::Waiting(_)));
    running.stop().await;
    home.extra = "  allow_insecure: true\n".into();
    let running = home.start().await;
    let got = Plane::join(running.grpc, "a", None).await.take().await;
    assert_eq!(got.spec.events.http.headers["X-Token"].literal(), Some("hunter2"));
    running.stop().await;
}

#[tokio::test]
async fn with_mutual_tls_a_certificate_opens_the_stream_and_the_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let authority = authority(dir.path());
    let home = tls_home(dir.path(), true);
    let running = home.start().await;
    running.average(10).await;
    let channel = tls_channel(running.grpc, &authority.ca, Some(&authority.client)).await.unwrap();
    let mut plane = Plane::silent(channel, "a", None).await.unwrap();
    plane.hello(None).await;
    assert_eq!(plane.take().await.spec.events.http.headers["X-Token"].literal(), Some("hunter2"));

    // Without a certificate, with one of somebody else, and in clear: no stream.
    let refused = async |channel: Result<Channel, tonic::transport::Error>| match channel {
        Err(_) => true,
        Ok(channel) => Plane::silent(channel, "b", None).await.is_err(),
    };
    assert!(refused(tls_channel(running.grpc, &authority.ca, None).await).await);
    let stranger = self::authority(tempfile::tempdir().unwrap().path()).client;
    assert!(refused(tls_channel(running.grpc, &authority.ca, Some(&stranger)).await).await);
    let plain = Endpoint::from_shared(format!("http://{}", running.grpc)).unwrap().connect().await;
    assert!(refused(plain).await);
    assert_eq!(http::get(running.admin, "/v1/dataplanes").await.1["connected"], 1);
    running.stop().await;
}

#[tokio::test]
async fn encryption_alone_does_not_uncover_literal_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let authority = authority(dir.path());
    let home = tls_home(dir.path(), false);
    let running = home.start().await;
    running.average(10).await;
    let mut plane =
        Plane::silent(tls_channel(running.grpc, &authority.ca, None).await.unwrap(), "a", None).await.unwrap();
    plane.hello(None).await;
    match plane.next().await.unwrap() {
        Said::Waiting(waiting) => assert!(waiting.reason.contains("did not prove"), "{}", waiting.reason),
        other => panic!("a reason, not {other:?}"),
    }
    running.stop().await;
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_cut() {
    use tokio::io::AsyncReadExt;
    let home = Home::with(10);
    let running = home.start().await;
    let mut silent = tokio::net::TcpStream::connect(running.grpc).await.unwrap();
    let mut sink = Vec::new();
    let cut = tokio::time::timeout(Duration::from_secs(5), silent.read_to_end(&mut sink)).await;
    assert!(cut.is_ok(), "cut after the patience of 500 ms");
    // A half-said TLS handshake as well.
    let dir = tempfile::tempdir().unwrap();
    authority(dir.path());
    let running_tls = tls_home(dir.path(), true).start().await;
    let mut silent = tokio::net::TcpStream::connect(running_tls.grpc).await.unwrap();
    let cut = tokio::time::timeout(Duration::from_secs(5), silent.read_to_end(&mut sink)).await;
    assert!(cut.is_ok());
    running.stop().await;
    running_tls.stop().await;
}
