//! How files become values: YAML with places, layers (defaults < file < environment), settings, file watch.

pub mod load;
pub mod problems;
pub mod settings;
pub mod state;
pub mod watch;

pub use load::{Document, Loaded, Role};
pub use problems::{Place, Problems};
pub use settings::Settings;
