//! TLS towards Redis: who is trusted, by which name, and who we are.

use std::{path::Path, process::Command};

use edgequota_config::settings::{PeerTls, Redis};
use edgequota_policy::limit::FailurePolicy;

use crate::support::{
    asks::{ask, limit},
    server::RedisServer,
    world::{World, by_store, settings},
};

fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl").current_dir(folder).args(arguments.split(' ')).output();
    let output = output.expect("openssl is installed (Debian: openssl)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A CA, a server's certificate for the name `redis.test` only, and a client's.
fn certificates(folder: &Path) {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    openssl(folder, &format!("req -x509 {key} -keyout ca.key -out ca.crt -subj /CN=ca"));
    for (name, san) in [("server", "DNS:redis.test"), ("client", "DNS:client.test")] {
        openssl(
            folder,
            &format!(
                "req -x509 {key} -CA ca.crt -CAkey ca.key -keyout {name}.key -out {name}.crt -subj /CN={name} \
             -addext subjectAltName={san} -addext basicConstraints=critical,CA:FALSE"
            ),
        );
    }
}

#[tokio::test]
async fn certificates_are_checked_both_ways() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().expect("first in this process");
    let folder = tempfile::tempdir().expect("a folder");
    certificates(folder.path());
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (cert, key, ca) = (path("server.crt"), path("server.key"), path("ca.crt"));
    let server = RedisServer::start_with(&[
        "--port",
        "0",
        "--tls-port",
        "{port}",
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
    ]);
    let with = |tls: PeerTls| Redis { tls, ..settings(&server) };
    let good = PeerTls {
        enabled: true,
        cert_file: path("client.crt"),
        key_file: path("client.key"),
        ca_file: ca.clone(),
        server_name: "redis.test".to_owned(),
        insecure_skip_verify: false,
    };
    let asks = [ask(limit("default", 100, FailurePolicy::FailClosed), "acme")];
    let counts = async |tls: PeerTls| {
        let world = World::new(with(tls)).await;
        by_store(&world.verdict(&asks).await)
    };
    assert!(counts(good.clone()).await);
    assert!(
        !counts(PeerTls { server_name: String::new(), ..good.clone() }).await,
        "127.0.0.1 is not in the certificate"
    );
    assert!(!counts(PeerTls { ca_file: String::new(), ..good.clone() }).await, "the CA is not the system's");
    assert!(!counts(PeerTls { cert_file: String::new(), ..good.clone() }).await, "the server wants our certificate");
    let trusting =
        PeerTls { ca_file: String::new(), server_name: String::new(), insecure_skip_verify: true, ..good.clone() };
    assert!(counts(trusting).await);
    assert!(!counts(PeerTls::default()).await);
    assert!(!counts(PeerTls { ca_file: path("missing"), ..good }).await);
}
