//! What the kernel says about this process, read at scrape time. Where there is no `/proc` the metrics are absent.

use std::fs;

use super::export::{Exporter, Out};

/// Registers them; answers the names and whether each is a counter.
pub(super) fn register(exporter: &Exporter) -> [(&'static str, bool); 4] {
    exporter.fractional_counter("process_cpu_seconds", "Total user and system CPU time spent in seconds.", |out| {
        show(out, cpu_seconds())
    });
    exporter.gauge("process_resident_memory_bytes", "Resident memory size in bytes.", 1, |out| {
        show(out, resident_bytes());
    });
    exporter.gauge("process_open_fds", "Number of open file descriptors.", 1, |out| show(out, open_descriptors()));
    exporter.gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", 1, |out| {
        show(out, start_time())
    });
    [
        ("process_cpu_seconds", true),
        ("process_resident_memory_bytes", false),
        ("process_open_fds", false),
        ("process_start_time_seconds", false),
    ]
}

fn show(out: Out<'_, f64>, value: Option<f64>) {
    if let Some(value) = value {
        out(value, &[]);
    }
}

/// Field `number` (1-based, as in proc(5)) of `/proc/self/stat`, in clock ticks.
fn stat_ticks(numbers: &[usize]) -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    ticks_of(&stat, numbers)
}

/// The command may hold spaces and brackets, so fields are counted from the last closing bracket; the first one after
/// it is number 3.
fn ticks_of(stat: &str, numbers: &[usize]) -> Option<f64> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    numbers.iter().map(|number| fields.get(number.checked_sub(3)?)?.parse::<f64>().ok()).sum()
}

#[allow(clippy::cast_precision_loss)]
fn ticks_per_second() -> f64 {
    rustix::param::clock_ticks_per_second() as f64
}

fn cpu_seconds() -> Option<f64> {
    Some(stat_ticks(&[14, 15])? / ticks_per_second())
}

#[allow(clippy::cast_precision_loss)]
fn resident_bytes() -> Option<f64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: f64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as f64)
}

#[allow(clippy::cast_precision_loss)]
fn open_descriptors() -> Option<f64> {
    // the directory that is being read is a descriptor itself
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
}

fn start_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + stat_ticks(&[22])? / ticks_per_second())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn fields_are_counted_after_a_command_with_brackets_and_spaces() {
        let stat = "7 (a) b) c) S 1 2 3 4 5 6 7 8 9 10 250 50 13 14 15 16 17 18 1000 20";
        assert_eq!(ticks_of(stat, &[14, 15]), Some(300.0));
        assert_eq!(ticks_of(stat, &[22]), Some(1000.0));
        assert_eq!(ticks_of("7 (a", &[14]), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_all_of_them() {
        assert!(cpu_seconds().unwrap() >= 0.0);
        assert!(resident_bytes().unwrap() > 100_000.0);
        assert!(open_descriptors().unwrap() >= 3.0);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        let started = start_time().unwrap();
        assert!(started <= now + 2.0 && started > now - 24.0 * 3600.0, "started {started}, now {now}");
    }
}
