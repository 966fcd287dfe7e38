//! (room upstream)
