//! Logs, metrics and trace context: set up once, used everywhere.
