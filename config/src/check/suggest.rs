//! Names in messages: how an unknown one is shown, and which known one was probably meant.

use crate::schema;

/// Similarity (0..=1) from which a name in the same block is taken for the meant one.
const NEAR: f64 = 0.82;
/// The same for a name in another block, where a wrong guess costs more.
const NEAR_ELSEWHERE: f64 = 0.93;

/// A key that a file holds, as a message may show it. `password:hunter2` in braces is one key to YAML: only a
/// leading name is shown of anything that is not a name, so that a secret never is.
pub(crate) fn key_shown(key: &str) -> String {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    let name: String = key.chars().take_while(|c| is_name(*c)).take(64).collect();
    if name.len() < key.len() { format!("{name}…") } else { name }
}

/// The nearest of `known`, and how near it is.
pub(crate) fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<(&'k str, f64)> {
    let plain = squash(name);
    known
        .into_iter()
        .map(|candidate| (candidate, similarity(&plain, &squash(candidate))))
        .filter(|(_, near)| *near >= NEAR)
        .reduce(|best, other| if other.1 > best.1 { other } else { best })
}

/// Like [`nearest`], for names of other places.
pub(crate) fn nearest_elsewhere<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    nearest(name, known).filter(|(_, near)| *near >= NEAR_ELSEWHERE).map(|(name, _)| name)
}

fn similarity(a: &str, b: &str) -> f64 {
    if a == b {
        return 1.0;
    }
    strsim::jaro_winkler(a, b).max(strsim::normalized_damerau_levenshtein(a, b))
}

/// `readTimeout`, `read-timeout` and `read_timeout` are one name.
fn squash(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_alphanumeric()).map(|c| c.to_ascii_lowercase()).collect()
}

const UNKNOWN: &str = "unknown key, did you mean ";

/// What to say about an unknown key: first the names of this block, then the same name elsewhere, then likely ones;
/// else all that would be right here.
pub(crate) fn guess(key: &str, known: &[&str], parent: &str) -> String {
    let index = schema::index();
    // Names of this block stand in quotes, which is how `meant` knows them; places elsewhere do not.
    let here = |name: &str| format!("{UNKNOWN}\"{name}\"?");
    if let Some((before, _)) = key.split_once(':')
        && known.contains(&before)
    {
        return format!("{} A space is missing after the colon.", here(before));
    }
    let near = nearest(key, known.iter().copied());
    if let Some((name, likeness)) = near
        && likeness >= 0.9
    {
        return here(name);
    }
    if let Some(place) = index.elsewhere(key, parent) {
        return format!("{UNKNOWN}{place}?");
    }
    if let Some((name, _)) = near {
        return here(name);
    }
    let likely = nearest_elsewhere(key, index.names());
    if let Some(place) = likely.and_then(|name| index.elsewhere(name, parent)) {
        return format!("{UNKNOWN}{place}?");
    }
    format!("unknown key; known here: {}", known.join(", "))
}

/// The key of the same block that [`guess`] took to be meant.
pub(crate) fn meant(message: &str) -> Option<&str> {
    let (name, _) = message.strip_prefix(UNKNOWN)?.strip_prefix('"')?.split_once('"')?;
    Some(name)
}
