//! Tables in partitions, and jobs whose rows replace those of others.

use std::collections::BTreeSet;

use kappaflow_core::land::{LandOptions, land};
use kappaflow_core::reconcile::{LedgerReport, reconcile};
use kappaflow_core::table::Table;
use kappaflow_core::{Context, Error};
use parquet::file::reader::{FileReader, SerializedFileReader};

use crate::world::{World, row};

async fn ledger(w: &World) -> LedgerReport {
    reconcile(&w.session, &Context::default()).await.unwrap()
}

/// `x` of the rows that readers see, with the number of the job that they are of.
fn seen(w: &World) -> BTreeSet<(i64, u64)> {
    let table = Table::of(&w.session.job).unwrap();
    let state = table.state().unwrap();
    let live: BTreeSet<&str> = state.files.iter().map(|f| f.path.as_str()).collect();
    let mut rows = BTreeSet::new();
    for file in state.files_of(None) {
        if !live.contains(file.path.as_str()) {
            continue;
        }
        let reader = SerializedFileReader::new(
            std::fs::File::open(table.storage().local(&file.path).unwrap()).unwrap(),
        );
        for found in reader.unwrap().get_row_iter(None).unwrap() {
            let found = found.unwrap();
            let x = found.get_column_iter().find(|c| c.0 == "x").unwrap();
            let x: i64 = x.1.to_string().parse().unwrap();
            rows.insert((x, u64::from_str_radix(&file.job, 16).unwrap()));
        }
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_partitions_are_written_within_little_memory() {
    let output = "partition_key = ['x']\nmemory_mib = 1\nsort_by = ['x']";
    let w = World::with("partitions", output).await;
    for split in 0..2 {
        w.answers(split, 0..500, 1);
    }
    w.flush();
    let landed = w.land().await;
    assert_eq!(
        (landed.counts.landed, landed.counts.files, landed.orphans),
        (1_000, 1_000, 0)
    );
    let wanted: Vec<[i64; 4]> = (0..1_000).map(|n| row(n / 500, n % 500, 0)).collect();
    assert_eq!(w.table(), wanted);
    let table = Table::of(&w.session.job).unwrap();
    for file in table.state().unwrap().files {
        let x = file.partition["x"].clone().unwrap();
        assert!(
            file.path.starts_with(&format!("data/x={x}/")),
            "{}",
            file.path
        );
        assert_eq!(file.rows, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_row_group_are_in_order() {
    let w = World::with("order", "sort_by = ['x']").await;
    for seq in (0..500).rev() {
        w.answer(&w.producer, w.id(1, seq), 1, &[0], 1);
        w.answer(&w.producer, w.id(0, seq), 1, &[0], 1);
    }
    w.flush();
    assert_eq!(w.land().await.counts.files, 1);
    let table = Table::of(&w.session.job).unwrap();
    let file = &table.state().unwrap().files[0];
    let file = std::fs::File::open(table.storage().local(&file.path).unwrap()).unwrap();
    let reader = SerializedFileReader::new(file).unwrap();
    let sorted = reader.metadata().row_group(0).sorting_columns().unwrap();
    assert_eq!(sorted.len(), 1);
    let column = reader
        .metadata()
        .row_group(0)
        .schema_descr()
        .column(sorted[0].column_idx as usize);
    assert_eq!(column.name(), "x");
    let rows = reader.get_row_iter(None).unwrap().map(|found| {
        let found = found.unwrap();
        let x = found.get_column_iter().find(|c| c.0 == "x").unwrap();
        x.1.to_string().parse::<i64>().unwrap()
    });
    assert!(rows.eq(0..1_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_replaces_the_partitions_that_it_has_once_it_is_explained() {
    let lake = tempfile::tempdir().unwrap();
    let mode = "mode = 'replace_partitions'\npartition_key = ['x']";
    let first = World::landing_in(lake.path(), "first", mode).await;
    for split in 0..2 {
        first.published(split, 0..0).await;
        first.answers(split, 0..500, 1);
    }
    first.flush();
    assert_eq!(first.land().await.counts.landed, 1_000);
    // Landed, and not seen by others yet.
    assert_eq!((first.table().len(), seen(&first).len()), (1_000, 0));
    let report = ledger(&first).await;
    assert_eq!((report.landed, report.published), (1_000, Some(2)));
    let one = first.session.id.0;
    assert_eq!(seen(&first), (0..1_000).map(|x| (x, one)).collect());

    // The backfill of a part, which is missing something at first.
    let second = World::landing_in(lake.path(), "second", mode).await;
    for split in 0..2 {
        second.published(split, 0..0).await;
    }
    second.filtered(0, 0..500, "not asked for");
    second.filtered(1, 0..400, "not asked for");
    second.answers(1, 400..499, 1);
    second.flush();
    second.land().await;
    let report = ledger(&second).await;
    assert_eq!((report.missing, report.published), (1, None));
    assert_eq!(seen(&first), (0..1_000).map(|x| (x, one)).collect());
    second.answers(1, 499..500, 1);
    second.flush();
    second.land().await;
    assert_eq!(ledger(&second).await.missing, 0);
    let two = second.session.id.0;
    let both: BTreeSet<(i64, u64)> = (0..900)
        .map(|x| (x, one))
        .chain((900..1_000).map(|x| (x, two)))
        .collect();
    assert_eq!(seen(&first), both);
    // Again, nothing changes; and the first job's rows stay explained, though some are no more.
    second.land().await;
    assert_eq!(ledger(&second).await.published, None);
    let report = ledger(&first).await;
    assert_eq!((report.landed, report.explained), (1_000, true));
    assert!(report.notes.iter().any(|n| n.contains("has replaced rows")));
    assert_eq!(seen(&first), both);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_format_that_nobody_speaks_is_named() {
    let w = World::with("spoken", "format = 'delta'").await;
    let refused = land(&w.session, LandOptions::default(), &Context::default()).await;
    let error = refused.unwrap_err();
    assert!(matches!(error, Error::NotReady { .. }));
    assert!(
        error
            .to_string()
            .contains("is of format delta, which is spoken in Python")
    );
}
