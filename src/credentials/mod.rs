//! (room credentials)
