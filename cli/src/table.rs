//! Columns, whole or cut to fit a terminal.

use std::io::{self, Write};

use jiff::Timestamp;

const GAP: &str = "  ";
/// A cut column still has so many characters.
const NARROWEST: usize = 8;

/// When a column is shown.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum When {
    Always,
    /// When a row has something there; behind the width of the others.
    Filled,
    /// When all columns are.
    Wide,
}

pub(crate) struct Column<R> {
    header: &'static str,
    when: When,
    /// Names and claims. Times, numbers, outcomes and ids are whole.
    may_be_cut: bool,
    cell: fn(&R) -> String,
}

pub(crate) const fn column<R>(
    header: &'static str,
    when: When,
    may_be_cut: bool,
    cell: fn(&R) -> String,
) -> Column<R> {
    Column {
        header,
        when,
        may_be_cut,
        cell,
    }
}

/// What is there, or nothing.
pub(crate) fn or_none<T: ToString>(value: Option<&T>) -> String {
    value.map(T::to_string).unwrap_or_default()
}

/// A column with what is in it.
struct Filled<R: 'static> {
    column: &'static Column<R>,
    cells: Vec<String>,
    width: usize,
}

/// Prints a header and a line for each row; nothing when there is none. Names and claims are
/// cut so that lines fit `limit` characters, if there is one, and not all columns are asked for.
pub(crate) fn print<R>(
    columns: &'static [Column<R>],
    rows: &[R],
    wide: bool,
    limit: Option<usize>,
    out: &mut dyn Write,
) -> io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let filled = columns.iter().map(|column| fill(column, rows));
    let mut shown: Vec<Filled<R>> = filled
        .filter(|filled| match filled.column.when {
            When::Always => true,
            When::Filled => wide || filled.cells.iter().any(|cell| !cell.is_empty()),
            When::Wide => wide,
        })
        .collect();
    if let Some(limit) = limit
        && !wide
    {
        cut(&mut shown, limit);
    }
    let headers = shown
        .iter()
        .map(|column| fit(column.column.header, column.width));
    line(headers.collect(), out)?;
    for row in 0..rows.len() {
        let cells = shown
            .iter()
            .map(|column| fit(&column.cells[row], column.width));
        line(cells.collect(), out)?;
    }
    Ok(())
}

fn line(cells: Vec<String>, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", cells.join(GAP).trim_end())
}

fn fill<R>(column: &'static Column<R>, rows: &[R]) -> Filled<R> {
    let cells: Vec<String> = rows.iter().map(column.cell).collect();
    let widths = cells.iter().map(|cell| cell.chars().count());
    let width = widths.max().unwrap_or(0).max(column.header.len());
    Filled {
        column,
        cells,
        width,
    }
}

/// A time as Kubernetes prints it.
pub(crate) fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Takes from the widest where all that are always shown do not fit together.
fn cut<R>(shown: &mut [Filled<R>], limit: usize) {
    let mut shown: Vec<&mut Filled<R>> = shown
        .iter_mut()
        .filter(|filled| filled.column.when == When::Always)
        .collect();
    let gaps = GAP.len() * shown.len().saturating_sub(1);
    while shown.iter().map(|filled| filled.width).sum::<usize>() + gaps > limit {
        let wide = shown.iter_mut().filter(|filled| filled.column.may_be_cut);
        match wide.max_by_key(|filled| filled.width) {
            Some(widest) if widest.width > NARROWEST => widest.width -= 1,
            _ => break,
        }
    }
}

fn fit(cell: &str, width: usize) -> String {
    // What a terminal would obey instead of showing it; none of ours has it.
    let plain = |c: char| if c.is_control() { '?' } else { c };
    let mut shown: String = cell.chars().map(plain).collect();
    if shown.chars().count() > width {
        shown = shown.chars().take(width.saturating_sub(1)).collect();
        shown.push('…');
    }
    format!("{shown:<width$}")
}
