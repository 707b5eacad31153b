//! How busy the machine's processors are, by whomever.

/// Looked at now and then; says what was between two looks.
#[derive(Debug, Default)]
pub struct Processors {
    /// Busy and all ticks of all processors, at the last look.
    last: Option<(u64, u64)>,
}

impl Processors {
    /// The share (0 to 1) of the processors' time since the last look that was busy. `None` at the first look, and where
    /// the system doesn't say (it does on Linux).
    pub fn busy(&mut self) -> Option<f64> {
        let now = ticks(&std::fs::read_to_string("/proc/stat").ok()?)?;
        let (busy, all) = self.last.replace(now)?;
        let all = now.1.checked_sub(all).filter(|all| *all > 0)?;
        // Ticks since the start of the machine are far below 2⁵³.
        Some(now.0.saturating_sub(busy) as f64 / all as f64)
    }
}

/// From the first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal; what guests took is in user.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line
        .split_whitespace()
        .take(8)
        .map_while(|n| n.parse().ok())
        .collect();
    let all: u64 = ticks.iter().sum();
    let idle = ticks.get(3)? + ticks.get(4)?;
    Some((all - idle, all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_idle_is_busy() {
        let stat = "cpu  10 5 20 100 7 1 2 3 50 0\ncpu0 1 2 3 4\n";
        assert_eq!(ticks(stat), Some((41, 148)));
        assert_eq!(ticks("cpu 1 2\n"), None);
        assert_eq!(ticks(""), None);
    }

    #[test]
    fn this_machine_says_it() {
        let mut processors = Processors::default();
        assert_eq!(processors.busy(), None);
        let end = std::time::Instant::now() + std::time::Duration::from_millis(200);
        while std::time::Instant::now() < end {}
        let share = processors.busy().unwrap();
        assert!(share > 0.0 && share <= 1.0, "{share}");
    }
}
