//! What this host can really do for a guest.
