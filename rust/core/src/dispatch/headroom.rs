//! Which region takes a child job. A function of values, called inside the reserving transaction.

use crate::store::RegionRow;

/// The region with the most headroom among those that can hold `rows` whole; equal ones by name, so that every
/// dispatcher decides alike. `None` if no region has room.
pub fn choose(regions: &[RegionRow], rows: u64) -> Option<String> {
    regions
        .iter()
        .filter(|r| r.headroom() >= rows)
        .max_by(|a, b| {
            a.headroom()
                .cmp(&b.headroom())
                .then_with(|| b.name.cmp(&a.name))
        })
        .map(|r| r.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn region(name: &str, cap_max: u64, active: u64, queued: u64) -> RegionRow {
        RegionRow {
            name: name.into(),
            cap_max,
            active,
            queued,
        }
    }

    #[test]
    fn the_roomiest_region_wins_and_ties_go_by_name() {
        let regions = [
            region("b", 10, 2, 0),
            region("a", 10, 0, 2),
            region("c", 10, 5, 0),
        ];
        assert_eq!(choose(&regions, 3).as_deref(), Some("a"));
        assert_eq!(choose(&regions, 9), None);
    }

    proptest! {
        #[test]
        fn back_to_back_placements_never_overcommit(
            caps in proptest::collection::vec(0u64..1_000, 1..5),
            children in proptest::collection::vec(1u64..300, 0..60),
        ) {
            let mut regions: Vec<_> =
                caps.iter().enumerate().map(|(i, cap)| region(&format!("r{i}"), *cap, 0, 0)).collect();
            for rows in children {
                match choose(&regions, rows) {
                    Some(name) => regions.iter_mut().filter(|r| r.name == name).for_each(|r| r.queued += rows),
                    None => prop_assert!(regions.iter().all(|r| r.headroom() < rows)),
                }
                prop_assert!(regions.iter().all(|r| r.queued <= r.cap_max));
            }
        }
    }
}
