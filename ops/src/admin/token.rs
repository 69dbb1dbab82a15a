//! The token that changing calls need.

use std::{fmt, path::PathBuf, sync::Arc};

use arc_swap::ArcSwapOption;
use axum::response::Response;
use edgequota_config::settings::Admin;
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{AUTHORIZATION, WWW_AUTHENTICATE},
};
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;

use super::error_response;
use crate::reload::{self, Reload};

/// Longest token file, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// Guards changing calls: constant-time comparison, 403 with none configured, 401 for a wrong one. Cheap to clone.
#[derive(Clone)]
pub struct AdminToken {
    inner: Arc<Inner>,
}

struct Inner {
    file: Option<PathBuf>,
    token: ArcSwapOption<SecretString>,
}

impl AdminToken {
    /// From `admin.token` or `admin.token_file` (watched, the file wins). A file that cannot be read is logged; until
    /// it can, the token last read stands, or none.
    pub fn new(admin: &Admin) -> AdminToken {
        let file = (!admin.token_file.is_empty()).then(|| PathBuf::from(&admin.token_file));
        let literal = Some(&admin.token).filter(|token| !token.expose_secret().is_empty());
        let inner = Inner { file, token: ArcSwapOption::new(literal.cloned().map(Arc::new)) };
        let inner = Arc::new(inner);
        if inner.file.is_some() {
            inner.reload();
            let weak = Arc::downgrade(&inner);
            reload::watch(weak);
        }
        AdminToken { inner }
    }

    /// Checks `Authorization: Bearer ...`; the error is the ready answer.
    #[allow(clippy::result_large_err)]
    pub fn check(&self, headers: &HeaderMap) -> Result<(), Response> {
        let token = self.inner.token.load();
        let Some(token) = token.as_ref() else {
            let message = "changing calls need admin.token or admin.token_file, and none is configured";
            return Err(error_response(StatusCode::FORBIDDEN, "forbidden", message));
        };
        let mut shown = headers.get_all(AUTHORIZATION).iter();
        let right = match (shown.next(), shown.next()) {
            (Some(value), None) => bearer(value).is_some_and(|shown| same(shown, token)),
            _ => false,
        };
        if right {
            return Ok(());
        }
        let message = "this call needs \"Authorization: Bearer\" with the admin token";
        let mut response = error_response(StatusCode::UNAUTHORIZED, "unauthorized", message);
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        Err(response)
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.inner.token.load().is_some() { "AdminToken([REDACTED])" } else { "AdminToken(none)" })
    }
}

impl Reload for Inner {
    fn reload(&self) {
        let Some(file) = &self.file else { return };
        match reload::read(file, MAX_FILE).map(|bytes| String::from_utf8(bytes).unwrap_or_default()) {
            Ok(text) if text.trim().is_empty() => {
                tracing::warn!(file = %file.display(), "admin.token_file is empty or no text, the token last read stands");
            }
            Ok(text) => {
                let text = text.trim();
                let changed = self.token.load().as_ref().is_none_or(|token| token.expose_secret() != text);
                if changed {
                    self.token.store(Some(Arc::new(SecretString::from(text))));
                    tracing::info!(file = %file.display(), "admin token loaded");
                }
            }
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "admin.token_file cannot be read, the token last read stands");
            }
        }
    }
}

fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, rest) = value.as_bytes().split_at_checked("bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| rest.trim_ascii())
}

fn same(shown: &[u8], token: &SecretString) -> bool {
    shown.ct_eq(token.expose_secret().as_bytes()).into()
}
