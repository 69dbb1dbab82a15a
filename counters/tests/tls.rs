//! TLS towards Redis: who is trusted, by which name, and who we are.

use std::{path::Path, process::Command};

use edgequota_config::settings::{PeerTls, Redis};
use edgequota_policy::limit::FailurePolicy;

use crate::support::{
    asks::{ask, limit},
    server::RedisServer,
    topology::{Replicated, Sharded, Watched},
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

/// Certificates in a folder, and the arguments of a server that has them and wants ours.
struct Trust(tempfile::TempDir);

impl Trust {
    fn new() -> Trust {
        // Another test of this process may have been first.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = tempfile::tempdir().expect("a folder");
        certificates(folder.path());
        Trust(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_string_lossy().into_owned()
    }

    fn server(&self) -> Vec<(&'static str, String)> {
        let files = [("tls-cert-file", "server.crt"), ("tls-key-file", "server.key"), ("tls-ca-cert-file", "ca.crt")];
        let files = files.map(|(option, name)| (option, self.path(name)));
        [("tls-port", "{tls}".to_owned())].into_iter().chain(files).collect()
    }

    fn arguments(&self, more: &[&str]) -> Vec<String> {
        let ours = self.server().into_iter().flat_map(|(option, value)| [format!("--{option}"), value]);
        ours.chain(more.iter().map(|arg| (*arg).to_owned())).collect()
    }

    fn client(&self) -> PeerTls {
        PeerTls {
            enabled: true,
            cert_file: self.path("client.crt"),
            key_file: self.path("client.key"),
            ca_file: self.path("ca.crt"),
            server_name: "redis.test".to_owned(),
            insecure_skip_verify: false,
        }
    }
}

fn words(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

async fn counts(set: Redis) {
    let world = World::new(set).await;
    for subject in ["a", "b", "c", "d", "e"] {
        let asks = [ask(limit("default", 100, FailurePolicy::FailClosed), subject)];
        world.recovered(&asks[0]).await;
        assert!(by_store(&world.verdict(&asks).await));
    }
    assert!(world.counters.healthy());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_have_tls_of_their_own_or_the_servers() {
    let trust = Trust::new();
    let set = Replicated::start_with(&words(&trust.arguments(&["--tls-replication", "yes"]))).await;
    let lines: Vec<String> = trust.server().iter().map(|(option, value)| format!("{option} {value}")).collect();
    let stand = Watched::before(set, &format!("{}\ntls-replication yes", lines.join("\n")));
    // Nothing said: the Sentinels are spoken to as the servers.
    counts(Redis { tls: trust.client(), ..stand.settings() }).await;
    // In the clear with the ones, by TLS with the others.
    let endpoints = stand.sentinels.iter().map(RedisServer::address).collect();
    let sentinel_tls = Some(PeerTls::default());
    counts(Redis { tls: trust.client(), sentinel_tls, endpoints, ..stand.settings() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_spoken_to_by_tls() {
    let trust = Trust::new();
    let cluster =
        Sharded::start_with(&words(&trust.arguments(&["--tls-cluster", "yes", "--tls-replication", "yes"]))).await;
    counts(Redis { tls: trust.client(), ..cluster.settings() }).await;
}

#[tokio::test]
async fn certificates_are_checked_both_ways() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
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
