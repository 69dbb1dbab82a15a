//! How files become values: YAML with places, layers (defaults < file < environment), settings, file watch.
//!
//! The path of a value: text -> [`yaml`] nodes with places -> the environment laid over them -> [`check`]ed against
//! the [`schema`] that the types describe, all mistakes at once -> serde -> rules across fields.

mod check;
pub mod document;
pub mod environment;
pub mod load;
pub mod problems;
pub mod reference;
mod schema;
pub mod settings;
pub mod state;
pub mod watch;
mod yaml;

pub use document::Document;
pub use load::{Loaded, Role};
pub use problems::{Place, Problems};
pub use settings::Settings;
