//! A readable difference of two redacted policies, bounded in time and size.

use std::time::Duration;

use serde_json::Value;
use similar::{Algorithm, ChangeTag, TextDiff};

/// Most bytes of a diff; fifty of them are kept.
const MOST: usize = 64 * 1024;
/// After this the diff gets coarse instead of minimal.
const PATIENCE: Duration = Duration::from_millis(500);

/// The diff, and how many lines were added and removed.
pub(super) fn between(before: &Value, now: &Value) -> (String, (usize, usize)) {
    let (before, now) = (pretty(before), pretty(now));
    let diff = TextDiff::configure().algorithm(Algorithm::Patience).timeout(PATIENCE).diff_lines(&before, &now);
    let mut lines = (0, 0);
    for op in diff.ops() {
        match op.tag() {
            similar::DiffTag::Equal => {}
            _ => {
                lines.0 += op.new_range().len();
                lines.1 += op.old_range().len();
            }
        }
    }
    let mut text = String::new();
    let mut unified = diff.unified_diff();
    'hunks: for hunk in unified.context_radius(3).iter_hunks() {
        text.push_str(&hunk.header().to_string());
        text.push('\n');
        for change in hunk.iter_changes() {
            let sign = match change.tag() {
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
                ChangeTag::Equal => ' ',
            };
            text.push(sign);
            text.push_str(change.value());
            if text.len() > MOST {
                text.push_str("... the rest of the difference is left out\n");
                break 'hunks;
            }
        }
    }
    (text, lines)
}

fn pretty(value: &Value) -> String {
    // A value in memory has no way to fail to be written.
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_huge_difference_is_cut_and_says_so() {
        let list =
            |offset: u64| json!({ "overrides": (0..200_000).map(|i| i + offset).collect::<Vec<u64>>(), "z": [offset] });
        let began = std::time::Instant::now();
        let (text, lines) = between(&list(0), &list(1_000_000));
        assert!(text.len() < MOST + 1024, "{}", text.len());
        assert!(lines.0 >= 200_000 && lines.1 >= 200_000);
        assert!(began.elapsed() < Duration::from_secs(20));
    }
}
