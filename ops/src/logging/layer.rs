//! The layer that turns events into lines.

use std::{cell::RefCell, sync::Arc, time::SystemTime};

use tracing::{Event, Metadata, Subscriber, level_filters::LevelFilter, subscriber::Interest};
use tracing_subscriber::layer::{Context, Layer};

use super::{State, format};

/// Events of our own crates: their targets begin with it.
const OURS: &str = "edgequota";

thread_local! {
    static LINE: RefCell<String> = const { RefCell::new(String::new()) };
}

pub(super) struct Lined {
    state: Arc<State>,
}

impl Lined {
    pub(super) fn new(state: Arc<State>) -> Lined {
        Lined { state }
    }

    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        let level = self.state.level();
        let most = if metadata.target().starts_with(OURS) { level } else { level.min(LevelFilter::WARN) };
        *metadata.level() <= most
    }
}

impl<S: Subscriber> Layer<S> for Lined {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // cached until the level changes: a disabled event costs one load
        if self.wants(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.wants(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.state.level())
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let push = |line: &mut String| {
            line.clear();
            format::event(event, SystemTime::now(), self.state.json(), line);
            self.state.lines.push(line.as_bytes());
        };
        LINE.with(|line| match line.try_borrow_mut() {
            Ok(mut line) => push(&mut line),
            // a value whose Display logs
            Err(_) => push(&mut String::new()),
        });
    }
}
