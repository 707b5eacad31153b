//! **Blame.** One record may kill its process, or hang in it. The process marks what it calls; what it may have called
//! and not answered is called again alone, each record by itself and the marked one first. Who kills a second process
//! alone is a dead letter; nobody is blamed for a neighbour.

use std::time::Instant;

use crate::work::task::Task;

/// Records that a process has been handed.
pub struct Open {
    pub id: u64,
    /// Those without a verdict, by row.
    pub tasks: Vec<Option<Task>>,
    pub left: usize,
    pub sent: Instant,
    /// Calls that were under way, over all drivers, when these were handed over, with them.
    pub in_flight: u32,
}

/// Whom the death of a process concerns.
#[derive(Default)]
pub struct Blamed {
    /// The one that was being called, where that is known.
    pub marked: Option<Task>,
    /// Those that may have been called too.
    pub others: Vec<Task>,
    /// Those that were not.
    pub innocent: Vec<Task>,
    /// The marked one was alone with the process.
    pub alone: bool,
}

/// Sorts the records that a process had when it died, by its mark.
pub fn blame(open: impl Iterator<Item = Open>, mark: Option<[u64; 3]>, at_once: bool) -> Blamed {
    let open: Vec<Open> = open.collect();
    let count: usize = open.iter().map(|o| o.left).sum();
    let marks = |o: &Open| mark.is_some_and(|[id, ..]| id == o.id);
    // One that died before its first call did so over what it was to call next.
    let unmarked = !open.iter().any(marks);
    let mut found = Blamed {
        alone: count == 1,
        ..Blamed::default()
    };
    for (place, open) in open.into_iter().enumerate() {
        let (is_marked, first) = (marks(&open), place == 0);
        for (row, task) in (0u64..).zip(open.tasks) {
            let Some(task) = task else { continue };
            let called = mark.filter(|_| is_marked).map(|[_, called, _]| called);
            if found.alone || called == Some(row) {
                found.marked = Some(task);
            } else if at_once || called.is_some_and(|called| row < called) || unmarked && first {
                found.others.push(task);
            } else {
                found.innocent.push(task);
            }
        }
    }
    found
}

#[cfg(test)]
#[path = "blame_tests.rs"]
mod tests;
