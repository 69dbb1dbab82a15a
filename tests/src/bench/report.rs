//! The tables, and their places in the page.

use std::{fmt::Write, fs, path::Path};

use super::{
    cases::{Measured, Rounds, Sample},
    count, machine,
    options::Options,
};

/// Smallest, median, largest.
pub fn spread(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [values[0], values[values.len() / 2], values[values.len() - 1]]
}

/// The same as text.
pub fn shown([least, median, most]: [f64; 3]) -> String {
    format!("{median:.2} ({least:.2}-{most:.2})")
}

/// Bytes as MiB.
pub fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

/// Markdown: what was measured, on what, and the ratios within each round.
pub fn table(results: &[Measured], options: &Options) -> String {
    let mut text = format!(
        "Measured on {}. {} rounds of {} s in turn, {} connections, HTTP/1.1 keep-alive, one worker each; proxies on one \
         core, load, origin and Redis on another. CPU is user and system time from `/proc`, in microseconds a request: \
         median (least-most). Ratios are to nginx in the same round. {}\n\n",
        machine::described(),
        options.rounds,
        options.seconds,
        options.connections,
        match count::available() {
            Ok(()) => "System calls are counted by `perf stat` in a pass of their own after the rounds.".to_owned(),
            Err(why) => format!("System calls: not available here ({why})."),
        }
    );
    text.push_str(
        "| work | | proxy CPU | Redis CPU | Redis calls a request | proxy / nginx | with Redis / nginx | aim, at most | \
         system calls a request | requests/s |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for result in results {
        for rounds in &result.contenders {
            row(&mut text, result, rounds);
        }
    }
    by_call(&mut text, results);
    instructions(&mut text, results);
    for result in results {
        for complaint in &result.complaints {
            let _ = writeln!(text, "\n**Not what was meant to be measured**: {}: {complaint}.", result.title);
        }
    }
    text
}

fn row(text: &mut String, result: &Measured, rounds: &Rounds) {
    let (samples, base) = (&rounds.samples, &result.contenders[0].samples);
    let column = |f: fn(&Sample) -> f64| samples.iter().map(f).collect::<Vec<_>>();
    let ratio = |f: fn(&Sample) -> f64| samples.iter().zip(base).map(|(s, b)| f(s) / b.proxy).collect::<Vec<_>>();
    let ours = rounds.name == "edgequota";
    let redis = ours && samples.iter().any(|s| s.calls > 0.0);
    let _ = writeln!(
        text,
        "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {:.0} |",
        result.title,
        rounds.name,
        shown(spread(column(|s| s.proxy))),
        if redis { shown(spread(column(|s| s.redis))) } else { String::new() },
        if redis { format!("{:.4}", spread(column(|s| s.calls))[1]) } else { String::new() },
        if rounds.name == "nginx" { "1".to_owned() } else { shown(spread(ratio(|s| s.proxy))) },
        if redis { shown(spread(ratio(|s| s.proxy + s.redis))) } else { String::new() },
        if ours { result.aim } else { "" },
        rounds.counted.as_ref().map_or(String::new(), |c| format!("{:.2}", c.syscalls)),
        spread(column(|s| s.rate))[1],
    );
}

fn by_call(text: &mut String, results: &[Measured]) {
    let mut lines = String::new();
    for result in results {
        for rounds in &result.contenders {
            let Some(counted) = &rounds.counted else { continue };
            let calls: Vec<_> = counted.calls.iter().map(|(name, n)| format!("{name} {n:.2}")).collect();
            let _ = writeln!(lines, "- {}, {}: {}", result.title, rounds.name, calls.join(", "));
        }
    }
    if !lines.is_empty() {
        let _ = write!(text, "\nSystem calls a request, by call:\n\n{lines}");
    }
}

fn instructions(text: &mut String, results: &[Measured]) {
    let mut parts = Vec::new();
    for result in results {
        for rounds in &result.contenders {
            if let Some((user, kernel)) = rounds.counted.as_ref().and_then(|c| c.instructions) {
                parts.push(format!("{}, {}: {user:.0} and {kernel:.0}", result.title, rounds.name));
            }
        }
    }
    let _ = match parts.is_empty() {
        true => writeln!(text, "\nInstructions a request: not available (this machine has no counters for them)."),
        false => writeln!(text, "\nInstructions a request in user space and kernel: {}.", parts.join("; ")),
    };
}

/// Puts a table between the marks of that name; a page without them gets them at its end.
pub fn write(path: &Path, name: &str, table: &str) {
    let (begin, end) = (format!("<!-- {name}: begin (written by `make bench`) -->"), format!("<!-- {name}: end -->"));
    let old = fs::read_to_string(path).unwrap_or_else(|_| "# Performance\n".to_owned());
    let (before, after) = match (old.find(&begin), old.find(&end)) {
        (Some(b), Some(e)) if b < e => (old[..b].to_owned(), old[e + end.len()..].to_owned()),
        _ => (format!("{}\n\n", old.trim_end()), "\n".to_owned()),
    };
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).unwrap();
    }
    fs::write(path, format!("{before}{begin}\n{table}{end}{after}")).unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_replaces_the_one_before_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docs/performance.md");
        write(&path, "a", "one\n");
        write(&path, "b", "other\n");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("# Performance", "# Performance\n\nkept") + "tail\n").unwrap();
        write(&path, "a", "two\n");
        let text = fs::read_to_string(&path).unwrap();
        for part in ["kept", "two", "other", "tail"] {
            assert!(text.contains(part), "{part} is missing: {text}");
        }
        assert!(!text.contains("one"), "{text}");
    }

    #[test]
    fn spread_is_least_median_most() {
        assert_eq!(shown(spread(vec![3.0, 1.0, 2.0])), "2.00 (1.00-3.00)");
    }
}
