//! The operator's loop on an API server in memory, and on a clock that costs nothing.

mod killed;
mod lease;
mod many;
mod scene;
mod story;
mod trouble;
mod watches;
