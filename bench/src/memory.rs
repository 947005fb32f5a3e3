//! How much memory a process has.

use std::fs;

/// The process's memory cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the memory of process {pid} in /proc: has it ended?")]
pub struct MemoryError {
    pid: u32,
}

/// Resident memory, in megabytes (10^6 bytes).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Memory {
    /// Now.
    pub resident_mb: f64,
    /// The most it ever was.
    pub peak_mb: f64,
}

/// The resident memory of process `pid`.
///
/// # Errors
/// When there is no such process.
pub fn of(pid: u32) -> Result<Memory, MemoryError> {
    fs::read_to_string(format!("/proc/{pid}/status"))
        .ok()
        .and_then(|status| parse(&status))
        .ok_or(MemoryError { pid })
}

fn parse(status: &str) -> Option<Memory> {
    let megabytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        // The kernel says kB and means 1,024 bytes.
        let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kibibytes * 1024.0 / 1e6)
    };
    Some(Memory {
        resident_mb: megabytes("VmRSS:")?,
        peak_mb: megabytes("VmHWM:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_decimal_megabytes() {
        let status = "Name:\tbroker\nVmHWM:\t   15625 kB\nVmRSS:\t    1000 kB\n";
        let memory = parse(status).unwrap();
        assert_eq!(
            memory,
            Memory {
                resident_mb: 1.024,
                peak_mb: 16.0
            }
        );
    }

    #[test]
    fn a_process_that_has_ended_has_no_memory() {
        assert!(parse("Name:\tbroker\nState:\tZ (zombie)\n").is_none());
    }

    #[test]
    fn this_process_has_some() {
        let memory = of(std::process::id()).unwrap();
        assert!(memory.resident_mb > 0.0 && memory.peak_mb >= memory.resident_mb);
    }
}
