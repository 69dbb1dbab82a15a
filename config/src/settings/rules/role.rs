//! What must hold for a process of one role, but not for a file as such.

use edgequota_policy::Problem;

use super::Rules;
use crate::{
    Role,
    check::Bad,
    problems::shown,
    settings::{PeerTls, RedisMode, Settings},
};

pub(crate) fn for_role(settings: &Settings, role: Role) -> Vec<Problem> {
    let bad = Bad::default();
    let mut rules = Rules { bad: &bad, problems: Vec::new() };
    let plane = &settings.control_plane;
    if settings.redis.mode == RedisMode::Embedded && !plane.address.is_empty() {
        rules.add(
            "redis.mode",
            "redis.mode embedded is refused together with control_plane.address: each data plane would count on its \
             own, so N of them would allow N times each limit",
        );
    }
    let mut ports = vec![("admin.address", &settings.admin.address)];
    match role {
        Role::DataPlane if plane.address.is_empty() => {
            rules.add("control_plane.address", "control_plane.address is required for a data plane");
        }
        Role::ControlPlane => tls_of_listener(&mut rules, &plane.tls),
        Role::Standalone | Role::DataPlane => {}
    }
    match role {
        Role::ControlPlane => ports.push(("control_plane.listen", &plane.listen)),
        Role::Standalone | Role::DataPlane => ports.push(("server.address", &settings.server.address)),
    }
    if let [(first, a), (second, b)] = ports.as_slice()
        && a == b
        && !a.ends_with(":0")
    {
        rules.add(*second, format!("{second} and {first} are the same address {}", shown(a)));
    }
    rules.problems
}

/// One of the two without the other is a mistake for every role, and said by the rules of the block.
fn tls_of_listener(rules: &mut Rules<'_>, tls: &PeerTls) {
    if tls.enabled && tls.cert_file.is_empty() && tls.key_file.is_empty() {
        let message = "control_plane.tls.cert_file and control_plane.tls.key_file are required";
        rules.add("control_plane.tls.cert_file", message);
    }
}
