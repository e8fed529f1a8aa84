//! Questions before something is forgotten.

use std::io::{self, BufRead, Write};

use super::fail::Failure;

/// Asks on the terminal; anything but yes is no.
pub(crate) fn confirm(question: &str) -> Result<bool, Failure> {
    let mut err = io::stderr().lock();
    write!(err, "{question} [y/N] ")?;
    err.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
