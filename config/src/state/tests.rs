#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::os::unix::fs::PermissionsExt;

use edgequota_policy::{Hash, Version};

use super::*;

fn snapshot(generation: u64, bytes: &[u8]) -> Snapshot {
    Snapshot { version: Version { generation, hash: Hash::of(bytes) }, bytes: bytes.into() }
}

fn good(found: Found) -> (u64, Vec<u8>) {
    match found {
        Found::Good(snapshot) => (snapshot.version.generation, snapshot.bytes.to_vec()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_saved_is_loaded_and_the_copy_is_the_one_before() {
    let temp = tempfile::tempdir().unwrap();
    let dir = StateDir::open(&temp.path().join("deep/er")).unwrap();
    assert!(matches!(dir.load(), Found::Nothing));
    dir.save(&snapshot(1, b"{\"one\":1}")).unwrap();
    dir.save(&snapshot(2, b"{\"two\":\n2}")).unwrap();
    assert_eq!(good(dir.load()), (2, b"{\"two\":\n2}".to_vec()));
    let mode = fs::metadata(dir.path.join(CURRENT)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    fs::remove_file(dir.path.join(CURRENT)).unwrap();
    assert_eq!(good(dir.load()).0, 1);
    // Nothing is left lying about.
    assert_eq!(fs::read_dir(&dir.path).unwrap().count(), 1);
}

#[test]
fn saving_the_same_again_keeps_the_copy() {
    let temp = tempfile::tempdir().unwrap();
    let dir = StateDir::open(temp.path()).unwrap();
    for generation in [1, 2, 2, 2] {
        dir.save(&snapshot(generation, b"{}")).unwrap();
    }
    fs::remove_file(dir.path.join(CURRENT)).unwrap();
    assert_eq!(good(dir.load()).0, 1);
}

#[test]
fn no_flipped_bit_and_no_cut_goes_unnoticed() {
    let temp = tempfile::tempdir().unwrap();
    let dir = StateDir::open(temp.path()).unwrap();
    dir.save(&snapshot(1_763_990_000_123, b"{\"backend\":{}}")).unwrap();
    let file = dir.path.join(CURRENT);
    let whole = fs::read(&file).unwrap();
    for i in 0..whole.len() {
        for bit in 0..8 {
            let mut bad = whole.clone();
            bad[i] ^= 1 << bit;
            fs::write(&file, &bad).unwrap();
            assert!(matches!(dir.load(), Found::Damaged(_)), "bit {bit} of byte {i}");
        }
        fs::write(&file, &whole[..i]).unwrap();
        assert!(matches!(dir.load(), Found::Damaged(_)), "cut at {i}");
    }
    fs::write(&file, [whole.as_slice(), b" "].concat()).unwrap();
    assert!(matches!(dir.load(), Found::Damaged(_)));
    fs::write(&file, &whole).unwrap();
    assert_eq!(good(dir.load()).0, 1_763_990_000_123);
}

#[test]
fn a_damaged_file_gives_way_to_its_copy_and_never_replaces_it() {
    let temp = tempfile::tempdir().unwrap();
    let dir = StateDir::open(temp.path()).unwrap();
    dir.save(&snapshot(1, b"{}")).unwrap();
    dir.save(&snapshot(2, b"{}")).unwrap();
    fs::write(dir.path.join(CURRENT), b"{\"torn").unwrap();
    assert_eq!(good(dir.load()).0, 1);
    dir.save(&snapshot(3, b"{}")).unwrap();
    assert_eq!(good(dir.load()).0, 3);
    fs::write(dir.path.join(CURRENT), b"").unwrap();
    assert_eq!(good(dir.load()).0, 1);
}

#[test]
fn damage_is_explained() {
    let temp = tempfile::tempdir().unwrap();
    let dir = StateDir::open(temp.path()).unwrap();
    let reason = |bytes: &[u8]| {
        fs::write(dir.path.join(CURRENT), bytes).unwrap();
        match dir.load() {
            Found::Damaged(reason) => reason,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(reason(b""), "policy.json: is empty");
    assert_eq!(reason(&[b'x'; 5000]), "policy.json: has no head line");
    assert_eq!(reason(b"{}\n{}"), "policy.json: has a damaged head line");
    assert_eq!(reason(&vec![b' '; MAX_PLAIN + 2000]), "policy.json: is larger than any policy can be");
    fs::write(dir.path.join(PREVIOUS), b"").unwrap();
    assert_eq!(reason(b""), "policy.json: is empty; policy.previous: is empty");
    fs::remove_file(dir.path.join(CURRENT)).unwrap();
    fs::create_dir(dir.path.join(CURRENT)).unwrap();
    assert!(matches!(dir.load(), Found::Damaged(_)));
    assert!(dir.save(&snapshot(1, b"{}")).is_err(), "a directory stands in the way");
    assert_eq!(fs::read_dir(&dir.path).unwrap().count(), 2, "the temporary file is removed");
}

#[test]
fn a_directory_that_cannot_be_used_is_an_error() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("file");
    fs::write(&file, b"").unwrap();
    assert!(StateDir::open(&file).is_err());
    assert!(StateDir::open(&file.join("below")).is_err());
    assert!(StateDir::open(Path::new("")).is_err());
    let dir = StateDir::open(&temp.path().join("gone")).unwrap();
    fs::remove_dir(&dir.path).unwrap();
    assert!(dir.save(&snapshot(1, b"{}")).is_err());
    assert!(matches!(dir.load(), Found::Nothing));
}

#[test]
fn a_policy_that_is_too_large_is_not_saved() {
    let temp = tempfile::tempdir().unwrap();
    let dir = StateDir::open(temp.path()).unwrap();
    assert!(dir.save(&snapshot(1, &vec![b' '; MAX_PLAIN + 1])).is_err());
    dir.save(&snapshot(2, &vec![b' '; MAX_PLAIN])).unwrap();
    assert_eq!(good(dir.load()).1.len(), MAX_PLAIN);
}

#[test]
fn leftovers_of_an_interrupted_save_are_removed() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("policy.tmp-1-1"), b"half").unwrap();
    StateDir::open(temp.path()).unwrap();
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
}
