//! `edgequota explain`.

use std::{path::Path, process::ExitCode};

use edgequota_config::load::process_environment;
use edgequota_controlplane::{
    effective::{Described, described::Values},
    explain,
};

use crate::args::{Explain, complain, say};

pub(crate) fn run(args: Explain, _config: &Path) -> ExitCode {
    let json = args.json;
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let (policy, control_plane) = (args.policy.clone(), args.control_plane.clone());
    let described = match described(args) {
        Ok(described) => described,
        Err(problem) => {
            complain(&problem);
            return ExitCode::FAILURE;
        }
    };
    let answer = runtime.block_on(async {
        match policy {
            Some(path) => explain::local(&path, &process_environment(), &described).await,
            None => explain::ask(&control_plane, &described).await,
        }
    });
    match answer {
        Ok(answer) if json => {
            say(&serde_json::to_string_pretty(&answer).unwrap_or_default());
            ExitCode::SUCCESS
        }
        Ok(answer) => {
            say(explain::render(&answer).trim_end());
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn described(args: Explain) -> Result<Described, String> {
    let mut headers = std::collections::BTreeMap::<String, Vec<String>>::new();
    for header in args.headers {
        let (name, value) = header
            .split_once(['=', ':'])
            .ok_or_else(|| format!("invalid --header \"{header}\": write it as NAME=VALUE"))?;
        headers.entry(name.trim().to_owned()).or_default().push(value.trim().to_owned());
    }
    Ok(Described {
        method: args.method,
        host: args.host,
        path: args.path,
        peer: args.peer,
        client_ip: args.client_ip,
        headers: headers.into_iter().map(|(name, values)| (name, Values::Many(values))).collect(),
        trusted_proxies: (!args.trusted_proxies.is_empty()).then_some(args.trusted_proxies),
    })
}
