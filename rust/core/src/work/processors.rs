//! How busy the processors are that this worker may use: those of its control group where that has a limit, else the
//! machine's, by whomever.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Looked at now and then; says what was between two looks.
#[derive(Debug)]
pub struct Processors {
    limited: Option<Limited>,
    /// When it was looked at last, and what was busy by then.
    last: Option<(Instant, Busy)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Busy {
    /// Ticks of all processors of the machine: the busy ones, and all.
    Machine(u64, u64),
    /// Microseconds of the group.
    Group(u64),
}

/// A control group (version 2) that may use so many processors.
#[derive(Debug, PartialEq)]
struct Limited {
    dir: PathBuf,
    processors: f64,
}

impl Processors {
    /// Those of this process.
    pub fn new() -> Self {
        let groups = read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self {
            limited: Limited::of(Path::new("/sys/fs/cgroup"), &groups),
            last: None,
        }
    }

    /// The share (0 to 1) of the processors' time since the last look that was busy. `None` at the first look, and where
    /// the system doesn't say (it does on Linux).
    pub fn busy(&mut self) -> Option<f64> {
        let now = match &self.limited {
            Some(limited) => limited.used()?,
            None => ticks(&read_to_string("/proc/stat").ok()?)?,
        };
        let (at, before) = self.last.replace((Instant::now(), now))?;
        // Counts since the start of the machine are far below 2⁵³.
        let (used, all) = match (before, now) {
            (Busy::Machine(busy, all), Busy::Machine(busy_now, all_now)) => (
                busy_now.saturating_sub(busy) as f64,
                all_now.saturating_sub(all) as f64,
            ),
            (Busy::Group(us), Busy::Group(us_now)) => (
                us_now.saturating_sub(us) as f64 / 1e6,
                at.elapsed().as_secs_f64() * self.limited.as_ref()?.processors,
            ),
            _ => return None,
        };
        // A group may use a little more than its part of a period.
        (all > 0.0).then(|| (used / all).min(1.0))
    }
}

impl Limited {
    /// The nearest group around this process that has a limit, by what `/proc/self/cgroup` says. `mount` is where the
    /// groups are; inside of a container the container's own is at its top.
    fn of(mount: &Path, groups: &str) -> Option<Self> {
        let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let own = mount.join(own);
        let around = own.ancestors().take_while(|dir| dir.starts_with(mount));
        around
            .filter_map(|dir| {
                let max = read_to_string(dir.join("cpu.max")).ok()?;
                let (quota_us, period_us) = max.trim().split_once(' ')?;
                let processors = quota_us.parse::<f64>().ok()? / period_us.parse::<f64>().ok()?;
                let dir = dir.to_owned();
                (processors > 0.0).then_some(Self { dir, processors })
            })
            .next()
    }

    fn used(&self) -> Option<Busy> {
        let stat = read_to_string(self.dir.join("cpu.stat")).ok()?;
        let used = stat.lines().find_map(|l| l.strip_prefix("usage_usec "))?;
        Some(Busy::Group(used.trim().parse().ok()?))
    }
}

/// From the first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal; what guests took is in user.
fn ticks(stat: &str) -> Option<Busy> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line
        .split_whitespace()
        .take(8)
        .map_while(|n| n.parse().ok())
        .collect();
    let all: u64 = ticks.iter().sum();
    let idle = ticks.get(3)? + ticks.get(4)?;
    Some(Busy::Machine(all - idle, all))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_not_idle_is_busy() {
        let stat = "cpu  10 5 20 100 7 1 2 3 50 0\ncpu0 1 2 3 4\n";
        assert_eq!(ticks(stat), Some(Busy::Machine(41, 148)));
        assert_eq!(ticks("cpu 1 2\n"), None);
        assert_eq!(ticks(""), None);
    }

    #[test]
    fn this_machine_says_it() {
        let mut processors = Processors {
            limited: None,
            last: None,
        };
        assert_eq!(processors.busy(), None);
        let end = Instant::now() + Duration::from_millis(200);
        while Instant::now() < end {}
        let share = processors.busy().unwrap();
        assert!(share > 0.0 && share <= 1.0, "{share}");
    }

    #[test]
    fn the_nearest_group_with_a_limit_counts() {
        let mount = tempfile::tempdir().unwrap();
        let pod = mount.path().join("pod");
        let own = pod.join("worker");
        std::fs::create_dir_all(&own).unwrap();
        let groups = "2:cpu:/other\n0::/pod/worker\n";
        assert_eq!(Limited::of(mount.path(), groups), None);
        std::fs::write(own.join("cpu.max"), "max 100000\n").unwrap();
        std::fs::write(pod.join("cpu.max"), "150000 100000\n").unwrap();
        let limited = Limited::of(mount.path(), groups).unwrap();
        assert_eq!((&limited.dir, limited.processors), (&pod, 1.5));
        assert_eq!(Limited::of(mount.path(), "2:cpu:/pod\n"), None);

        std::fs::write(pod.join("cpu.stat"), "usage_usec 1000\nuser_usec 1\n").unwrap();
        let mut processors = Processors {
            limited: Some(limited),
            last: None,
        };
        assert_eq!(processors.busy(), None);
        // A second ago: 0.75 s of the 1.5 that it may use.
        let at = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
        processors.last = Some((at, Busy::Group(1_000)));
        std::fs::write(pod.join("cpu.stat"), "usage_usec 751000\n").unwrap();
        let share = processors.busy().unwrap();
        assert!(share > 0.3 && share <= 0.5, "{share}");
    }
}
