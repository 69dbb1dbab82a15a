//! The token bucket as arithmetic: time is an argument. The Lua script and the embedded store compute the same.
