//! The table.

use std::{fmt::Write, fs, path::Path, process::Command};

use super::{
    cases::{Measured, Sample},
    options::Options,
};

const BEGIN: &str = "<!-- bench: begin (written by `make bench`) -->";
const END: &str = "<!-- bench: end -->";

/// Smallest, median, largest.
fn spread(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [values[0], values[values.len() / 2], values[values.len() - 1]]
}

fn shown([least, median, most]: [f64; 3]) -> String {
    format!("{median:.2} ({least:.2}-{most:.2})")
}

/// Markdown: what was measured, on what, and the ratios within each round.
pub fn table(results: &[Measured], options: &Options) -> String {
    let mut text = format!(
        "{}. {} rounds of {} s in turn, {} connections, HTTP/1.1 keep-alive, one worker each; proxies on one core, load, \
         origin and Redis on another. CPU is user and system time from `/proc`, in microseconds a request: median \
         (least-most). Ratios are to nginx in the same round.\n\n",
        machine(),
        options.rounds,
        options.seconds,
        options.connections
    );
    text.push_str("| work | | proxy CPU | Redis CPU | Redis calls a request | proxy / nginx | with Redis / nginx | requests/s |\n");
    text.push_str("|---|---|---|---|---|---|---|---|\n");
    for result in results {
        let base = &result.contenders[0].1;
        for (name, samples) in &result.contenders {
            let column = |f: fn(&Sample) -> f64| samples.iter().map(f).collect::<Vec<_>>();
            let ratio =
                |f: fn(&Sample) -> f64| samples.iter().zip(base).map(|(s, b)| f(s) / b.proxy).collect::<Vec<_>>();
            let ours = *name == "edgequota";
            let redis = ours && samples.iter().any(|s| s.redis > 0.0);
            let _ = writeln!(
                text,
                "| {} | {name} | {} | {} | {} | {} | {} | {:.0} |",
                result.title,
                shown(spread(column(|s| s.proxy))),
                if redis { shown(spread(column(|s| s.redis))) } else { String::new() },
                if redis { format!("{:.4}", spread(column(|s| s.calls))[1]) } else { String::new() },
                if *name == "nginx" { "1".to_owned() } else { shown(spread(ratio(|s| s.proxy))) },
                if redis { shown(spread(ratio(|s| s.proxy + s.redis))) } else { String::new() },
                spread(column(|s| s.rate))[1],
            );
        }
    }
    text.push_str("\nMemory of edgequota (resident), before the first request and after the last round:");
    for (n, result) in results.iter().enumerate() {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let (before, after) = (mib(result.memory.0), mib(result.memory.1));
        let _ = write!(text, "{} {}: {before:.1} and {after:.1} MiB", if n == 0 { "" } else { ";" }, result.title);
    }
    text.push_str(".\n");
    for result in results {
        for complaint in &result.complaints {
            let _ = writeln!(text, "\n**Not what was meant to be measured**: {}: {complaint}.", result.title);
        }
    }
    text
}

/// Puts the table between its marks; a page without them gets them at its end.
pub fn write(path: &Path, table: &str) {
    let old = fs::read_to_string(path).unwrap_or_else(|_| "# Performance\n".to_owned());
    let (before, after) = match (old.find(BEGIN), old.find(END)) {
        (Some(begin), Some(end)) if begin < end => (old[..begin].to_owned(), old[end + END.len()..].to_owned()),
        _ => (format!("{}\n\n", old.trim_end()), "\n".to_owned()),
    };
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).unwrap();
    }
    fs::write(path, format!("{before}{BEGIN}\n{table}{END}{after}")).unwrap();
}

fn machine() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpus.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": ")).map_or("unknown CPU", |(_, m)| m);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let version = |program: &str, flag: &str| {
        let output = Command::new(crate::process::program(program)).arg(flag).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        text.split_whitespace()
            .find(|w| w.chars().filter(|c| *c == '.').count() >= 2 && w.contains(|c: char| c.is_ascii_digit()))
            .unwrap_or("?")
            .trim_start_matches("nginx/")
            .trim_start_matches("v=")
            .to_owned()
    };
    format!(
        "Measured on {cores} cores ({model}) with nginx {}, haproxy {}, redis {}",
        version("nginx", "-v"),
        version("haproxy", "-v"),
        version("redis-server", "-v")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_replaces_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docs/performance.md");
        write(&path, "one\n");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("# Performance", "# Performance\n\nkept") + "tail\n").unwrap();
        write(&path, "two\n");
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.contains("kept") && text.contains("two") && text.contains("tail") && !text.contains("one"),
            "{text}"
        );
    }

    #[test]
    fn spread_is_least_median_most() {
        assert_eq!(shown(spread(vec![3.0, 1.0, 2.0])), "2.00 (1.00-3.00)");
    }
}
