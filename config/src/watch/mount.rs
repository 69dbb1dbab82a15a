//! Finds files that Kubernetes will never update: a `subPath` volume is a bind mount of the one file, made when the
//! container starts.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};

use super::Target;

/// The path of a file target that is a mount point of its own.
pub(super) fn never_changes(target: &Target) -> Option<&Path> {
    let Target::File(path) = target else {
        return None;
    };
    let absolute = std::path::absolute(path).ok()?;
    let mounts = std::fs::read("/proc/self/mountinfo").ok()?;
    is_mount_point(&mounts, &absolute).then_some(path)
}

/// The fifth field of a line of mountinfo is the mount point; spaces and the like are octal escapes.
fn is_mount_point(mounts: &[u8], path: &Path) -> bool {
    mounts
        .split(|b| *b == b'\n')
        .filter_map(|line| line.split(|b| *b == b' ').nth(4))
        .any(|point| Path::new(OsStr::from_bytes(&unescape(point))) == path)
}

fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..3).filter(|_| first == b'\\').and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        match code {
            Some(code) => {
                plain.push(code);
                rest = &after[3..];
            }
            None => {
                plain.push(first);
                rest = after;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_a_mount_point_is_found() {
        let mounts = b"36 35 98:0 /x /etc/edgequota/config.yaml ro - ext4 /dev/sda rw\n\
                       37 35 98:0 / /etc/my\\040dir rw - ext4 /dev/sda rw\n";
        assert!(is_mount_point(mounts, Path::new("/etc/edgequota/config.yaml")));
        assert!(is_mount_point(mounts, Path::new("/etc/my dir")));
        assert!(!is_mount_point(mounts, Path::new("/etc/edgequota")));
        assert!(!is_mount_point(b"", Path::new("/etc/edgequota")));
        assert!(!is_mount_point(b"garbage\n\\", Path::new("/etc")));
    }
}
