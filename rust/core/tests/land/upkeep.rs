//! Compaction, clean-up and export, alone and while landing goes on.

use std::time::Duration;

use kappaflow_core::table::Table;
use kappaflow_core::{Context, Error, upkeep};

use crate::world::{World, row};

const SOON: &str = "commit_ms = 1";
const OLD: Duration = Duration::from_millis(5);

#[tokio::test(flavor = "multi_thread")]
async fn small_files_become_one_and_what_is_left_behind_goes() {
    let w = World::with("upkeep", SOON).await;
    for part in 0..5 {
        w.answers(0, part * 100..(part + 1) * 100, 1);
        w.flush();
        assert_eq!(w.land().await.counts.files, 1);
    }
    let wanted: Vec<[i64; 4]> = (0..500).map(|seq| row(0, seq, 0)).collect();
    let ctx = Context::default();
    let compacted = upkeep::compact(&w.session, &ctx).await.unwrap();
    assert_eq!((compacted.files_before, compacted.files_after), (5, 1));
    assert_eq!((compacted.rows, compacted.given_up), (500, 0));
    assert_eq!(w.table(), wanted);
    let again = upkeep::compact(&w.session, &ctx).await.unwrap();
    assert_eq!((again.files_before, again.version), (0, compacted.version));

    // Readers of an older version have its files still; a lander was killed meanwhile.
    let data = w.dir.path().join("landed/data");
    std::fs::write(data.join("killed.parquet"), "PAR1").unwrap();
    std::fs::write(data.join("killed.tmp"), "PAR1").unwrap();
    assert_eq!(std::fs::read_dir(&data).unwrap().count(), 8);
    let hour = Duration::from_secs(3600);
    let early = upkeep::clean(&w.session, hour, &ctx).await.unwrap();
    assert_eq!((early.replaced, early.orphans, early.others), (0, 0, 0));
    tokio::time::sleep(OLD * 4).await;
    let cleaned = upkeep::clean(&w.session, OLD, &ctx).await.unwrap();
    assert_eq!((cleaned.replaced, cleaned.orphans), (5, 2));
    // Sidecars of earlier commits.
    assert!(cleaned.others >= 4, "{cleaned:?}");
    assert_eq!(std::fs::read_dir(&data).unwrap().count(), 1);
    assert_eq!(w.table(), wanted);
    assert_eq!(w.land().await.counts.landed, 0);

    let bare = w.dir.path().join("bare");
    let exported = upkeep::export(&w.session, &bare, &ctx).await.unwrap();
    assert_eq!((exported.files, exported.rows), (1, 500));
    assert_eq!(std::fs::read_dir(&bare).unwrap().count(), 2);
    assert!(bare.join("_SUCCESS").exists());
    let taken = upkeep::export(&w.session, &bare, &ctx).await.unwrap_err();
    assert!(taken.to_string().contains("is there already"), "{taken}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_may_wait_for_their_commit_are_not_cleaned_up() {
    let w = World::new("age").await;
    let refused = upkeep::clean(&w.session, OLD, &Context::default()).await;
    assert!(matches!(refused, Err(Error::JobFile { key, .. }) if key == "output.commit_ms"));
}

#[tokio::test(flavor = "multi_thread")]
async fn upkeep_goes_on_while_landers_commit() {
    let w = World::with("busy", SOON).await;
    let (w, ctx) = (&w, Context::default());
    let landing = async {
        for part in 0..25 {
            for split in 0..2 {
                w.answers(split, part * 20..(part + 1) * 20, 1);
            }
            w.flush();
            w.land().await;
        }
    };
    let upkeep = async {
        for _ in 0..25 {
            upkeep::compact(&w.session, &ctx).await.unwrap();
            // Longer than a lander here takes from a file to its commit.
            let old = Duration::from_secs(2);
            upkeep::clean(&w.session, old, &ctx).await.unwrap();
        }
    };
    tokio::join!(landing, upkeep);
    let wanted: Vec<[i64; 4]> = (0..1_000).map(|n| row(n / 500, n % 500, 0)).collect();
    assert_eq!(w.table(), wanted);
    upkeep::compact(&w.session, &ctx).await.unwrap();
    assert_eq!(w.table(), wanted);
    let table = Table::of(&w.session.job).unwrap();
    assert_eq!(table.state().unwrap().files.len(), 1);
}
