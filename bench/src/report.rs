//! The result: a table for people and a file for programs.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use crate::row::{Row, Target};

/// Where the file goes, below the target folder.
const FILE: &str = "bench/summary.json";

/// The file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {source}", path.display())]
pub struct ReportError {
    path: PathBuf,
    source: io::Error,
}

/// Writes the rows as a JSON array; gives the file's path.
///
/// # Errors
/// When the file cannot be written.
pub fn write(target_folder: &Path, rows: &[Row]) -> Result<PathBuf, ReportError> {
    let path = target_folder.join(FILE);
    let write = || {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut text = serde_json::to_string_pretty(rows)?;
        text.push('\n');
        std::fs::write(&path, text)
    };
    match write() {
        Ok(()) => Ok(path),
        Err(source) => Err(ReportError { path, source }),
    }
}

/// The rows as a table.
pub fn table(rows: &[Row]) -> String {
    let cells: Vec<[String; 7]> = std::iter::once(heading())
        .chain(rows.iter().map(line))
        .collect();
    let width = |column: usize| {
        cells
            .iter()
            .map(|line| line[column].len())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..7).map(width).collect();
    let mut text = String::new();
    for line in &cells {
        let mut row = String::new();
        for (column, cell) in line.iter().enumerate() {
            // Figures to the right, so that they can be compared; words to the left.
            let width = widths[column];
            let _ = match column {
                1 | 3 | 4 => write!(row, "{cell:>width$}  "),
                _ => write!(row, "{cell:<width$}  "),
            };
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

fn heading() -> [String; 7] {
    [
        "WHAT",
        "VALUE",
        "UNIT",
        "BARE SERVER",
        "RATIO",
        "TARGET",
        "",
    ]
    .map(str::to_owned)
}

fn line(row: &Row) -> [String; 7] {
    let target = row.target.map_or_else(String::new, |target| match target {
        Target::Below(limit) => format!("under {}", figure(limit)),
        Target::AtMost(limit) => format!("at most {}", figure(limit)),
        Target::RatioAtLeast(limit) => format!("ratio at least {limit}"),
    });
    let met = match row.target_met {
        None => "",
        Some(true) => "met",
        Some(false) => "MISSED",
    };
    [
        row.name.clone(),
        figure(row.value),
        row.unit.to_owned(),
        row.baseline.map_or_else(String::new, figure),
        row.ratio
            .map_or_else(String::new, |ratio| format!("{ratio:.3}")),
        target,
        met.to_owned(),
    ]
}

/// Three digits or so: what lies beyond is noise.
fn figure(value: f64) -> String {
    match value {
        value if value >= 100.0 || value == value.trunc() => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value if value >= 1.0 => format!("{value:.2}"),
        value => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_a_line_that_says_whether_its_target_was_met() {
        let rows = [
            Row::new("hot path", 142_700.0, "requests/s")
                .over(169_300.0)
                .target(Target::RatioAtLeast(0.8)),
            Row::new("misses", 2.0, "calls").target(Target::AtMost(1.0)),
        ];
        let table = table(&rows);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[1].contains("0.843") && lines[1].ends_with("met"));
        assert!(lines[2].ends_with("MISSED"));
    }

    #[test]
    fn the_file_is_an_array_with_an_object_per_row() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), &[Row::new("a", 1.0, "ms")]).unwrap();
        let read: serde_json::Value =
            serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(read.as_array().unwrap().len(), 1);
    }
}
