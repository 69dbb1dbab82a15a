//! Writes a mounted ConfigMap the way the kubelet does.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

/// A mounted directory: `..2026_..` holds the files, `..data` points at it, each name points into `..data`.
#[derive(Debug)]
pub struct ConfigMap {
    dir: TempDir,
    generation: u32,
}

impl ConfigMap {
    /// Mounts it with these files.
    pub fn mount(files: &[(&str, &str)]) -> ConfigMap {
        let mut map = ConfigMap { dir: tempfile::tempdir().unwrap(), generation: 0 };
        map.update(files);
        map
    }

    /// The mount point.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// New content, all files at once: a new timestamped directory, `..data_tmp` that points at it, renamed onto
    /// `..data`; then links for new names, links of gone names removed, the old directory removed.
    pub fn update(&mut self, files: &[(&str, &str)]) {
        self.generation += 1;
        let root = self.dir.path();
        let fresh = format!("..2026_11_24_10_00_00.{:09}", self.generation);
        fs::create_dir(root.join(&fresh)).unwrap();
        for (name, content) in files {
            fs::write(root.join(&fresh).join(name), content).unwrap();
        }
        let old = fs::read_link(root.join("..data")).ok();
        symlink(&fresh, root.join("..data_tmp")).unwrap();
        fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
        for (name, _) in files {
            if fs::symlink_metadata(root.join(name)).is_err() {
                symlink(Path::new("..data").join(name), root.join(name)).unwrap();
            }
        }
        for entry in fs::read_dir(root).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if !name.starts_with("..") && !files.iter().any(|(n, _)| *n == name) {
                fs::remove_file(root.join(name)).unwrap();
            }
        }
        if let Some(old) = old {
            fs::remove_dir_all(root.join(old)).unwrap();
        }
    }
}

/// Replaces a file as an editor does: a new file beside it, renamed onto it.
pub fn replace(path: &Path, content: &str) {
    let beside = path.with_extension("swp");
    fs::write(&beside, content).unwrap();
    fs::rename(&beside, path).unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_swaps_every_file_at_once_and_leaves_one_generation() {
        let mut map = ConfigMap::mount(&[("a.yaml", "1"), ("b.yaml", "2")]);
        map.update(&[("a.yaml", "3"), ("c.yaml", "4")]);
        assert_eq!(fs::read_to_string(map.file("a.yaml")).unwrap(), "3");
        assert_eq!(fs::read_to_string(map.file("c.yaml")).unwrap(), "4");
        assert!(fs::symlink_metadata(map.file("b.yaml")).is_err());
        let generations = fs::read_dir(map.path())
            .unwrap()
            .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with("..2026"))
            .count();
        assert_eq!(generations, 1);
    }
}
