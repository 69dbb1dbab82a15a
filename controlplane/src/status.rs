//! How the files stand: taken as they are, or refused and why. For the API and the log.

use std::{
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use edgequota_config::{Problems, problems::Located};

/// Most problems that are kept and logged one by one.
pub const MOST_PROBLEMS: usize = 200;

/// The last refusal of the files.
#[derive(Clone, Debug)]
pub struct RefusedFiles {
    /// When.
    pub at: SystemTime,
    /// At most [`MOST_PROBLEMS`].
    pub problems: Vec<Located>,
    /// How many there were.
    pub count: usize,
}

/// Shared between the keeper, which writes it, and the API.
#[derive(Debug, Default)]
pub struct Status {
    refused: Mutex<Option<RefusedFiles>>,
}

impl Status {
    /// The files are in force as they are.
    pub fn good(&self) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The files are refused.
    pub fn bad(&self, problems: Problems, at: SystemTime) -> RefusedFiles {
        let count = problems.0.len();
        let problems = problems.0.into_iter().take(MOST_PROBLEMS).collect();
        let refused = RefusedFiles { at, problems, count };
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(refused.clone());
        refused
    }

    /// Why the files are not in force; `None`: they are.
    pub fn refused(&self) -> Option<RefusedFiles> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
