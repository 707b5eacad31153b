use super::*;
use crate::work::task::Way;
use crate::work::testing::record;

fn task(offset: i64) -> Task {
    Task {
        partition: 0,
        epoch: 1,
        attempt: 1,
        lane: None,
        record: record(offset, None),
        way: Way::default(),
    }
}

/// Batches of these sizes, their offsets counted through; rows that have their verdict are left out.
fn open(sizes: &[usize], answered: &[i64]) -> Vec<Open> {
    let mut offset = 0..;
    let sizes = (1..).zip(sizes);
    sizes
        .map(|(id, size)| {
            let tasks: Vec<Option<Task>> = offset
                .by_ref()
                .take(*size)
                .map(|offset| (!answered.contains(&offset)).then(|| task(offset)))
                .collect();
            Open {
                id,
                left: tasks.iter().flatten().count(),
                tasks,
                sent: Instant::now(),
                in_flight: 1,
            }
        })
        .collect()
}

/// Marked, others, innocent, alone.
type Sorted = (Option<i64>, Vec<i64>, Vec<i64>, bool);

fn sorted(open: Vec<Open>, mark: Option<[u64; 3]>, at_once: bool) -> Sorted {
    let found = blame(open.into_iter(), mark, at_once);
    let offsets = |tasks: Vec<Task>| tasks.iter().map(|t| t.record.offset).collect();
    (
        found.marked.map(|t| t.record.offset),
        offsets(found.others),
        offsets(found.innocent),
        found.alone,
    )
}

#[test]
fn one_after_the_other_those_behind_the_marked_one_were_not_called() {
    let found = sorted(open(&[4, 3], &[]), Some([1, 2, 9]), false);
    assert_eq!(found, (Some(2), vec![0, 1], vec![3, 4, 5, 6], false));
    let found = sorted(open(&[4, 3], &[]), Some([2, 0, 9]), false);
    assert_eq!(found, (Some(4), vec![], vec![0, 1, 2, 3, 5, 6], false));
}

#[test]
fn at_once_all_that_have_no_verdict_are_suspect() {
    let found = sorted(open(&[3, 2], &[1]), Some([2, 0, 9]), true);
    assert_eq!(found, (Some(3), vec![0, 2, 4], vec![], false));
    // The marked one has its verdict: it was not the one.
    let found = sorted(open(&[3, 2], &[3]), Some([2, 0, 9]), true);
    assert_eq!(found, (None, vec![0, 1, 2, 4], vec![], false));
}

#[test]
fn without_a_mark_the_batch_that_was_next_is_suspect_and_nobody_is_marked() {
    let found = sorted(open(&[2, 2], &[]), Some([77, 0, 9]), false);
    assert_eq!(found, (None, vec![0, 1], vec![2, 3], false));
    let found = sorted(open(&[2], &[]), None, false);
    assert_eq!(found, (None, vec![0, 1], vec![], false));
}

#[test]
fn who_is_alone_is_marked() {
    let found = sorted(open(&[1], &[]), None, false);
    assert_eq!(found, (Some(0), vec![], vec![], true));
    let found = sorted(open(&[2], &[0]), Some([1, 0, 9]), true);
    assert_eq!(found, (Some(1), vec![], vec![], true));
}
