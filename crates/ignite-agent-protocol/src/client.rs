//! The host's end of the channel: one connection, many streams.
