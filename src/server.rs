//! The composition root: configuration becomes parts, parts become listeners; reload and drain.
