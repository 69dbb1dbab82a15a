//! Prints the page that is checked in as `docs/configuration.md`.

use std::io::Write;

fn main() -> std::io::Result<()> {
    std::io::stdout().write_all(edgequota_config::reference::reference_markdown().as_bytes())
}
