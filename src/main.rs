//! The program: parses arguments, runs a verb, prints the error chain, sets the exit code.

fn main() {}
