//! Paths of values: `redis.pool_size`, `routes[3].match.path_regex`, `events.http.headers["a.b"]`.

/// `parent.key`; a key that is no plain name goes into brackets, shortened to what may be shown.
pub(crate) fn join(parent: &str, key: &str) -> String {
    let shown = crate::check::suggest::key_shown(key);
    let name = if shown.contains(['.', '…', '/']) || shown.is_empty() { format!("[\"{shown}\"]") } else { shown };
    match (parent.is_empty(), name.starts_with('[')) {
        (true, _) => name,
        (false, true) => format!("{parent}{name}"),
        (false, false) => format!("{parent}.{name}"),
    }
}

/// The path of the block in which the last key stands.
pub(crate) fn parent(path: &str) -> &str {
    let last = if path.ends_with("\"]") { path.rfind("[\"") } else { path.rfind('.') };
    last.map_or("", |at| &path[..at])
}

/// Whether `outer` is `path` or a part of it stands at `path`.
pub(crate) fn covers(outer: &str, path: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || outer.is_empty() || rest.starts_with(['.', '[']))
}

/// One step of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step<'p> {
    Key(&'p str),
    Item(usize),
}

/// The steps of a path. Lenient: what cannot be read ends it.
pub(crate) fn steps(path: &str) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        rest = rest.strip_prefix('.').unwrap_or(rest);
        if let Some(quoted) = rest.strip_prefix("[\"") {
            let Some((key, after)) = quoted.split_once("\"]") else {
                break;
            };
            steps.push(Step::Key(key));
            rest = after;
        } else if let Some(number) = rest.strip_prefix('[') {
            let Some((number, after)) = number.split_once(']') else {
                break;
            };
            let Ok(number) = number.parse() else { break };
            steps.push(Step::Item(number));
            rest = after;
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            let (key, after) = rest.split_at(end);
            if key.is_empty() {
                break;
            }
            steps.push(Step::Key(key));
            rest = after;
        }
    }
    steps
}
