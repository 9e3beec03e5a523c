//! What a process takes, as the kernel counts it.

use std::fs;

/// A line of the process's status, in kilobytes: `VmRSS` its memory, `VmHWM` the most of it.
pub(super) fn memory(process: u32, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let value = status.lines().find_map(|text| text.strip_prefix(line)).unwrap();
    value.trim_matches([':', ' ', '\t']).split(' ').next().unwrap().parse().unwrap()
}

/// The most memory that the process has had since this is forgotten.
pub(super) fn forget_peak(process: u32) {
    fs::write(format!("/proc/{process}/clear_refs"), "5").unwrap();
}

/// How many descriptors it holds.
pub(super) fn descriptors(process: u32) -> usize {
    fs::read_dir(format!("/proc/{process}/fd")).unwrap().count()
}
