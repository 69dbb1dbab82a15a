//! What can be said on the command line.

use std::{io::Write, net::IpAddr, path::PathBuf};

use clap::{Parser, Subcommand};

/// A quota-enforcing reverse proxy for the edge of a Kubernetes cluster.
///
/// Without a command it runs standalone: one process that reads its settings and its policy from one file, watches it,
/// and enforces every edit without a restart.
///
/// Settings come from the file, and the environment overrides it: EDGEQUOTA_REDIS_PASSWORD is `redis.password`, and so
/// for every setting (see docs/configuration.md, or `edgequota check --schema`).
#[derive(Debug, Parser)]
#[command(name = "edgequota", disable_version_flag = true, after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The config file. A missing file is not an error: defaults and environment apply.
    #[arg(
        long,
        short,
        global = true,
        env = "EDGEQUOTA_CONFIG_FILE",
        default_value = "/etc/edgequota/config.yaml",
        hide_env_values = true
    )]
    pub(crate) config: PathBuf,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

const EXAMPLES: &str = "\
Examples:
  edgequota demo                                  see it work, nothing to install
  edgequota check policy/                         is this policy right?
  edgequota --config config.yaml                  one process, its policy in its own file
  edgequota explain --host api.example.com --path /v1/search --header X-Tenant-Id=acme";

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// One process: settings and policy from its own config file (the default).
    Standalone,
    /// A proxy that gets its policy from a control plane (control_plane.address).
    Dataplane,
    /// Watches the policy files, checks them, and pushes every change to the data planes.
    Controlplane,
    /// A control plane, two data planes and an echo backend in one process, to try things out.
    Demo,
    /// Says whether a config or policy file, or a directory of policy files, is right; exit code 1 with every problem.
    Check(Check),
    /// Says which limits a request meets, and why, without spending a token.
    Explain(Explain),
    /// Prints the version.
    Version,
}

/// `edgequota check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// The file or directory.
    #[arg(required_unless_present = "schema")]
    pub(crate) path: Option<PathBuf>,
    /// Prints a JSON Schema of the config file instead, for editors.
    #[arg(long)]
    pub(crate) schema: bool,
}

/// `edgequota explain`.
#[derive(Debug, clap::Args)]
pub(crate) struct Explain {
    /// Admin address of the control plane, which also knows the counters.
    #[arg(long, env = "EDGEQUOTA_CONTROL_PLANE_ADMIN", default_value = "http://127.0.0.1:9090")]
    pub(crate) control_plane: String,
    /// Explain a local policy file or directory instead; counters are then unknown.
    #[arg(long)]
    pub(crate) policy: Option<PathBuf>,
    /// Method.
    #[arg(long, default_value = "GET")]
    pub(crate) method: String,
    /// Host that the client asks for.
    #[arg(long, default_value = "")]
    pub(crate) host: String,
    /// Path, with or without a query.
    #[arg(long, default_value = "/")]
    pub(crate) path: String,
    /// Address that the connection comes from.
    #[arg(long)]
    pub(crate) peer: Option<IpAddr>,
    /// Address of the client behind it.
    #[arg(long)]
    pub(crate) client_ip: Option<IpAddr>,
    /// A header, NAME=VALUE; may be given several times.
    #[arg(long = "header", short = 'H', value_name = "NAME=VALUE")]
    pub(crate) headers: Vec<String>,
    /// A proxy whose forwarding headers are believed, address or CIDR; may be given several times.
    #[arg(long = "trusted-proxy", value_name = "CIDR")]
    pub(crate) trusted_proxies: Vec<String>,
    /// Prints the answer as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Prints a line; a closed pipe is the reader's decision.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Says why the process ends.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
