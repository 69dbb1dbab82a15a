//! `logging` and `tracing`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Least level of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum LogLevel {
    Debug,
    #[default]
    Info,
    Warn,
    Error,
}

/// Form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum LogFormat {
    #[default]
    Json,
    Text,
}

/// What is logged, and how.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-hot" = true))]
pub struct Logging {
    /// Least level that is logged.
    pub level: LogLevel,
    /// `json`: one object a line; `text`: for people.
    pub format: LogFormat,
    /// Whether each request writes one line.
    pub access_log_enabled: bool,
}

impl Default for Logging {
    fn default() -> Self {
        Logging { level: LogLevel::Info, format: LogFormat::Json, access_log_enabled: true }
    }
}

/// Traces over OTLP.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tracing {
    /// Whether spans are made and exported.
    pub enabled: bool,
    /// Where spans are sent, OTLP over HTTP: `http://collector:4318`.
    pub endpoint: String,
    /// `service.name` of the spans.
    pub service_name: String,
    /// Share of requests without a sampled parent that are traced, 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub sample_rate: f64,
}

impl Default for Tracing {
    fn default() -> Self {
        Tracing { enabled: false, endpoint: String::new(), service_name: "edgequota".to_owned(), sample_rate: 0.1 }
    }
}
