//! The last good policy on disk (`control_plane.state_dir`): the same envelope for both planes.
use std::path::Path;
use edgequota_policy::Snapshot;

/// A state directory.
#[derive(Clone, Debug)]
pub struct StateDir {}
/// What was found.
#[derive(Debug)]
pub enum Found {
    /// Good (from the file or its previous copy).
    Good(Snapshot),
    /// Nothing there.
    Nothing,
    /// Neither file nor copy has a right hash; says why.
    Damaged(String),
}
impl StateDir {
    /// None when the setting is empty. Creates the directory; error when it cannot be written.
    pub fn open(_path: &Path) -> std::io::Result<StateDir> { todo!() }
    /// Written tmp + fsync + rename + fsync of the directory, mode 0600, the previous copy kept.
    pub fn save(&self, _snapshot: &Snapshot) -> std::io::Result<()> { todo!() }
    /// File, then its previous copy.
    pub fn load(&self) -> Found { todo!() }
}
