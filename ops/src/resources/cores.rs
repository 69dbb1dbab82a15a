//! How many cores this process may use: the affinity mask and the CPU quota of its cgroups.
//!
//! `std::thread::available_parallelism` reads the quota too, but rounds it down: a limit of 1500m would leave half a
//! core unused.

use std::{fs, path::Path};

/// min over cgroup v2/v1 quota (rounded up) and the affinity mask; at least 1.
pub fn usable_cores() -> usize {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let quota = quota(Path::new("/sys/fs/cgroup"), &own).unwrap_or(usize::MAX);
    affinity().min(quota).max(1)
}

fn affinity() -> usize {
    match rustix::thread::sched_getaffinity(None) {
        Ok(mask) => usize::try_from(mask.count()).unwrap_or(1),
        // more cores than the mask holds
        Err(_) => std::thread::available_parallelism().map_or(1, usize::from),
    }
}

/// The smallest quota on the way from the process's own cgroup (`own`: `/proc/self/cgroup`) to the root, in whole
/// cores, rounded up; None: no limit.
fn quota(root: &Path, own: &str) -> Option<usize> {
    let mut smallest = None;
    for line in own.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let found = if controllers.is_empty() {
            climb(root, path, quota_v2)
        } else if controllers.split(',').any(|controller| controller == "cpu") {
            // the hierarchy is mounted under its full name, often with a link for each controller
            climb(&root.join(controllers), path, quota_v1).or_else(|| climb(&root.join("cpu"), path, quota_v1))
        } else {
            None
        };
        smallest = [smallest, found].into_iter().flatten().min();
    }
    smallest
}

/// Inside a container the path may be one of the host and not exist here; then the mount point itself is the container's.
fn climb(mount: &Path, path: &str, read: impl Fn(&Path) -> Option<usize>) -> Option<usize> {
    let own = mount.join(path.trim_start_matches('/'));
    own.ancestors().take_while(|at| at.starts_with(mount)).filter_map(read).min()
}

/// `cpu.max`: `<quota us>|max <period us>`.
fn quota_v2(at: &Path) -> Option<usize> {
    let text = fs::read_to_string(at.join("cpu.max")).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    whole_cores(quota, period)
}

/// `-1` is no limit, and no number here.
fn quota_v1(at: &Path) -> Option<usize> {
    let quota = fs::read_to_string(at.join("cpu.cfs_quota_us")).ok()?;
    let period = fs::read_to_string(at.join("cpu.cfs_period_us")).ok()?;
    whole_cores(quota.trim(), period.trim())
}

fn whole_cores(quota: &str, period: &str) -> Option<usize> {
    let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
    if period == 0 {
        return None;
    }
    usize::try_from(quota.div_ceil(period)).ok().map(|cores| cores.max(1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn this_machine_has_at_least_one() {
        assert!(usable_cores() >= 1);
    }

    #[test]
    fn v2_takes_the_smallest_on_the_way_up_and_rounds_up() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "cpu.max", "max 100000\n");
        write(root.path(), "kubepods/cpu.max", "250000 100000\n");
        write(root.path(), "kubepods/pod/cpu.max", "400000 100000\n");
        assert_eq!(quota(root.path(), "0::/kubepods/pod\n"), Some(3));
        write(root.path(), "kubepods/pod/cpu.max", "10000 100000\n");
        assert_eq!(quota(root.path(), "0::/kubepods/pod\n"), Some(1));
        assert_eq!(quota(root.path(), "0::/elsewhere\n"), None);
    }

    #[test]
    fn v2_in_a_container_reads_the_mount_point() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "cpu.max", "150000 100000\n");
        assert_eq!(quota(root.path(), "0::/not/visible/here\n"), Some(2));
        assert_eq!(quota(root.path(), "0::/\n"), Some(2));
    }

    #[test]
    fn v1_reads_quota_and_period() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "cpu,cpuacct/pod/cpu.cfs_quota_us", "150000\n");
        write(root.path(), "cpu,cpuacct/pod/cpu.cfs_period_us", "100000\n");
        write(root.path(), "cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
        write(root.path(), "cpu,cpuacct/cpu.cfs_period_us", "100000\n");
        assert_eq!(quota(root.path(), "4:cpu,cpuacct:/pod\n3:memory:/pod\n"), Some(2));
        assert_eq!(quota(root.path(), "4:cpu,cpuacct:/\n"), None);
    }
}
