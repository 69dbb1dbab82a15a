#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::{fs, path::Path};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn write(&self, dir: &Path) -> String {
        put(dir, "ca.pem", &self.0.pem())
    }

    /// Writes `<name>.pem` and `<name>.key`.
    fn issue(&self, dir: &Path, name: &str) -> (String, String) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (put(dir, &format!("{name}.pem"), &certificate.pem()), put(dir, &format!("{name}.key"), &key.serialize_pem()))
    }
}

fn put(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn peer((cert_file, key_file): (String, String), ca_file: &str) -> PeerTls {
    PeerTls {
        enabled: true,
        cert_file,
        key_file,
        ca_file: ca_file.to_owned(),
        server_name: String::new(),
        insecure_skip_verify: false,
    }
}

fn nobody() -> (String, String) {
    (String::new(), String::new())
}

/// The outcome of a handshake as the client and as the server see it, and what was agreed on.
async fn shake(server: &ServerTls, client: &ClientTls) -> Result<Option<Vec<u8>>, String> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from("server.test").unwrap();
    let connect = TlsConnector::from(client.current()).connect(name, near);
    let accept = TlsAcceptor::from(server.current()).accept(far);
    let (connected, accepted) = tokio::join!(connect, accept);
    connected.map_err(|error| format!("client: {error}"))?;
    let accepted = accepted.map_err(|error| format!("server: {error}"))?;
    Ok(accepted.get_ref().1.alpn_protocol().map(<[u8]>::to_vec))
}

#[tokio::test]
async fn a_server_is_verified_by_name_and_authority() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let ca = authority.write(dir.path());
    let server = ServerTls::load(&peer(authority.issue(dir.path(), "server.test"), ""), &[b"h2"]).unwrap();
    let client = ClientTls::load(&peer(nobody(), &ca), &[b"h2"]).unwrap();
    assert_eq!(shake(&server, &client).await, Ok(Some(b"h2".to_vec())));

    let misnamed = ServerTls::load(&peer(authority.issue(dir.path(), "other.test"), ""), &[b"h2"]).unwrap();
    assert!(shake(&misnamed, &client).await.unwrap_err().starts_with("client: "));

    let elsewhere = tempfile::tempdir().unwrap();
    let other_ca = Authority::new().write(elsewhere.path());
    let distrustful = ClientTls::load(&peer(nobody(), &other_ca), &[b"h2"]).unwrap();
    assert!(shake(&server, &distrustful).await.is_err());

    let careless = PeerTls { insecure_skip_verify: true, ..peer(nobody(), "") };
    let careless = ClientTls::load(&careless, &[b"h2"]).unwrap();
    assert!(shake(&misnamed, &careless).await.is_ok());
}

#[tokio::test]
async fn with_a_ca_file_the_server_wants_to_see_a_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let ca = authority.write(dir.path());
    let server = ServerTls::load(&peer(authority.issue(dir.path(), "server.test"), &ca), &[]).unwrap();
    let known = ClientTls::load(&peer(authority.issue(dir.path(), "client.test"), &ca), &[]).unwrap();
    assert_eq!(shake(&server, &known).await, Ok(None));
    let unknown = ClientTls::load(&peer(nobody(), &ca), &[]).unwrap();
    assert!(shake(&server, &unknown).await.unwrap_err().starts_with("server: "));
}

#[tokio::test]
async fn new_files_are_taken_and_bad_ones_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let first = Authority::new();
    let tls = peer(first.issue(dir.path(), "server.test"), "");
    let server = ServerTls::load(&tls, &[]).unwrap();
    let old = server.current();
    server.reload_now();
    assert!(Arc::ptr_eq(&old, &server.current()), "nothing changed");

    let key = fs::read_to_string(&tls.key_file).unwrap();
    fs::write(&tls.key_file, "half a k").unwrap();
    server.reload_now();
    assert!(Arc::ptr_eq(&old, &server.current()), "a torn file leaves the old one in force");
    fs::write(&tls.key_file, key).unwrap();

    let second = Authority::new();
    let ca = second.write(dir.path());
    second.issue(dir.path(), "server.test");
    server.reload_now();
    let client = ClientTls::load(&peer(nobody(), &ca), &[]).unwrap();
    assert_eq!(shake(&server, &client).await, Ok(None), "the new authority vouches for it");

    fs::remove_file(&tls.cert_file).unwrap();
    server.reload_now();
    assert_eq!(shake(&server, &client).await, Ok(None), "vanished files leave it in force too");
}

#[test]
fn errors_name_the_file_and_never_show_what_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (cert, key) = authority.issue(dir.path(), "server.test");
    let (_, other_key) = authority.issue(dir.path(), "other.test");
    let garbage = put(dir.path(), "garbage", "TOPSECRET");
    let torn = put(dir.path(), "torn", "-----BEGIN PRIVATE KEY-----\nTOPSECRET\n");
    let absent = dir.path().join("absent").display().to_string();
    let cases = [
        ((cert.clone(), absent.clone()), &absent, "cannot be read"),
        ((garbage.clone(), key), &garbage, "no certificate"),
        ((cert.clone(), garbage.clone()), &garbage, "no private key"),
        ((cert.clone(), torn.clone()), &torn, "no private key"),
        ((cert, other_key.clone()), &other_key, "does not belong"),
    ];
    for (files, named, why) in cases {
        let error = ServerTls::load(&peer(files, ""), &[]).unwrap_err().to_string();
        assert!(error.contains(named.as_str()) && error.contains(why), "{error}");
        assert!(!error.contains("TOPSECRET"), "{error}");
    }
    let error = ClientTls::load(&peer(nobody(), &garbage), &[]).unwrap_err().to_string();
    assert!(error.contains(&garbage) && !error.contains("TOPSECRET"), "{error}");
    let error = ServerTls::load(&peer(nobody(), ""), &[]).unwrap_err().to_string();
    assert!(error.contains("tls.cert_file"), "{error}");
}
