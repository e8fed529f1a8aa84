//! `warren completions SHELL`.

use clap_complete::Shell;

use super::args;
use super::fail::Failure;
use super::output::Output;

/// Prints the completions of `shell`.
pub(crate) fn run(shell: Shell, output: Output) -> Result<(), Failure> {
    // Into memory first: the generator panics where writing fails, and `| head` makes it fail.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut args::command(), "warren", &mut script);
    output.raw(&script)
}
