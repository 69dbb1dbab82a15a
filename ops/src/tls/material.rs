//! The bytes of the files, and what they mean.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use edgequota_config::settings::PeerTls;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _},
};

use super::TlsError;
use crate::reload;

/// Largest file, in bytes: a bundle of all public roots has a quarter of a megabyte.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// Where the material is.
#[derive(Clone)]
pub(super) struct Files {
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    ca: Option<PathBuf>,
}

/// What the files held when they were read together.
#[derive(Clone)]
pub(super) struct Material {
    cert: Option<Content>,
    key: Option<Content>,
    ca: Option<Content>,
}

#[derive(Clone)]
struct Content {
    file: PathBuf,
    bytes: Vec<u8>,
}

/// A certificate with its chain and its key.
pub(super) struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Files {
    pub(super) fn of(tls: &PeerTls) -> Files {
        let path = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
        Files { cert: path(&tls.cert_file), key: path(&tls.key_file), ca: path(&tls.ca_file) }
    }

    pub(super) fn any(&self) -> bool {
        self.cert.is_some() || self.key.is_some() || self.ca.is_some()
    }

    pub(super) fn read(&self) -> Result<Material, TlsError> {
        Ok(Material {
            cert: read(self.cert.as_deref())?,
            key: read(self.key.as_deref())?,
            ca: read(self.ca.as_deref())?,
        })
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = "";
        for file in [&self.cert, &self.key, &self.ca].into_iter().flatten() {
            write!(f, "{before}{}", file.display())?;
            before = ", ";
        }
        Ok(())
    }
}

impl PartialEq for Material {
    fn eq(&self, other: &Material) -> bool {
        fn bytes(material: &Material) -> [Option<&[u8]>; 3] {
            [&material.cert, &material.key, &material.ca]
                .map(|content| content.as_ref().map(|content| content.bytes.as_slice()))
        }
        bytes(self) == bytes(other)
    }
}

impl Material {
    /// None: neither a certificate nor a key is configured.
    pub(super) fn identity(&self) -> Result<Option<Identity>, TlsError> {
        let (cert, key) = match (&self.cert, &self.key) {
            (None, None) => return Ok(None),
            (Some(cert), Some(key)) => (cert, key),
            (Some(_), None) => {
                return Err(TlsError("tls.key_file is required with tls.cert_file".to_owned()));
            }
            (None, Some(_)) => {
                return Err(TlsError("tls.cert_file is required with tls.key_file".to_owned()));
            }
        };
        let chain = cert.certificates()?;
        let key = PrivateKeyDer::from_pem_slice(&key.bytes).map_err(|error| key.not_pem("private key", &error))?;
        Ok(Some(Identity { chain, key }))
    }

    /// None: no `ca_file` is configured.
    pub(super) fn roots(&self) -> Result<Option<RootCertStore>, TlsError> {
        let Some(ca) = &self.ca else { return Ok(None) };
        let mut roots = RootCertStore::empty();
        for certificate in ca.certificates()? {
            roots.add(certificate).map_err(|error| self.bad_ca(&error))?;
        }
        Ok(Some(roots))
    }

    pub(super) fn bad_ca(&self, why: &dyn fmt::Display) -> TlsError {
        TlsError(format!("{}: no usable certificate authority: {why}", shown(self.ca.as_ref())))
    }

    pub(super) fn bad_identity(&self, why: &rustls::Error) -> TlsError {
        let (cert, key) = (shown(self.cert.as_ref()), shown(self.key.as_ref()));
        match why {
            rustls::Error::InconsistentKeys(_) => {
                TlsError(format!("{key}: the key does not belong to the certificate in {cert}"))
            }
            why => TlsError(format!("{cert} with {key}: not usable: {why}")),
        }
    }
}

impl Content {
    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
        match found {
            Ok(found) if found.is_empty() => Err(self.not_pem("certificate", &pem::Error::NoItemsFound)),
            Ok(found) => Ok(found),
            Err(error) => Err(self.not_pem("certificate", &error)),
        }
    }

    /// The parser's own words may quote the file: only their kind is told.
    fn not_pem(&self, what: &str, error: &pem::Error) -> TlsError {
        let why = match error {
            pem::Error::NoItemsFound => "there is none in PEM form",
            pem::Error::MissingSectionEnd { .. } => "an END line is missing",
            pem::Error::IllegalSectionStart { .. } => "a BEGIN line is malformed",
            pem::Error::Base64Decode(_) => "the base64 text is malformed",
            _ => "the PEM text is malformed",
        };
        TlsError(format!("{}: no {what}: {why}", self.file.display()))
    }
}

fn read(file: Option<&Path>) -> Result<Option<Content>, TlsError> {
    let Some(file) = file else { return Ok(None) };
    match reload::read(file, MAX_FILE) {
        Ok(bytes) => Ok(Some(Content { file: file.to_owned(), bytes })),
        Err(error) => Err(TlsError(format!("{}: cannot be read: {error}", file.display()))),
    }
}

fn shown(content: Option<&Content>) -> String {
    content.map_or_else(|| "(no file)".to_owned(), |content| content.file.display().to_string())
}
