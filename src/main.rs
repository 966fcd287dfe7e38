//! The program: installs what must be there once, then runs a verb.

use std::process::ExitCode;

/// Measured with one runtime per core: fewer and smaller heaps than the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    amlgate::cli::main()
}
