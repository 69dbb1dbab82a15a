//! Who may subscribe, and who may see a policy with literal secrets in it.

use std::{io::Read as _, path::PathBuf};

use edgequota_config::settings::ControlPlane;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use tonic::{Status, metadata::MetadataMap};
use tracing::warn;

use super::accept::Peer;

/// Most bytes of a token.
const MOST_TOKEN: u64 = 4096;

/// The rules for streams.
#[derive(Debug)]
pub struct StreamAuth {
    token: Token,
    allow_insecure: bool,
    /// Nobody has to prove anything.
    open: bool,
}

#[derive(Debug)]
enum Token {
    None,
    Literal(SecretString),
    /// Read for each new stream, so that a rotated secret counts at once.
    File(PathBuf),
}

impl StreamAuth {
    /// From the settings. Says loudly what is open.
    pub fn new(settings: &ControlPlane) -> StreamAuth {
        let token = if !settings.token_file.is_empty() {
            Token::File(settings.token_file.clone().into())
        } else if !settings.token.expose_secret().is_empty() {
            Token::Literal(settings.token.clone())
        } else {
            Token::None
        };
        let verified = settings.tls.enabled && !settings.tls.ca_file.is_empty();
        let open = matches!(token, Token::None) && !verified;
        match (&token, settings.tls.enabled) {
            _ if open => warn!(
                "ANYONE WHO REACHES control_plane.listen CAN READ THE POLICY, AND REPLACE IT while the files are broken \
                 and nothing is in control_plane.state_dir: set control_plane.token, or control_plane.tls with a ca_file \
                 so that data planes must show a certificate"
            ),
            (Token::Literal(_) | Token::File(_), false) => {
                warn!("control_plane.token crosses the network in clear: set control_plane.tls.enabled")
            }
            _ => {}
        }
        if settings.allow_insecure {
            warn!("control_plane.allow_insecure: literal secrets in a policy go to any data plane, in clear");
        }
        StreamAuth { token, allow_insecure: settings.allow_insecure, open }
    }

    /// Whether this peer proved who it is; an error is the answer to one that had to and did not.
    #[allow(clippy::result_large_err, reason = "tonic's own error type")]
    pub fn check(&self, metadata: &MetadataMap, peer: &Peer) -> Result<bool, Status> {
        let expected = match &self.token {
            Token::None => return Ok(peer.certificate),
            Token::Literal(token) => token.clone(),
            Token::File(path) => read_token(path).map_err(|error| {
                warn!(path = %path.display(), %error, "cannot read control_plane.token_file");
                Status::unavailable("the control plane cannot read its token file")
            })?,
        };
        let shown = metadata.get("authorization").and_then(|v| v.to_str().ok()).and_then(|v| v.strip_prefix("Bearer "));
        match shown {
            Some(shown) if same(shown, expected.expose_secret()) => Ok(true),
            Some(_) => Err(Status::unauthenticated("the control-plane token is wrong")),
            None => Err(Status::unauthenticated("a control-plane token is needed: set control_plane.token")),
        }
    }

    /// Whether the policy of this peer may become the fleet's. `own`: there is one of our own, which only a peer that
    /// proved who it is may replace.
    pub fn may_hand_over(&self, authenticated: bool, own: bool) -> bool {
        authenticated || (!own && (self.allow_insecure || self.open))
    }

    /// Why a policy with literal secrets must not go to this peer; `None`: it may.
    pub fn withhold_secrets(&self, tls: bool, authenticated: bool) -> Option<&'static str> {
        if self.allow_insecure {
            return None;
        }
        match (tls, authenticated) {
            (true, true) => None,
            (false, _) => Some(
                "the policy holds literal secrets and the stream is not encrypted: write them as {env: NAME} or \
                 {file: PATH}, or set control_plane.tls (or control_plane.allow_insecure)",
            ),
            (true, false) => Some(
                "the policy holds literal secrets and the data plane did not prove who it is: set \
                 control_plane.token, or control_plane.tls.ca_file (or control_plane.allow_insecure)",
            ),
        }
    }
}

fn read_token(path: &PathBuf) -> std::io::Result<SecretString> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(MOST_TOKEN).read_to_string(&mut text)?;
    let token = text.trim();
    if token.is_empty() {
        return Err(std::io::Error::other("the file is empty"));
    }
    Ok(SecretString::from(token))
}

/// Compares in a time that does not depend on where they differ: the digests have one length, and all of it is looked
/// at.
fn same(a: &str, b: &str) -> bool {
    let (a, b) = (Sha256::digest(a), Sha256::digest(b));
    a.iter().zip(b.iter()).fold(0, |differs, (x, y)| differs | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn peer(tls: bool, certificate: bool) -> Peer {
        Peer { address: "127.0.0.1:1".parse().unwrap(), tls, certificate }
    }

    fn with(token: &str) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        metadata.insert("authorization", format!("Bearer {token}").parse().unwrap());
        metadata
    }

    #[test]
    fn a_token_is_needed_where_one_is_set() {
        let auth = StreamAuth { token: Token::Literal("right".into()), allow_insecure: false, open: false };
        assert!(auth.check(&with("right"), &peer(false, false)).unwrap());
        assert_eq!(auth.check(&with("wrong"), &peer(true, true)).unwrap_err().code(), tonic::Code::Unauthenticated);
        let missing = auth.check(&MetadataMap::new(), &peer(true, true)).unwrap_err();
        assert_eq!(missing.code(), tonic::Code::Unauthenticated);
    }

    #[test]
    fn a_token_file_is_read_again_for_each_stream() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "first\n").unwrap();
        let auth = StreamAuth { token: Token::File(path.clone()), allow_insecure: false, open: false };
        assert!(auth.check(&with("first"), &peer(true, false)).unwrap());
        std::fs::write(&path, "second\n").unwrap();
        assert!(auth.check(&with("second"), &peer(true, false)).unwrap());
        assert!(auth.check(&with("first"), &peer(true, false)).is_err());
        std::fs::write(&path, "").unwrap();
        assert!(auth.check(&with(""), &peer(true, false)).is_err(), "an empty file opens nothing");
    }

    #[test]
    fn literal_secrets_need_encryption_and_proof() {
        let auth = StreamAuth { token: Token::None, allow_insecure: false, open: true };
        assert_eq!(auth.withhold_secrets(true, true), None);
        assert!(auth.withhold_secrets(true, false).unwrap().contains("did not prove"));
        assert!(auth.withhold_secrets(false, true).unwrap().contains("not encrypted"));
        let open = StreamAuth { token: Token::None, allow_insecure: true, open: true };
        assert_eq!(open.withhold_secrets(false, false), None);
    }

    #[test]
    fn who_proved_nothing_never_replaces_a_policy_of_our_own() {
        let auth = |allow_insecure, open| StreamAuth { token: Token::None, allow_insecure, open };
        for (allow_insecure, open) in [(false, false), (false, true), (true, false), (true, true)] {
            let auth = auth(allow_insecure, open);
            assert!(auth.may_hand_over(true, true) && auth.may_hand_over(true, false));
            assert!(!auth.may_hand_over(false, true));
            assert_eq!(auth.may_hand_over(false, false), allow_insecure || open);
        }
    }
}
