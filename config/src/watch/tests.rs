#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
//! Real files, written the way editors and the kubelet write them. Nothing sleeps: tests await a report, or await
//! that a later, different report is the next one.
use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use super::*;

const PACE: Pace =
    Pace { quiet: Duration::from_millis(80), most: Duration::from_millis(500), poll: Duration::from_secs(60) };
const FAST_POLL: Pace =
    Pace { quiet: Duration::from_millis(20), most: Duration::from_millis(200), poll: Duration::from_millis(30) };
const PATIENCE: Duration = Duration::from_secs(20);

async fn next(watch: &mut Watch) -> Content {
    tokio::time::timeout(PATIENCE, watch.changed()).await.expect("a report in time")
}

/// Waits for a content. Others may be reported before it: on a busy machine there may be quiet within one edit.
async fn until(watch: &mut Watch, expected: &[(String, String)]) {
    while texts(&next(watch).await) != expected {}
}

fn texts(content: &Content) -> Vec<(String, String)> {
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    content
        .files
        .iter()
        .map(|(path, text)| (name(path), text.clone().unwrap_or_else(|e| format!("error: {e}"))))
        .collect()
}

fn one(text: &str) -> Vec<(String, String)> {
    vec![("config.yaml".to_owned(), text.to_owned())]
}

/// The kubelet's atomic writer: a new timestamped directory, a new link beside `..data`, a rename onto it.
fn kubelet_writes(volume: &Path, files: &[(&str, &str)]) {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("..2026_11_24_10_00_00.{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let directory = volume.join(&name);
    fs::create_dir(&directory).unwrap();
    for (file, text) in files {
        fs::write(directory.join(file), text).unwrap();
    }
    let old = fs::read_link(volume.join("..data")).ok();
    symlink(&name, volume.join("..data_tmp")).unwrap();
    fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    for (file, _) in files {
        let link = volume.join(file);
        if !link.is_symlink() {
            symlink(Path::new("..data").join(file), link).unwrap();
        }
    }
    if let Some(old) = old {
        for entry in fs::read_dir(volume).unwrap().flatten() {
            let file = entry.file_name();
            let kept = files.iter().any(|(name, _)| *name == file.to_str().unwrap());
            if !kept && entry.path().is_symlink() && !file.to_str().unwrap().starts_with("..") {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        fs::remove_dir_all(volume.join(old)).unwrap();
    }
}

struct Bed {
    dir: tempfile::TempDir,
    stop: CancellationToken,
}

impl Bed {
    fn new() -> Bed {
        Bed { dir: tempfile::tempdir().unwrap(), stop: CancellationToken::new() }
    }
    fn file(&self) -> std::path::PathBuf {
        self.dir.path().join("config.yaml")
    }
    async fn watch(&self, pace: Pace) -> (Content, Watch) {
        Watch::start(vec![Target::File(self.file())], pace, self.stop.clone()).await
    }
    async fn watch_directory(&self) -> (Content, Watch) {
        Watch::start(vec![Target::Directory(self.dir.path().to_owned())], PACE, self.stop.clone()).await
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test]
async fn the_kubelets_swap_is_seen() {
    let bed = Bed::new();
    kubelet_writes(bed.dir.path(), &[("config.yaml", "one")]);
    let (first, mut watch) = bed.watch(PACE).await;
    assert_eq!(texts(&first), one("one"));
    for text in ["two", "three", "four"] {
        kubelet_writes(bed.dir.path(), &[("config.yaml", text)]);
        until(&mut watch, &one(text)).await;
    }
}

#[tokio::test]
async fn a_directory_is_swapped_as_one() {
    let bed = Bed::new();
    kubelet_writes(bed.dir.path(), &[("b.yaml", "b1"), ("a.yml", "a1"), ("notes.txt", "no")]);
    let (first, mut watch) = bed.watch_directory().await;
    let pair = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    assert_eq!(texts(&first), [pair("a.yml", "a1"), pair("b.yaml", "b1")]);
    kubelet_writes(bed.dir.path(), &[("b.yaml", "b2"), ("c.yaml", "c2")]);
    until(&mut watch, &[pair("b.yaml", "b2"), pair("c.yaml", "c2")]).await;
    fs::write(bed.dir.path().join(".hidden.yaml"), "no").unwrap();
    fs::create_dir(bed.dir.path().join("directory.yaml")).unwrap();
    kubelet_writes(bed.dir.path(), &[("b.yaml", "b3")]);
    until(&mut watch, &[pair("b.yaml", "b3")]).await;
}

#[tokio::test]
async fn an_editor_that_replaces_the_file_is_seen() {
    let bed = Bed::new();
    fs::write(bed.file(), "one").unwrap();
    let (_, mut watch) = bed.watch(PACE).await;
    for i in 0..5 {
        let text = format!("edit {i}");
        fs::write(bed.dir.path().join(".config.yaml.swp"), &text).unwrap();
        fs::rename(bed.dir.path().join(".config.yaml.swp"), bed.file()).unwrap();
        until(&mut watch, &one(&text)).await;
    }
    // Another editor moves the old one away and writes a new one.
    fs::rename(bed.file(), bed.dir.path().join("config.yaml~")).unwrap();
    fs::write(bed.file(), "moved").unwrap();
    until(&mut watch, &one("moved")).await;
}

#[tokio::test]
async fn a_file_may_vanish_and_come_back() {
    let bed = Bed::new();
    let (first, mut watch) = bed.watch(PACE).await;
    assert_eq!(first, Content::default());
    fs::write(bed.file(), "one").unwrap();
    until(&mut watch, &one("one")).await;
    fs::remove_file(bed.file()).unwrap();
    until(&mut watch, &[]).await;
    fs::write(bed.file(), "one").unwrap();
    until(&mut watch, &one("one")).await;
}

#[tokio::test]
async fn a_directory_may_vanish_and_come_back() {
    let bed = Bed::new();
    let directory = bed.dir.path().join("below");
    let target = vec![Target::File(directory.join("config.yaml"))];
    let (first, mut watch) = Watch::start(target, FAST_POLL, bed.stop.clone()).await;
    assert_eq!(first, Content::default());
    for text in ["one", "two"] {
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("config.yaml"), text).unwrap();
        until(&mut watch, &one(text)).await;
        fs::remove_dir_all(&directory).unwrap();
        until(&mut watch, &[]).await;
    }
}

#[tokio::test]
async fn a_hundred_quick_writes_are_few_reports_and_the_last_is_one_of_them() {
    let bed = Bed::new();
    fs::write(bed.file(), "start").unwrap();
    let (_, mut watch) = bed.watch(PACE).await;
    for i in 0..100 {
        fs::write(bed.file(), format!("write {i}")).unwrap();
    }
    let mut reports = 0;
    loop {
        reports += 1;
        if texts(&next(&mut watch).await) == one("write 99") {
            break;
        }
    }
    assert!(reports <= 20, "{reports} reports");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steady_writes_are_reported_in_time() {
    let bed = Bed::new();
    fs::write(bed.file(), "start").unwrap();
    let (_, mut watch) = bed.watch(PACE).await;
    let writing = CancellationToken::new();
    let writer = {
        let (writing, file, pause) = (writing.clone(), bed.file(), PACE.quiet / 4);
        tokio::spawn(async move {
            let mut i = 0;
            let mut tick = tokio::time::interval(pause);
            while !writing.is_cancelled() {
                tick.tick().await;
                i += 1;
                let next = file.with_extension("next");
                fs::write(&next, format!("write {i}")).unwrap();
                fs::rename(&next, &file).unwrap();
            }
        })
    };
    let start = Instant::now();
    for _ in 0..3 {
        next(&mut watch).await;
    }
    let took = start.elapsed();
    writing.cancel();
    writer.await.unwrap();
    assert!(took < PACE.most * 3 + Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn the_same_content_is_no_report() {
    let bed = Bed::new();
    kubelet_writes(bed.dir.path(), &[("config.yaml", "one")]);
    let (_, mut watch) = bed.watch(PACE).await;
    for _ in 0..3 {
        kubelet_writes(bed.dir.path(), &[("config.yaml", "one")]);
    }
    let nothing = tokio::time::timeout(PACE.most + PACE.quiet * 4, watch.changed()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    kubelet_writes(bed.dir.path(), &[("config.yaml", "two")]);
    until(&mut watch, &one("two")).await;
}

#[tokio::test]
async fn an_edit_between_start_and_the_first_wait_is_not_missed() {
    let bed = Bed::new();
    fs::write(bed.file(), "one").unwrap();
    let (first, mut watch) = bed.watch(PACE).await;
    fs::write(bed.file(), "two").unwrap();
    assert_eq!(texts(&first), one("one"));
    until(&mut watch, &one("two")).await;
}

#[tokio::test]
async fn a_poke_reads_at_once() {
    let bed = Bed::new();
    fs::write(bed.file(), "one").unwrap();
    let slow = Pace { quiet: Duration::from_secs(60), most: Duration::from_secs(60), poll: Duration::from_secs(60) };
    let target = vec![Target::File(bed.file())];
    let (_, mut watch) = Watch::start_with(target, slow, bed.stop.clone(), false).await;
    fs::write(bed.file(), "two").unwrap();
    watch.poke().poke();
    until(&mut watch, &one("two")).await;
}

#[tokio::test]
async fn without_notices_the_poll_finds_changes() {
    let bed = Bed::new();
    fs::write(bed.file(), "one").unwrap();
    let target = vec![Target::File(bed.file())];
    let (_, mut watch) = Watch::start_with(target, FAST_POLL, bed.stop.clone(), false).await;
    for text in ["two", "three"] {
        fs::write(bed.file(), text).unwrap();
        until(&mut watch, &one(text)).await;
    }
}

#[tokio::test]
async fn changed_may_be_cancelled() {
    let bed = Bed::new();
    fs::write(bed.file(), "one").unwrap();
    let (_, mut watch) = bed.watch(PACE).await;
    fs::write(bed.file(), "two").unwrap();
    let mut cancelled = 0;
    let found = loop {
        tokio::select! {
            biased;
            found = watch.changed() => break found,
            () = tokio::task::yield_now() => cancelled += 1,
        }
    };
    assert_eq!(texts(&found), one("two"));
    assert!(cancelled > 0);
}

#[tokio::test]
async fn what_cannot_be_read_says_why() {
    let bed = Bed::new();
    fs::write(bed.file(), b"good: 1\nb\xc3\xa9d: \xff\n").unwrap();
    let (first, mut watch) = bed.watch(PACE).await;
    assert_eq!(texts(&first), one("error: not valid UTF-8 at line 2, column 6: save the file as UTF-8"));
    fs::remove_file(bed.file()).unwrap();
    fs::create_dir(bed.file()).unwrap();
    until(&mut watch, &one("error: cannot be read: it is not a regular file")).await;
    fs::remove_dir(bed.file()).unwrap();
    fs::write(bed.file(), " ".repeat((16 << 20) + 1)).unwrap();
    until(&mut watch, &one("error: the file is larger than 16 MiB")).await;
}

#[tokio::test]
async fn a_directory_is_bounded() {
    let bed = Bed::new();
    for i in 0..=read::MAX_FILES {
        fs::write(bed.dir.path().join(format!("{i}.yaml")), "").unwrap();
    }
    let (first, mut watch) = bed.watch_directory().await;
    assert!(
        matches!(first.files.as_slice(), [(path, Err(reason))] if path == bed.dir.path() && reason.contains("1000 files")),
        "{first:?}"
    );
    fs::remove_file(bed.dir.path().join("0.yaml")).unwrap();
    assert_eq!(next(&mut watch).await.files.len(), read::MAX_FILES);
    fs::write(bed.dir.path().join("1.yaml"), "#".repeat(9 << 20)).unwrap();
    fs::write(bed.dir.path().join("2.yaml"), "#".repeat(9 << 20)).unwrap();
    loop {
        let content = next(&mut watch).await;
        if let [(_, Err(reason))] = content.files.as_slice() {
            assert_eq!(reason, "the files are larger than 16 MiB together");
            break;
        }
    }
}

#[tokio::test]
async fn a_stopped_watch_reports_nothing_and_does_not_end() {
    let bed = Bed::new();
    let (_, mut watch) = bed.watch(PACE).await;
    bed.stop.cancel();
    fs::write(bed.file(), "one").unwrap();
    assert!(tokio::time::timeout(PACE.quiet * 4, watch.changed()).await.is_err());
}

/// A projected volume with `path: policy/a.yaml` items: the directory itself is one of the kubelet's links.
#[tokio::test]
async fn a_directory_that_is_a_link_into_the_volume_is_followed() {
    let bed = Bed::new();
    let swap = |name: &str, text: &str| {
        fs::create_dir_all(bed.dir.path().join(name).join("policy")).unwrap();
        fs::write(bed.dir.path().join(name).join("policy/a.yaml"), text).unwrap();
        let old = fs::read_link(bed.dir.path().join("..data")).ok();
        symlink(name, bed.dir.path().join("..data_tmp")).unwrap();
        fs::rename(bed.dir.path().join("..data_tmp"), bed.dir.path().join("..data")).unwrap();
        if let Some(old) = old {
            fs::remove_dir_all(bed.dir.path().join(old)).unwrap();
        }
    };
    swap("..2026_1", "one");
    symlink("..data/policy", bed.dir.path().join("policy")).unwrap();
    let directory = bed.dir.path().join("policy");
    let targets = vec![Target::Directory(directory.clone()), Target::File(directory.join("a.yaml"))];
    let (first, mut watch) = Watch::start(targets, PACE, bed.stop.clone()).await;
    let both = |text: &str| vec![("a.yaml".to_owned(), text.to_owned()); 2];
    assert_eq!(texts(&first), both("one"));
    for i in 2..6 {
        let text = format!("edit {i}");
        swap(&format!("..2026_{i}"), &text);
        until(&mut watch, &both(&text)).await;
    }
}

/// What holds a part of the policy must not vanish from it in silence.
#[tokio::test]
async fn what_cannot_be_a_policy_file_is_told() {
    let bed = Bed::new();
    fs::write(bed.dir.path().join("a.yaml"), "a1").unwrap();
    let (_, mut watch) = bed.watch_directory().await;
    fs::write(bed.dir.path().join("b.yaml"), "").unwrap();
    std::os::unix::fs::symlink("nowhere.yaml", bed.dir.path().join("c.yaml")).unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(bed.dir.path().join("d.yaml")).status().unwrap();
    assert!(fifo.success());
    let wanted = ["a1", "the file is empty", "a link to a file that is not there", "not a regular file"];
    loop {
        let content = tokio::time::timeout(Duration::from_secs(10), watch.changed()).await.expect("all four are told");
        let told: Vec<String> = content.files.iter().map(|(_, text)| text.clone().unwrap_or_else(|e| e)).collect();
        if told.len() == wanted.len() && told.iter().zip(wanted).all(|(told, wanted)| told.contains(wanted)) {
            break;
        }
    }
}
