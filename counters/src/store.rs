//! Where counters live: Redis or the embedded in-process store.
