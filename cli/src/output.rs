//! Rows, printed as asked for.

use std::io::Write;

use serde::Serialize;

use crate::args::Output;
use crate::error::CliError;
use crate::table::{self, Column};

/// Prints all of them. Tables are cut to `width` characters, if there is one.
pub(crate) fn print<R: Serialize>(
    columns: &'static [Column<R>],
    rows: &[R],
    output: Output,
    (out, width): (&mut dyn Write, Option<usize>),
) -> Result<(), CliError> {
    match output {
        Output::Table => table::print(columns, rows, false, width, out)?,
        Output::Wide => table::print(columns, rows, true, width, out)?,
        Output::Json => {
            serde_json::to_writer_pretty(&mut *out, rows).map_err(std::io::Error::from)?;
            writeln!(out)?;
        }
        Output::Jsonl => {
            for row in rows {
                line(row, out)?;
            }
        }
    }
    out.flush()?;
    Ok(())
}

/// Prints one row as a line of JSON.
pub(crate) fn line<R: Serialize>(row: &R, out: &mut dyn Write) -> Result<(), CliError> {
    serde_json::to_writer(&mut *out, row).map_err(std::io::Error::from)?;
    writeln!(out)?;
    Ok(())
}

impl Output {
    /// Whether people read it, and not programs.
    pub(crate) fn is_table(self) -> bool {
        matches!(self, Self::Table | Self::Wide)
    }
}
